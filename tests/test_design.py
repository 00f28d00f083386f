"""Several cores in one design of a stranger's: names that do not meet, in three tools; and contents of memories."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory
from amaranth.lib.wiring import Component, In, Out

from nomul.catalog import configure
from nomul.export.contents import put_contents, take_contents
from nomul.export.rtlil import convert, to_verilog
from nomul.jobs.tools import verilator_environment
from nomul.jobs.yosys_run import run_yosys
from nomul.sim.check import Run, bench_core, build_core, random_jobs
from tests.test_commands import nomul

CORES = (
    ("verilog", "tlmm", "--set", "tables=2", "--set", "rows=1", "--set", "fill_units=1", "--name", "mac"),
    ("verilog", "tlmm", "--set", "tables=2", "--set", "rows=2", "--set", "fill_units=2", "--name", "mac_row"),
    ("verilog", "tint", "--set", "lanes_in=4", "--set", "rows=1", "--target", "cells"),
    ("verilog", "bwta", "--set", "lanes_in=16", "--set", "rows=1", "--target", "cells", "--bus", "axi"),
)


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with design.v: four cores, written by the command, and a top module that instantiates each."""
    folder = tmp_path_factory.mktemp("design")
    tops, texts = [], []
    for core in CORES:
        files = json.loads(nomul(*core, "-o", str(folder / "cores"), "--json").stdout)["files"]
        stem = Path(files[0]).with_suffix("")
        texts.append(stem.with_suffix(".v").read_text())
        tops.append(json.loads(stem.with_suffix(".json").read_text())["top"])
        template = stem.with_suffix(".vh").read_text()
        texts.append(f"module around_{tops[-1]};\n{template}endmodule\n")
    instances = "".join(f"  around_{top} {top}();\n" for top in tops)
    (folder / "design.v").write_text("\n".join([*texts, f"module whole;\n{instances}endmodule\n"]))
    return folder, tops


def test_modules_of_different_cores_have_different_names(design: tuple[Path, list[str]]) -> None:
    folder, tops = design
    text = (folder / "design.v").read_text()
    inner = [name for name in re.findall(r"^module (\w+)", text, re.MULTILINE) if not name.startswith("NOMUL_")]
    assert tops == ["mac", "mac_row", "tint", "bwta_axi"]
    assert len(inner) == len(set(inner)) > 20
    assert {name.split("__")[0] for name in inner if "__" in name} == set(tops)
    assert len(re.findall(r"^module NOMUL_FA\b", text, re.MULTILINE)) == 2, "the guard is put to the test"


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")
def test_icarus_takes_the_design(design: tuple[Path, list[str]]) -> None:
    command = ["iverilog", "-g2001", "-s", "whole", "-o", "design.vvp", "design.v"]
    subprocess.run(command, cwd=design[0], check=True, timeout=60)


def test_verilator_takes_the_design(design: tuple[Path, list[str]]) -> None:
    command = ["verilator_bin", "--lint-only", "-Wno-UNDRIVEN", "--top-module", "whole", "design.v"]
    subprocess.run(command, cwd=design[0], env=verilator_environment(), check=True, timeout=60)


def test_yosys_takes_the_design(design: tuple[Path, list[str]]) -> None:
    folder, tops = design
    script = "read_verilog design.v\nhierarchy -check -top whole\nwrite_rtlil out.il\n"
    text = run_yosys(script, {"design.v": (folder / "design.v").read_text()}, ["out.il"]).files["out.il"]
    assert all(f"cell \\{top} \\{top}_instance" in text for top in tops)


def test_a_head_says_what_the_file_is(design: tuple[Path, list[str]]) -> None:
    text = (design[0] / "cores" / "mac_row.v").read_text()
    head = text[: text.index("/* verilator")]
    assert head.startswith("// mac_row: ternary matmul by table look-up")
    for line in (
        "// SPDX-License-Identifier: Apache-2.0",
        "// Command: nomul verilog tlmm --set tables=2 --set rows=2 --set fill_units=2 --name mac_row",
        "// Ports:",
    ):
        assert f"\n{line}\n" in head
    assert re.search(r"^// Generator: Nomul \S+, Amaranth \S+, Yosys \S+$", head, re.MULTILINE)
    assert "// Configuration: group=3, tables=2, rows=2," in head
    described = re.findall(r"^//   (input|output) +(?:\[(\d+):0\] )?(\w+) +\S", head, re.MULTILINE)
    ports = json.loads((design[0] / "cores" / "mac_row.json").read_text())["ports"]
    assert [(way, int(high or 0) + 1, name) for way, high, name in described] == [
        (port["direction"], port["width"], name) for name, port in ports.items()
    ]


