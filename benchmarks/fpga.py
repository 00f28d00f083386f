"""Figures of engines on FPGAs."""

import functools

from nomul.catalog import configure
from nomul.cores.discover import find_core
from nomul.export.rtlil import convert
from nomul.fpga.nextpnr import place_and_route
from nomul.fpga.yosys import synthesise

__all__ = ["fmax", "luts"]


@functools.cache
def luts(engine: str, target: str, *settings: str, once: bool = False) -> float:
    """Return the look-up tables for each product that an engine forms in a cycle, all of the engine counted.

    With `once` a row is mapped once for all of them (`nomul.fpga.yosys.synthesise`).
    """
    config = configure(engine, settings, target)
    lut = synthesise(convert(find_core(engine).gateware.component(config), engine), engine, target, once=once).lut
    return lut / config.macs_per_cycle


def fmax(engine: str, *settings: str) -> float:
    """Return the clock in MHz on ECP5-85F, speed grade 6, out of context, the median of three seeds."""
    config = configure(engine, settings, "ecp5")
    netlist = synthesise(
        convert(find_core(engine).gateware.component(config), engine), engine, "ecp5", netlist=True
    ).netlist
    assert netlist is not None
    return place_and_route(netlist, engine, "ecp5").fmax_mhz or 0.0
