"""Measures what W4A16 costs beside an FP16 multiply-add element, prints it, and writes it as JSON.

Usage: python -m benchmarks.fp16 LIBRARY FILE, with a liberty file of standard cells. Finished figures are kept in FILE,
so a run that was stopped goes on where it was; delete the file to measure again.

The reference is a bare `nomul.arith.fused_mac`: it has no control, no memory and no part that elements share, so every
ratio to it is the least favourable one. W4A16 is its whole engine over the products it forms in a cycle. Both are made
for `CLOCK_NS`, which is what a cycle of floating-point accumulation takes in nangate45.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component
from rich.table import Table

from nomul.arith.fused_mac import FusedMac
from nomul.asic.asic_flow import implement
from nomul.asic.liberty import Library, read_liberty
from nomul.catalog import configure
from nomul.console import progress, stdout
from nomul.cores.discover import find_core
from nomul.export.rtlil import convert
from nomul.files import write_atomically

CLOCK_NS = 3.6
LAYER = (4096, 4096)


def cost(component: Component, name: str, library: Library, products: int) -> dict[str, float]:
    """Area for a product, memory macros left out, and the critical path."""
    found = implement(convert(component, name), name, library, CLOCK_NS)
    assert found.critical_path_ns is not None
    return {
        "area_per_mac": found.area / products,
        "critical_path_ns": found.critical_path_ns,
        "memory_bits": found.memory_bits,
    }


def element(library: Library) -> dict[str, float]:
    """An FP16 multiply-add element alone."""
    return cost(FusedMac(True), "fused_mac", library, 1)


def engine(name: str, *settings: str) -> Callable[[Library], dict[str, float]]:
    """A whole engine."""

    def measure(library: Library) -> dict[str, float]:
        config = configure(name, settings, "cells")
        return cost(find_core(name).gateware.component(config), name, library, config.macs_per_cycle)

    return measure


def utilisation(library: Library) -> float:
    """Products needed over products possible: 4096 x 4096, one token, from the cost model that the benches hold to."""
    config = configure("mixpe_fp16")
    n_in, n_out = LAYER
    return n_in * n_out / (config.cycles(n_in, n_out, 1) * config.macs_per_cycle)


ELEMENT, W4A16 = "FP16 multiply-add element", "W4A16, 16 lanes x 8 rows"
FIGURES: dict[str, Callable[[Library], Any]] = {
    ELEMENT: element,
    "FP16 array, 4 elements": engine("fp16", "rows=4"),
    W4A16: engine("mixpe_fp16"),
    "W4A16, 16 lanes x 16 rows": engine("mixpe_fp16", "rows=16"),
    "W4A16, 16 lanes x 8 rows, significands of 12 bits": engine("mixpe_fp16", "significand=12"),
    "utilisation of W4A16, 4096 x 4096, 1 token": utilisation,
}


def main(library: Path, file: Path) -> None:
    """Measure what FILE does not hold yet."""
    cells = read_liberty(library)
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    with progress("measuring", len(FIGURES)) as advance:
        for name, measure in FIGURES.items():
            if name not in kept:
                kept[name] = measure(cells)
                write_atomically(file, (json.dumps(kept, indent=2) + "\n").encode())
            advance()
    table = Table("figure", "measured")
    for name, value in kept.items():
        shown = (
            ", ".join(f"{key} {part:.4g}" for key, part in value.items()) if isinstance(value, dict) else f"{value:.4g}"
        )
        table.add_row(name, shown)
    table.add_row(
        "area of W4A16 over the element", f"{kept[W4A16]['area_per_mac'] / kept[ELEMENT]['area_per_mac']:.3f}"
    )
    stdout.print(table)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
