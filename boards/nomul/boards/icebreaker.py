"""1BitSquared iCEBreaker: an iCE40 UP5K with 5,280 look-up tables and 128 KiB of single-port RAM, USB serial.

The design runs at the board's 12 MHz. The button is the board's own; the green LED shows octets, the red one work.
"""

from amaranth.build import Platform
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib.wiring import Component
from amaranth_boards.icebreaker import ICEBreakerPlatform

from nomul.boards.board import Board, input_pin, place

__all__ = ["BOARD"]


class Pins(Elaboratable):
    """A design on the board."""

    def __init__(self, design: Component) -> None:
        self.design = design

    def elaborate(self, platform: Platform) -> Module:
        """Ask the platform for the pins."""
        clock = Signal()
        m = place(self.design, platform, clock=clock, button="button", lights=("led_g", "led_r"))
        m.d.comb += clock.eq(input_pin(m, platform, "clk12"))
        return m


BOARD = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker (Lattice iCE40 UP5K)",
    target="ice40",
    device="ice40-up5k",
    options=("--up5k", "--package", "sg48"),
    clock_hz=12e6,
    baud=1_000_000,
    loader="iceprog {file}",
    suffix=".bin",
    budget={"lut": 5280, "ff": 5280, "bram": 30, "dsp": 8, "uram": 4},
    bram_bits=4 * 1024,
    platform=ICEBreakerPlatform,
    pins=Pins,
    # Four single-port RAMs beside each other: 64 bits, 32 ternary weights in a cycle.
    engine=("tint", ("lanes_in=8", "rows=4", "n_in_max=512", "n_out_max=1024"), 16384, "spram"),
)
