"""Sipeed Tang Nano 20K: a Gowin GW2AR-18 with 20,736 look-up tables and 46 block RAMs, USB serial.

The design runs at the board's 27 MHz. The button is S1; five of the six LEDs are the lights. `amaranth-boards` has no
such board; the pins agree with those of litex-boards (platforms/sipeed_tang_nano_20k.py).
"""

from amaranth.build import Attrs, Clock, Connector, Pins, Platform, Resource
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib.wiring import Component
from amaranth.vendor import GowinPlatform
from amaranth_boards.resources import LEDResources, UARTResource

from nomul.boards.board import Board, input_pin, place

__all__ = ["BOARD", "TangNano20kPlatform"]


class TangNano20kPlatform(GowinPlatform):
    """Clock, button, LEDs and serial line of the board."""

    part = "GW2AR-LV18QN88C8/I7"
    family = "GW2AR-18C"
    default_clk = "clk27"
    resources = [
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), Attrs(IO_TYPE="LVCMOS33")),
        Resource("button", 0, Pins("88", dir="i"), Attrs(IO_TYPE="LVCMOS33")),
        *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=Attrs(IO_TYPE="LVCMOS33")),
        UARTResource(0, rx="70", tx="69", attrs=Attrs(PULL_MODE="UP", IO_TYPE="LVCMOS33")),
    ]
    connectors: list[Connector] = []


class BoardPins(Elaboratable):
    """A design on the board."""

    def __init__(self, design: Component) -> None:
        self.design = design

    def elaborate(self, platform: Platform) -> Module:
        """Ask the platform for the pins."""
        clock = Signal()
        lights = [("led", number) for number in range(len(self.design.lights))]
        m = place(self.design, platform, clock=clock, button="button", lights=lights)
        m.d.comb += clock.eq(input_pin(m, platform, "clk27"))
        return m


BOARD = Board(
    name="tang_nano_20k",
    title="Sipeed Tang Nano 20K (Gowin GW2AR-18)",
    target="gowin",
    device="gowin-gw2ar-18",
    options=("--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C"),
    clock_hz=27e6,
    baud=1_000_000,
    loader="openFPGALoader -b tangnano20k {file}",
    suffix=".fs",
    budget={"lut": 20736, "ff": 15552, "bram": 46, "dsp": 48},
    bram_bits=18 * 1024,
    platform=TangNano20kPlatform,
    pins=BoardPins,
    engine=("tint", ("lanes_in=8", "rows=4", "n_in_max=512", "n_out_max=512"), 8192, "block"),
)
