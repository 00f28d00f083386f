"""The top modules of a core: bare streams, or standard buses."""

from typing import Any

from amaranth.lib.wiring import Component

from nomul.bus.axi import AxiCore
from nomul.cores.discover import find_core

__all__ = ["BUSES", "make_top"]

BUSES = ("stream", "axi", "axi-padded")
"""Bare streams, or AXI4-Stream with AXI4-Lite registers, its streams of any bytes or of a power of two of them."""


def make_top(core: str, config: Any, bus: str = "stream", name: str | None = None) -> tuple[Component, str]:
    """Return a core on a bus of `BUSES`, and the name of its top module: `name`, or one of its own."""
    gateware = find_core(core).gateware
    component = gateware.component(config)
    if bus == "stream":
        return component, name or core
    return AxiCore(component, config, gateware.number, padded=bus == "axi-padded"), name or f"{core}_axi"
