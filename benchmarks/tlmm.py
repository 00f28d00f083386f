"""What Nomul promises of TLMM."""

import time

from benchmarks.figures import Figure
from nomul.catalog import configure
from nomul.engines.tlmm import Tlmm
from nomul.export.rtlil import convert, verilog
from nomul.fpga.nextpnr import place_and_route
from nomul.fpga.yosys import synthesise
from nomul.sim.check import check_core
from nomul.sim.product import random_product

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
    said = check_core("tlmm", config, [random_product(1536, 1536, 8, config, seed=0)])
    assert said["mismatches"] == 0
    return said["cycles"] / said["seconds"]


FIGURES = [
    Figure("LUT per sustained ternary MAC, xcup", lambda: lut_per_sustained_mac("xcup"), most=6.5, digits=4),
    Figure("the same, portable form", lambda: lut_per_sustained_mac("portable"), most=8.5, digits=4),
    Figure("TLMM utilisation, 1536 x 1536, 16 tokens", lambda: utilisation(1536, 1536, 16), least=0.95, digits=4),
    Figure("TLMM utilisation, 1536 x 1536, 1 token", lambda: utilisation(1536, 1536, 1), digits=4),
    Figure("TLMM utilisation, 1536 x 4096, 16 tokens", lambda: utilisation(1536, 4096, 16), least=0.95, digits=4),
    Figure("TLMM on ECP5-85F, 28 tables x 4 rows, cells per MAC", lambda: ecp5()["cells_per_mac"], most=12.5, digits=4),
    Figure("TLMM on ECP5-85F, 28 tables x 4 rows, MHz", lambda: ecp5()["fmax_mhz"], least=190, digits=4),
    Figure("Verilog of TLMM, 28 tables x 16 rows, seconds", seconds_of_verilog, most=20),
    Figure("simulated cycles a second, TLMM 28 x 16", cycles_a_second, least=30000),
]
