"""The top modules of an engine or a unit: bare streams, or standard buses."""

from typing import Any

from amaranth.lib.wiring import Component

from nomul.bus.axi import AxiEngine
from nomul.bus.axi_unit import AxiUnit
from nomul.cores.discover import find_core

__all__ = ["BUSES", "make_top"]

BUSES = ("stream", "axi", "axi-padded")
"""Bare streams, or AXI4-Stream with AXI4-Lite registers, its streams of any bytes or of a power of two of them."""


def make_top(engine: str, config: Any, bus: str = "stream", name: str | None = None) -> tuple[Component, str]:
    """Return an engine or a unit on a bus of `BUSES`, and the name of its top module: `name`, or one of its own."""
    core = find_core(engine)
    component = core.gateware.component(config)
    if bus == "stream":
        return component, name or engine
    wrapper = AxiEngine if core.multiplies else AxiUnit
    return wrapper(component, config, core.gateware.number, padded=bus == "axi-padded"), name or f"{engine}_axi"
