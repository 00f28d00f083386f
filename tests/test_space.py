"""A working folder whose name has a space, and other characters that makefiles and shells take for themselves."""

import re
import shutil
from pathlib import Path

import pytest

from nomul.sim.runner import SIMULATORS, build

pytestmark = pytest.mark.bench

VERILOG = "module counter(clk, q);\n  input clk;\n  output [3:0] q;\n  reg [3:0] q = 0;\n"
VERILOG += "  always @(posedge clk) q <= q + 1;\nendmodule\n"
BENCH = '''
import os
import cocotb
from cocotb.triggers import Timer

@cocotb.test()
async def simulate(dut):
    """Count five edges."""
    for level in [0, 1] * 5:
        dut.clk.value = level
        await Timer(1, unit="ns")
    with open(os.environ["NOMUL_RESULT"], "w") as file:
        file.write(f'{{"q": {int(dut.q.value)}}}')
'''


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_simulators_are_built_and_run_there(simulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if simulator == "icarus" and not shutil.which("iverilog"):
        pytest.skip("needs Icarus Verilog")
    there = tmp_path / "it's my $work #1"
    (there / "sources").mkdir(parents=True)
    (there / "sources" / "count_bench.py").write_text(BENCH)
    monkeypatch.chdir(there)
    monkeypatch.setenv("NOMUL_CACHE", str(there / "cache"))
    monkeypatch.syspath_prepend(str(there / "sources"))
    built = build(VERILOG, "counter", simulator, waves=True)
    assert there in built.folder.resolve().parents
    run = there / "the run"
    run.mkdir()
    waves = there / "the waves.vcd"
    assert built.run("count_bench", {}, folder=run, waves=waves) == {"q": 5}
    assert build(VERILOG, "counter", simulator, waves=True) == built
    declarations, _, changes = waves.read_text().partition("$enddefinitions $end")
    assert re.search(r"\$var \w+ +4 \S+ q\b", declarations) and re.search(r"^b0*101 ", changes, re.MULTILINE)
