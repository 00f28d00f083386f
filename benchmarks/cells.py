"""Figures of engines in standard cells. The library is named by NOMUL_LIBERTY; without it these are left out."""

import functools
import os
from pathlib import Path

from benchmarks.figures import Figure
from nomul.asic.asic_flow import Implementation, implement
from nomul.asic.liberty import read_liberty
from nomul.catalog import configure
from nomul.cores.discover import find_core
from nomul.export.rtlil import convert

__all__ = ["LIBERTY", "area_per_mac", "cell_figures"]

LIBERTY = os.environ.get("NOMUL_LIBERTY")
"""Path of the library that the bars are for, nangate45."""


@functools.cache
def _built(engine: str, settings: tuple[str, ...], clock_ns: float) -> Implementation:
    assert LIBERTY is not None
    component = find_core(engine).gateware.component(configure(engine, settings, "cells"))
    return implement(convert(component, engine), engine, read_liberty(Path(LIBERTY)), clock_ns)


def area_per_mac(engine: str, settings: tuple[str, ...], clock_ns: float) -> float:
    """Return the area for each product that an engine forms in a cycle, made for a clock; memory macros apart."""
    config = configure(engine, settings, "cells")
    return _built(engine, settings, clock_ns).area / config.macs_per_cycle


def cell_figures(
    name: str, engine: str, settings: tuple[str, ...], clock_ns: float, *, area: float, path: float | None = None
) -> list[Figure]:
    """Return area per product and critical path of an engine made for a clock; nothing without a library."""
    if LIBERTY is None:
        return []
    figures = [Figure(f"{name}, um2 per MAC", lambda: area_per_mac(engine, settings, clock_ns), most=area, digits=4)]
    if path is not None:
        figures.append(
            Figure(
                f"{name}, critical path, ns",
                lambda: _built(engine, settings, clock_ns).critical_path_ns or 0.0,
                most=path,
            )
        )
    return figures
