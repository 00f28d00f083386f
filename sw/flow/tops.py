"""The top modules of an engine: bare streams, or standard buses."""

from typing import Any

from amaranth.lib.wiring import Component

from hw.bus.axi import AxiEngine
from hw.engines import ENGINES

__all__ = ["BUSES", "make_top"]

BUSES = ("stream", "axi")
"""Bare streams, or AXI4-Stream with AXI4-Lite registers."""


def make_top(engine: str, config: Any, bus: str = "stream") -> tuple[Component, str]:
    """Return an engine on a bus of `BUSES`, and the name of its top module."""
    component = ENGINES[engine].component(config)
    if bus == "stream":
        return component, engine
    return AxiEngine(component, config, ENGINES[engine].number), f"{engine}_axi"
