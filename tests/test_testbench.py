"""The testbench beside a core, in simulators that know nothing of Nomul, and the files of a layer's streams."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from nomul.cores.discover import cores
from nomul.formats.checkpoint import open_checkpoint
from nomul.jobs.tools import verilator_environment
from nomul.model import checkpoints
from nomul.sim.primitives import primitives
from tests.test_commands import nomul
from tests.test_lint import SMALL

needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")


def write(core: str, folder: Path, *options: str) -> tuple[str, str]:
    """Write a core and its testbench; return its Verilog and the name of its top module."""
    settings = [word for setting in SMALL[core] for word in ("--set", setting)]
    done = nomul("verilog", core, *settings, *options, "--testbench", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return (folder / f"{core}.v").read_text(), json.loads((folder / f"{core}.json").read_text())["top"]


def simulate(text: str, top: str, folder: Path) -> tuple[int, str]:
    """Run the testbench in Icarus as its head says; return the exit status and what it prints."""
    (folder / "core.v").write_text(text)
    bench = f"{top}_tb"
    command = ["iverilog", "-g2005", "-o", bench, f"{bench}.v", "core.v"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    done = subprocess.run(["vvp", bench], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout


@needs_icarus
@pytest.mark.bench
@pytest.mark.parametrize("core", cores())
def test_a_core_passes_and_a_broken_one_fails(core: str, tmp_path: Path) -> None:
    """Broken: the lowest bit of what the top module says is inverted."""
    text, top = write(core, tmp_path)
    status, said = simulate(text, top, tmp_path)
    assert (status, said[: len(top) + 8]) == (0, f"PASS: {top}, ")
    ports = json.loads((tmp_path / f"{core}.json").read_text())["ports"]
    declared = ", ".join(f"{port['direction']} [{port['width'] - 1}:0] {name}" for name, port in ports.items())
    pins = ", ".join(f".{name}({'honest' if name == 'results__payload' else name})" for name in ports)
    broken = (
        f"module {top}({declared});\n  wire [{ports['results__payload']['width'] - 1}:0] honest;\n"
        f"  assign results__payload = honest ^ 1;\n  honest core({pins});\nendmodule\n"
    )
    status, said = simulate(text.replace(f"\nmodule {top}(", "\nmodule honest(") + broken, top, tmp_path)
    assert status == 1 and said.startswith("FAIL: transfer 0 of results is "), said


@needs_icarus
@pytest.mark.bench
@pytest.mark.parametrize(("core", "target"), [("tint", "portable"), ("mixpe", "portable"), ("absmax", "ecp5")])
def test_a_core_behind_axi_passes(core: str, target: str, tmp_path: Path) -> None:
    text, top = write(core, tmp_path, "--bus", "axi", "--target", target)
    status, said = simulate(text + primitives(target, text), top, tmp_path)
    assert status == 0 and said.startswith(f"PASS: {top}, "), said


@needs_icarus
@pytest.mark.bench
@pytest.mark.parametrize(("core", "fields"), [("tlmm", ["tables=7", "rows=3"]), ("absmax", ["lanes=3"])])
def test_padded_streams_are_powers_of_two(core: str, fields: list[str], tmp_path: Path) -> None:
    """The same job on streams of any bytes and on padded ones; the manifest says what memory they need."""
    sizes: dict[str, dict[str, float]] = {}
    options = [word for field in fields for word in ("--set", field)]
    for bus in ("axi", "axi-padded"):
        text, top = write(core, tmp_path, *options, "--bus", bus)
        status, said = simulate(text, top, tmp_path)
        assert status == 0 and said.startswith(f"PASS: {top}, "), said
        manifest = json.loads((tmp_path / f"{core}.json").read_text())
        sizes[bus] = {name: stream["bytes_per_cycle"] for name, stream in manifest["streams"].items()}
        for name, size in sizes[bus].items():
            assert size == manifest["ports"][f"{name}_tdata"]["width"] / 8
            assert f"TDATA_NUM_BYTES {size:.0f}," in text
    assert sizes["axi"] != sizes["axi-padded"]
    for name, size in sizes["axi"].items():
        assert sizes["axi-padded"][name] == next(1 << power for power in range(12) if 1 << power >= size)


@pytest.mark.bench
def test_verilator_runs_it(tmp_path: Path) -> None:
    """As the head of the testbench says, but for the flags with which this machine's compiler is quick."""
    _, top = write("tint", tmp_path)
    command = ["verilator", "--binary", "--timing", "-Wno-fatal", "--top-module", f"{top}_tb", f"{top}_tb.v", "tint.v"]
    environment = verilator_environment() | {"HOME": str(tmp_path)}
    subprocess.run([*command, "-CFLAGS", "-O0 -std=c++20"], cwd=tmp_path, env=environment, check=True, timeout=600)
    said = subprocess.run([tmp_path / "obj_dir" / f"V{top}_tb"], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.startswith(f"PASS: {top}, ")


def lanes(file: Path, width: int, count: int) -> torch.Tensor:
    """Return the lanes of each transfer in a file, two's complement, lane 0 in the lowest bits."""
    rows = []
    for line in file.read_text().split():
        fields = [int(line, 16) >> lane * width & (1 << width) - 1 for lane in range(count)]
        rows.append([field - (field >> (width - 1) << width) for field in fields])
    return torch.tensor(rows)


@pytest.mark.parametrize("bus", ["stream", "axi"])
def test_pack_writes_what_plain_torch_says(bus: str, tmp_path: Path) -> None:
    """A layer of 160 outputs in rows of 3: the last transfer of a token has two rows beyond the end."""
    settings = ["--set", "lanes_in=16", "--set", "rows=3"]
    done = nomul("pack", "tint", *settings, "--tokens", "2", "--bus", bus, "-o", str(tmp_path / "out"), "--json")
    packed = json.loads((tmp_path / "out" / "pack.json").read_text())
    assert json.loads(done.stdout)["streams"] == packed["streams"]
    for stream in packed["streams"].values():
        lines = (tmp_path / "out" / stream["file"]).read_text().splitlines()
        assert (len(lines), {len(line) for line in lines}) == (stream["transfers"], {-(-stream["width"] // 4)})
    (job,) = packed["jobs"]
    weight = open_checkpoint(checkpoints.path()).layer(packed["layer"]).weight.long()
    assert (job["n_out"], job["n_in"], job["tokens"]) == (*weight.shape, 2)
    vectors = lanes(tmp_path / "out" / "activations.hex", 8, 16).reshape(2, -1)[:, : job["n_in"]]
    folder, width = tmp_path / "out", 32 if bus == "axi" else (packed["streams"]["results"]["width"] - 1) // 3
    if bus == "axi":
        lines = [int(line, 16) for line in (folder / "results.hex").read_text().split()]
        ends = torch.tensor([line & 1 for line in lines])
        (folder / "data").write_text("\n".join(f"{line >> 1:x}" for line in lines))
    else:
        ends = torch.tensor([int(line, 16) >> 3 * width for line in (folder / "results.hex").read_text().split()])
        shutil.copy(folder / "results.hex", folder / "data")
    results = lanes(folder / "data", width, 3).reshape(2, -1)
    assert torch.equal(results[:, : job["n_out"]], vectors @ weight.T)
    assert not results[:, job["n_out"] :].any()
    blocks = -(-job["n_out"] // 3)
    assert ends.nonzero().flatten().tolist() == [blocks - 1, 2 * blocks - 1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absmax", "--layer", "a"], "--layer is 'a', but absmax has no weights; leave it out"),
        (
            ["top_k", "--activations", "a.npy"],
            "--activations is 'a.npy', but top_k takes random jobs only; leave it out",
        ),
        (
            ["tint", "--set", "lanes_in=8", "--set", "n_in_max=16"],
            "n_in is 160; this core takes 1 to 16; set n_in_max to 160 or more",
        ),
    ],
)
def test_pack_refuses(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = nomul("pack", *arguments, "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (2, f"nomul: {sentence}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("core", cores())
def test_pack_takes_every_core(core: str, tmp_path: Path) -> None:
    model = ["--checkpoint", "tiny_bwta"] if core == "bwta" else []
    done = nomul("pack", core, *model, "--tokens", "1", "-o", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    streams = json.loads(done.stdout)["streams"]
    assert {stream["direction"] for stream in streams.values()} == {"input", "output"}
    assert all(stream["transfers"] for stream in streams.values())
