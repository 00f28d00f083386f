"""An engine on a board, simulated: a host loads weights, runs vectors, and compares with plain PyTorch.

With NOMUL_ROUTED=board the routed netlist is that of the board's own bitstream (`make sim-routed`), not of a smaller
engine.
"""

import os

import pytest
import torch

from nomul.board_designs import board_design, engine_design, engine_words
from nomul.boards.engine_top import EngineTop
from nomul.boards.icebreaker import BOARD
from nomul.catalog import configure
from nomul.cores.discover import find_core
from nomul.errors import ToolError
from nomul.export.rtlil import convert
from nomul.fpga.bitstream import make_bitstream
from nomul.host.serial import EngineBoard, Info, Line
from nomul.jobs.yosys_run import run_yosys
from nomul.sim.board import simulated_top
from nomul.sim.routed import routed_verilog

pytestmark = pytest.mark.bench


def check(top, config, netlist=None):
    """Play a host: three matrices of different sizes, and a request that is refused."""
    n_in_max, n_out_max = config.n_in_max, config.n_out_max
    largest = (n_in_max, min(n_out_max, 32))
    generator = torch.Generator().manual_seed(5)
    with simulated_top(top, "ice40", {}, {}, netlist) as simulated:
        line = Line(simulated.port)
        board = EngineBoard(line, timeout=60)
        assert board.board.info() == Info(2, n_in_max, n_out_max, top.number)
        for n_in, n_out in (largest, (19, 7), (1, 1)):
            weight = torch.randint(-1, 2, (n_out, n_in), generator=generator, dtype=torch.int8)
            vector = torch.randint(-128, 128, (n_in,), generator=generator, dtype=torch.int8)
            words, octets = engine_words("tint", config, weight, vector)
            board.load(words)
            assert board.run(octets, n_in, n_out) == (weight.long() @ vector.long()).tolist()
        with pytest.raises(ToolError, match=r"^the board refuses: the request is not legal for its model$"):
            board.run(octets, n_in_max + 1, 1)
        line.close()


def small(kind):
    """Return the board's engine, for short vectors, and its top."""
    assert BOARD.engine is not None
    name, _, depth, _ = BOARD.engine
    config = configure(name, ("lanes_in=8", "rows=4", "n_in_max=64", "n_out_max=32"))
    engine = find_core(name).gateware.component(config)
    return EngineTop(engine, config, BOARD.clock_hz, BOARD.baud, 77, depth, kind, hold_seconds=200e-6), config


@pytest.mark.parametrize("kind", ["spram", "block"])
def test_an_engine_on_a_board_multiplies(kind):
    top, config = small(kind)
    assert top.divisor == 12
    check(top, config)


@pytest.mark.synth
def test_the_mapped_netlist_multiplies():
    top, config = small("spram")
    script = (
        "read_rtlil in.il\nsynth_ice40 -device u -spram -top engine_top\n"
        "delete t:$scopeinfo\nwrite_verilog -noattr -noexpr out.v\n"
    )
    netlist = run_yosys(script, {"in.il": convert(top, "engine_top")}, ["out.v"]).files["out.v"]
    assert netlist.count("SB_SPRAM256KA") == 4
    check(top, config, netlist)


PINS = {
    "clk12_0__io": ("input clock", False),
    "button_0__io": ("input button", True),
    "uart_0__rx__io": ("input rx", False),
    "uart_0__tx__io": ("output tx", False),
    "led_g_0__io": ("output lights[0]", True),
    "led_r_0__io": ("output lights[1]", True),
}
"""The board's pins by the design's; the button and the LEDs of an iCEBreaker are active low."""

HEAD = """\
module engine_top(clock, button, rx, tx, lights);
  input clock;
  input button;
  input rx;
  output tx;
  output [4:0] lights;
  assign lights[4:2] = 0;"""


@pytest.mark.synth
def test_the_placed_and_routed_netlist_multiplies():
    if os.environ.get("NOMUL_ROUTED") == "board":
        design = engine_design(BOARD, None, ())
        config, top = design.config, design.top()
    else:
        top, config = small("spram")
    result = make_bitstream(board_design(BOARD, top, {}), cache=None)
    assert result.run.met and result.routed is not None and result.data
    netlist = routed_verilog(result.routed, "top", PINS, HEAD)
    assert netlist.count("  ICESTORM_SPRAM ") == 4
    assert netlist.count("  ICESTORM_LC #(") == result.run.cells["ICESTORM_LC"]
    check(top, config, netlist)