@pytest.mark.parametrize("name", ["a__b", "1a", "a b", "module", ""])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    done = nomul("verilog", "tlmm", "--name", name, "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (
        2, f"nomul: --name is {name!r}; allowed: letters, digits and '_', no digit first, no '__', no keyword\n"
    )  # fmt: skip
    assert not (tmp_path / "out").exists()


class Contents(Component):
    """A memory of `depth` words of 5 bits."""

    def __init__(self, depth: int, words: list[int]) -> None:
        self.depth, self.words = depth, words
        super().__init__({"address": In(range(depth)), "write": In(1), "data": Out(5)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = memory.Memory(shape=5, depth=self.depth, init=self.words)
        read, write = store.read_port(domain="comb"), store.write_port()
        m.d.comb += [read.addr.eq(self.address), write.addr.eq(self.address), write.en.eq(self.write)]
        m.d.comb += [self.data.eq(read.data), write.data.eq(Signal(5, init=3))]
        return m


@pytest.mark.parametrize(
    ("depth", "words"), [(6, []), (6, [7] * 6), (7, [1, 30, 1, 30, 1, 30, 1]), (8, [1, 2, 3, 4, 5, 6, 7, 8])]
)
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")
def test_memories_begin_with_their_words(depth: int, words: list[int], tmp_path: Path) -> None:
    text = to_verilog(convert(Contents(depth, words), "store"))
    repeats = len(set(words)) <= 2
    assert ("for (i = 0;" in text) == repeats
    bench = f"""module bench;
      reg [2:0] address;
      wire [4:0] data;
      store store (.clk(1'b0), .rst(1'b0), .address(address), .write(1'b0), .data(data));
      integer word;
      initial for (word = 0; word < {depth}; word = word + 1) begin
        address = word;
        #1 $display("%0d", data);
      end
    endmodule
    """
    (tmp_path / "bench.v").write_text(bench + text)
    subprocess.run(["iverilog", "-g2001", "-s", "bench", "-o", "bench.vvp", "bench.v"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "bench.vvp"], capture_output=True, text=True, check=True).stdout
    assert [int(line) for line in said.split()] == (words or [0] * depth)
    script = "read_verilog -D FORMAL -formal design.v\nhierarchy -top store\nproc\nmemory_collect\nwrite_verilog o.v\n"
    assert run_yosys(script, {"design.v": text}, ["o.v"]).files["o.v"]


def test_a_large_memory_is_a_few_lines(tmp_path: Path) -> None:
    """A memory of 16,384 words took a megabyte; a synthesiser reads it at once, since it skips the loop."""
    nomul("verilog", "tint", "--set", "lanes_in=1", "--set", "rows=1", "--set", "n_in_max=16384", "-o", str(tmp_path))
    text = (tmp_path / "tint.v").read_text()
    assert len(text) < 200_000
    depths = [int(words) for words in re.findall(r"for \(i = 0; i < (\d+); i = i \+ 1\)", text)]
    assert max(depths) >= 16384
    script = "read_verilog design.v\nhierarchy -check -top tint\nproc\nwrite_rtlil out.il\n"
    assert f"size {max(depths)}" in run_yosys(script, {"design.v": text}, ["out.il"]).files["out.il"]


def test_contents_that_do_not_repeat_stay() -> None:
    text = convert(Contents(8, [1, 2, 3, 4, 5, 6, 7, 8]), "store")
    assert take_contents(text) == (text, {})
    assert put_contents("module store;\nendmodule\n", {}) == "module store;\nendmodule\n"


@pytest.mark.bench
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")
def test_icarus_takes_forms_for_ecp5() -> None:
    """Yosys' models of ECP5's primitives have modules twice, and one that Icarus does not read."""
    config = configure("absmax", ("lanes=2", "length_max=40"), "ecp5")
    (said,) = bench_core(
        build_core("absmax", config, "icarus"), "absmax", config, [Run(random_jobs("absmax", config, 2, 1))]
    )
    assert (said["mismatches"], said["surplus"]) == (0, 0) and said["outputs"] > 0
