"""What Nomul promises of BWTA. The largest arrays take several minutes to synthesise, though a row is mapped once."""

import time

import torch

from benchmarks.cells import cell_figures
from benchmarks.figures import Figure
from benchmarks.fpga import fmax, luts
from nomul.arith.agree_count import AgreeCount
from nomul.arith.target import Target
from nomul.catalog import configure
from nomul.export.rtlil import convert
from nomul.fpga.yosys import synthesise
from nomul.model import checkpoints
from nomul.model.packed import pack_projections
from nomul.model.store import load_model, load_tokenizer


def row(target: str, form: str, lanes: int) -> float:
    """Look-up tables per product of one row's count alone, its registers not counted."""
    return synthesise(convert(AgreeCount(lanes, form, Target(target)), "row"), "row", target).lut / lanes


def ecp5_mhz() -> float:
    """Fmax of the default after place and route, out of context."""
    return fmax("bwta")


def utilisation(n_in: int, n_out: int, tokens: int) -> float:
    """Products needed over products possible, from the cost model that the benches hold to the simulation."""
    config = configure("bwta", ("lanes_in=128",))
    return n_in * n_out * tokens / (config.cycles(n_in, n_out, tokens) * config.macs_per_cycle)


def packed_time() -> float:
    """Processor time of the packed form of the committed model over that of its float form, one thread each."""
    model, _ = load_model(checkpoints.path("tiny_bwta"))
    forms = {"float": model, "packed": pack_projections(model)}
    tokens = load_tokenizer(checkpoints.path("tiny_bwta")).encode(checkpoints.sample_text())[
        None, : model.config.context
    ]
    best = dict.fromkeys(forms, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for _ in range(60):
                for name, form in forms.items():
                    begin = time.thread_time()
                    form(tokens)
                    best[name] = min(best[name], time.thread_time() - begin)
    finally:
        torch.set_num_threads(threads)
    return best["packed"] / best["float"]


WIDE = ("lanes_in=1024", "rows=32")
EQUAL = ("lanes_in=96", "rows=48")
"""A TINT array of as many look-up tables as the wide BWTA array has."""

FIGURES = [
    Figure("BWTA LUT per binary x ternary product, row of 1024, xcup", lambda: row("xcup", "mask", 1024), digits=4),
    Figure("BWTA LUT per ternary x ternary product, row of 64, xc7", lambda: row("xc7", "ternary", 64), most=2.2),
    Figure("BWTA LUT per ternary x ternary product, row of 864, xc7", lambda: row("xc7", "ternary", 864), most=2.2),
    Figure("BWTA utilisation, 128 x 32 x 128", lambda: utilisation(128, 32, 128), least=0.97),
    Figure("BWTA utilisation, 100 x 60 x 1000", lambda: utilisation(1000, 60, 100), least=0.85),
    Figure("BWTA default on ECP5-85F, MHz", ecp5_mhz, least=170),
    Figure(
        "BWTA LUT per binary x ternary product, engine, 1024 x 32, xcup",
        lambda: luts("bwta", "xcup", *WIDE, once=True),
        most=1.3,
        digits=4,
    ),
    Figure(
        "BWTA products a cycle against TINT of equal LUTs, xcup",
        lambda: luts("tint", "xcup", *EQUAL, once=True) / luts("bwta", "xcup", *WIDE, once=True),
        least=7,
    ),
    Figure("BWTA model packed against float, processor time", packed_time, most=1),
    *cell_figures("BWTA 64 x 8", "bwta", ("lanes_in=64", "rows=8", "padding=zero"), 1.0, area=16.0, path=1.05),
    *cell_figures("BWTA 256 x 8", "bwta", ("lanes_in=256", "rows=8", "padding=zero"), 1.4, area=13.5, path=1.4),
]
