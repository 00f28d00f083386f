"""Radiona ULX3S with an LFE5U-85F: 83,640 look-up tables, 208 block RAMs, 156 multipliers, USB serial by an FT231X.

The button is FIRE 1, the eight lights are the LEDs; switch 1 is on for a terminal with a person, off for `nomul talk`.
A PLL doubles the board's 25 MHz.
"""

from amaranth.build import Platform
from amaranth.hdl import Elaboratable, Instance, Module, Signal
from amaranth.lib.wiring import Component
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from nomul.boards.board import Board, input_pin, place

__all__ = ["BOARD"]


class Pins(Elaboratable):
    """A design on the board."""

    def __init__(self, design: Component) -> None:
        self.design = design

    def elaborate(self, platform: Platform) -> Module:
        """Ask the platform for the pins, and make the clock."""
        clock = Signal()
        lights = [("led", number) for number in range(len(self.design.lights))]
        m = place(self.design, platform, clock=clock, button="button_fire", lights=lights)
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI="25",
            a_FREQUENCY_PIN_CLKOP="50",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=1,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=12,
            p_CLKOP_CPHASE=5,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            p_CLKFB_DIV=2,
            i_RST=0,
            i_STDBY=0,
            i_CLKI=input_pin(m, platform, "clk25"),
            i_CLKFB=clock,
            o_CLKOP=clock,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=1,
            i_PHASESTEP=1,
            i_PHASELOADREG=1,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
        )
        m.d.comb += self.design.terminal.eq(input_pin(m, platform, "switch"))
        return m


BLOCKS = (*range(4, 59, 9), *range(69, 115, 9))
"""Columns where blocks of four multipliers begin, in each of their rows."""

ROWS = (10, 34, 58)
"""Rows of multipliers."""


def spread(count: int) -> tuple[str, ...]:
    """Return sites for so many multipliers, evenly over the chip, row by row."""
    sites = [(block + offset, offset) for block in BLOCKS for offset in (0, 1, 4, 5)]
    each = -(-count // len(ROWS))
    places = [((2 * (lane % each) + 1) * len(sites) // (2 * each), ROWS[lane // each]) for lane in range(count)]
    return tuple(f"X{sites[place][0]}/Y{row}/MULT18_{sites[place][1]}" for place, row in places)


BOARD = Board(
    name="ulx3s",
    title="Radiona ULX3S 85F (Lattice ECP5)",
    target="ecp5",
    device="ecp5-85k",
    options=("--85k", "--package", "CABGA381", "--speed", "6", "--router", "router2"),
    clock_hz=50e6,
    baud=1_000_000,
    loader="openFPGALoader -b ulx3s {file}",
    suffix=".bit",
    budget={"lut": 83640, "ff": 83640, "bram": 208, "dsp": 156, "uram": 0},
    bram_bits=18 * 1024,
    platform=ULX3S_85F_Platform,
    pins=Pins,
    # 15 products a row and a cycle: 160 and 400 inputs are 11 and 27 steps, with 3 and 1 % of padding, and a step's ten
    # groups of weights are two units of the dense form. Four lanes fit as well, but do not route.
    machine=("tlmm", ("tables=5", "fill_units=5", "weight_lanes=2"), 2, 1),
    lutram_words=128,
    # The multipliers of attention's lanes: the placer packs the machine into a third of the chip, where it does not
    # route; lanes that lie apart pull it apart.
    anchors=((r"^MULT18X18D .*\.element0\.products\.product(\d+)_", spread(32)),),
)
