"""The memory that is filled from a file, as other tools read it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nomul.errors import ToolError
from nomul.jobs.yosys_run import run_yosys
from nomul.memory.rom import rom_model

TOP = """module top(input clk, input [1:0] address, output [7:0] data);
  NOMUL_ROM #(.WIDTH(8), .DEPTH(4), .ADDRESS(2), .FILE("words.hex"))
    memory (.clk(clk), .en(1'b1), .address(address), .data(data));
endmodule
"""
BENCH = """module bench;
  reg clk = 0;
  wire [7:0] data;
  top top (.clk(clk), .address(2'd2), .data(data));
  always #5 clk = ~clk;
  initial begin
    #20 $display("word %h", data);
    $finish;
  end
endmodule
"""
WORDS = "11\n22\n33\n44\n"
MODEL = rom_model("NOMUL_ROM")


def cells(macro: str, files: dict[str, str]) -> str:
    """Synthesise by the plain commands of Yosys."""
    script = f"read_verilog {macro} top.v rom.v\nsynth -top top\nwrite_verilog out.v\n"
    return run_yosys(script, {"top.v": TOP, "rom.v": MODEL, **files}, ["out.v"]).files["out.v"]


def test_yosys_reads_the_file_where_it_runs_or_in_the_folder_that_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "words.hex").write_text(WORDS)
    assert cells("", {"words.hex": WORDS}) == cells(f'-DNOMUL_DATA="{tmp_path}"', {})
    with pytest.raises(ToolError, match=r"Can not open file `words\.hex`"):
        cells("", {})


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")
def test_a_simulation_ends_where_there_is_no_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "words.hex").write_text(WORDS)
    (tmp_path / "design.v").write_text(BENCH + TOP + MODEL)

    def said(folder: Path, *options: str) -> str:
        compiled = tmp_path / "design.vvp"
        command = ["iverilog", "-g2005", "-s", "bench", *options, "-o", str(compiled), str(tmp_path / "design.v")]
        subprocess.run(command, check=True, timeout=60)
        return subprocess.run([compiled], cwd=folder, capture_output=True, text=True, check=False, timeout=60).stdout

    assert said(data) == said(tmp_path, '-DNOMUL_DATA="data"') == "word 33\n"
    assert "there are no words in words.hex; NOMUL_DATA is to name their folder" in said(tmp_path)
    assert "word " not in said(tmp_path)
