"""Figures of engines on FPGAs."""

import functools

from hw.engines import ENGINES
from sw.engines import configure
from sw.flow.nextpnr import place_and_route
from sw.flow.rtlil import convert
from sw.flow.yosys import synthesise

__all__ = ["fmax", "luts"]


@functools.cache
def luts(engine: str, target: str, *settings: str, once: bool = False) -> float:
    """Return the look-up tables for each product that an engine forms in a cycle, all of the engine counted.

    With `once` a row is mapped once for all of them (`sw.flow.yosys.synthesise`).
    """
    config = configure(engine, settings, target)
    lut = synthesise(convert(ENGINES[engine].component(config), engine), engine, target, once=once).lut
    return lut / config.macs_per_cycle


def fmax(engine: str, *settings: str) -> float:
    """Return the clock in MHz on ECP5-85F, speed grade 6, out of context, the median of three seeds."""
    config = configure(engine, settings, "ecp5")
    netlist = synthesise(convert(ENGINES[engine].component(config), engine), engine, "ecp5", netlist=True).netlist
    assert netlist is not None
    return place_and_route(netlist, engine, "ecp5").fmax_mhz or 0.0
