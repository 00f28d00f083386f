"""Measures the figures that Nomul promises for TLMM, prints them, and writes them as JSON.

Usage: python -m benchmarks.tlmm FILE. Finished figures are kept in FILE, so a run that was stopped goes on where it
was; delete the file to measure again.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.engines.tlmm import Tlmm
from sim.check import check_product, random_product
from sw.console import progress, stdout, write_atomically
from sw.engines import configure
from sw.flow.nextpnr import place_and_route
from sw.flow.rtlil import convert, verilog
from sw.flow.yosys import synthesise

AMD = ("tables=27", "rows=14", "fill_units=9")
LATTICE = ("tables=28", "rows=4", "fill_units=7", "banks=1")
FULL = ("tables=28", "rows=16")
TOKENS = 16


def lut_per_sustained_mac(target: str) -> float:
    """Look-up tables over products formed a clock, on a 1536 x 1536 layer and 16 tokens, on UltraScale+."""
    config = configure("tlmm", AMD, target)
    lut = synthesise(convert(Tlmm(config), "tlmm"), "tlmm", "xcup").lut
    return lut / (1536 * 1536 * TOKENS / config.cycles(1536, 1536, TOKENS))


def utilisation(n_in: int, n_out: int, tokens: int) -> float:
    """Products needed over products possible, from the cost model that the benches hold to the simulation."""
    config = configure("tlmm", AMD)
    return n_in * n_out * tokens / (config.cycles(n_in, n_out, tokens) * config.macs_per_cycle)


def ecp5() -> dict[str, float]:
    """Logic cells per product and Fmax after place and route, out of context."""
    config = configure("tlmm", LATTICE, "ecp5")
    netlist = synthesise(convert(Tlmm(config), "tlmm"), "tlmm", "ecp5", netlist=True).netlist
    assert netlist is not None
    timing = place_and_route(netlist, "tlmm", "ecp5")
    return {"cells_per_mac": timing.logic_cells / config.macs_per_cycle, "fmax_mhz": timing.fmax_mhz}


def seconds_of_verilog() -> float:
    """Time to write the Verilog of 28 tables x 16 rows."""
    started = time.perf_counter()
    verilog(Tlmm(configure("tlmm", FULL)), "tlmm")
    return time.perf_counter() - started


def cycles_a_second() -> float:
    """Simulated cycles a second of 28 tables x 16 rows in Verilator under cocotb, handshakes driven from Python."""
    config = configure("tlmm", FULL)
    said = check_product("tlmm", config, random_product(1536, 1536, 8, config, seed=0))
    assert said["mismatches"] == 0
    return said["cycles"] / said["seconds"]


FIGURES: dict[str, Callable[[], Any]] = {
    "LUT per sustained MAC, xcup": lambda: lut_per_sustained_mac("xcup"),
    "LUT per sustained MAC, portable form on xcup": lambda: lut_per_sustained_mac("portable"),
    "utilisation, 1536 x 1536, 16 tokens": lambda: utilisation(1536, 1536, 16),
    "utilisation, 1536 x 1536, 1 token": lambda: utilisation(1536, 1536, 1),
    "utilisation, 1536 x 4096, 16 tokens": lambda: utilisation(1536, 4096, 16),
    "ECP5-85F, 28 tables x 4 rows": ecp5,
    "Verilog of 28 tables x 16 rows, seconds": seconds_of_verilog,
    "simulated cycles a second, 28 tables x 16 rows": cycles_a_second,
}


def main(file: Path) -> None:
    """Measure what FILE does not hold yet."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    with progress("measuring", len(FIGURES)) as advance:
        for name, measure in FIGURES.items():
            if name not in kept:
                kept[name] = measure()
                write_atomically(file, (json.dumps(kept, indent=2) + "\n").encode())
            advance()
    table = Table("figure", "measured")
    for name, value in kept.items():
        shown = (
            ", ".join(f"{key} {part:.4g}" for key, part in value.items()) if isinstance(value, dict) else f"{value:.4g}"
        )
        table.add_row(name, shown)
    stdout.print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
