"""Measures the figures that Nomul promises for BWTA, prints them, and writes them as JSON.

Usage: python -m benchmarks.bwta FILE [LIBERTY]. Finished figures are kept in FILE, so a run that was stopped goes on
where it was; delete the file to measure again. LIBERTY is the nangate45 library; without it the figures in standard
cells are left out. The largest array takes several minutes.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.arith.agree_count import AgreeCount
from hw.arith.target import Target
from hw.engines import ENGINES
from sw.console import progress, stdout, write_atomically
from sw.engines import configure
from sw.flow.implementation import implement
from sw.flow.liberty import read_liberty
from sw.flow.nextpnr import place_and_route
from sw.flow.rtlil import convert
from sw.flow.yosys import synthesise

CELLS = {"64 lanes x 8 rows": (1.0, "lanes_in=64"), "256 lanes x 8 rows": (1.4, "lanes_in=256")}


def cells(library: Path, clock_ns: float, *settings: str) -> dict[str, float]:
    """Area per product, the whole engine but its vector memory, and critical path."""
    config = configure("bwta", ("rows=8", *settings), "cells")
    done = implement(convert(ENGINES["bwta"].component(config), "bwta"), "bwta", read_liberty(library), clock_ns)
    return {"um2_per_product": done.area / config.macs_per_cycle, "critical_path_ns": done.critical_path_ns}


def luts(engine: str, target: str, *settings: str) -> float:
    """Look-up tables per product per clock, the whole engine."""
    config = configure(engine, settings, target)
    lut = synthesise(convert(ENGINES[engine].component(config), engine), engine, target).lut
    return lut / config.macs_per_cycle


def row(target: str, form: str, lanes: int) -> float:
    """Look-up tables per product of one row's count alone, its registers not counted."""
    return synthesise(convert(AgreeCount(lanes, form, Target(target)), "row"), "row", target).lut / lanes


def ecp5() -> dict[str, float]:
    """Logic cells per product and Fmax of the default after place and route, out of context."""
    config = configure("bwta", (), "ecp5")
    netlist = synthesise(convert(ENGINES["bwta"].component(config), "bwta"), "bwta", "ecp5", netlist=True).netlist
    assert netlist is not None
    timing = place_and_route(netlist, "bwta", "ecp5")
    return {"cells_per_product": timing.logic_cells / config.macs_per_cycle, "fmax_mhz": timing.fmax_mhz}


def utilisation(n_in: int, n_out: int, tokens: int) -> float:
    """Products needed over products possible, from the cost model that the benches hold to the simulation."""
    config = configure("bwta", ("lanes_in=128",))
    return n_in * n_out * tokens / (config.cycles(n_in, n_out, tokens) * config.macs_per_cycle)


FIGURES: dict[str, Callable[[], Any]] = {
    "LUT per binary x ternary product, one row of 1024 lanes, xcup": lambda: row("xcup", "mask", 1024),
    "LUT per ternary x ternary product, one row of 64 lanes, xc7": lambda: row("xc7", "ternary", 64),
    "LUT per ternary x ternary product, one row of 864 lanes, xc7": lambda: row("xc7", "ternary", 864),
    "LUT per ternary x ternary product, engine, 64 lanes x 32 rows, xc7": lambda: luts(
        "bwta", "xc7", "products=all", "lanes_in=64", "rows=32"
    ),
    "LUT per ternary x ternary product, engine, 864 lanes x 8 rows, xc7": lambda: luts(
        "bwta", "xc7", "products=all", "lanes_in=864", "rows=8"
    ),
    "utilisation, 128 x 32 x 128": lambda: utilisation(128, 32, 128),
    "utilisation, 100 x 60 x 1000": lambda: utilisation(1000, 60, 100),
    "ECP5, default": ecp5,
    "LUT per ternary x INT8 product of TINT, 96 lanes x 4 rows, xcup": lambda: luts(
        "tint", "xcup", "lanes_in=96", "rows=4"
    ),
    "LUT per binary x ternary product, engine, 1024 lanes x 32 rows, xcup": lambda: luts(
        "bwta", "xcup", "lanes_in=1024", "rows=32"
    ),
}


def main(file: Path, library: Path | None = None) -> None:
    """Measure what FILE does not hold yet."""
    figures = dict(FIGURES)
    if library is not None:
        for size, (clock, lanes) in CELLS.items():
            for padding in ("zero", "any"):
                figures[f"nangate45, {size}, padding {padding}"] = lambda clock=clock, lanes=lanes, padding=padding: (
                    cells(library, clock, lanes, f"padding={padding}")
                )
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    with progress("measuring", len(figures)) as advance:
        for name, measure in figures.items():
            if name not in kept:
                kept[name] = measure()
                write_atomically(file, (json.dumps(kept, indent=2) + "\n").encode())
            advance()
    table = Table("figure", "measured")
    for name, value in kept.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        table.add_row(name, ", ".join(f"{key} {part:.4g}".strip() for key, part in parts))
    stdout.print(table)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
