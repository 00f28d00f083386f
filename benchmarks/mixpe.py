"""What Nomul promises of MixPE.

NOMUL_LIBERTY names the library of standard cells, NOMUL_TEXT the text that the models were trained on; what needs one
that is not there is left out. The power of both arrays stands on simulations of their netlists on a real layer.
"""

import dataclasses
import os
from pathlib import Path

from benchmarks.cells import LIBERTY, area_per_mac, cell_figures
from benchmarks.figures import Figure
from benchmarks.fp16 import element, engine
from benchmarks.fpga import luts
from nomul.asic.liberty import read_liberty
from nomul.catalog import configure
from nomul.commands.report_cells import CellOptions, report_cells
from nomul.console import status
from nomul.cores.discover import find_core
from nomul.export.rtlil import convert
from nomul.model import checkpoints
from nomul.model.evaluation import evaluate
from nomul.model.store import load_model, load_tokenizer
from nomul.model.text import read_text, split
from nomul.report.figures import Elaborated, Work

TEXT = os.environ.get("NOMUL_TEXT")
W4A8 = ("lanes_in=16", "rows=8", "fold=2")
INT8 = ("lanes_in=16", "rows=8")
XCUP = ("lanes_in=16", "rows=16")
CLOCK_NS, POWER_NS = 1.2, 1.4

TOKENS = 4
"""Vectors of the simulation; but for the first, they come while the last one is used."""

FLOAT = 1.3821
"""Nats a character of `tiny_mixpe` before it was quantised, as docs/models.md has it; `nomul train` says both."""


def area_power_gain() -> float:
    """(Area x power) for a product of the INT8 array over W4A8's, both made and simulated for the same clock."""
    assert LIBERTY is not None
    config = configure("mixpe", W4A8, "cells")
    text = convert(find_core("mixpe").gateware.component(config), "mixpe")
    core = Elaborated(text, "mixpe", dataclasses.asdict(config), Work(config.macs_per_cycle, 1.0))
    with status("area and power") as say:
        (found,) = report_cells(core, config, CellOptions((Path(LIBERTY),), TOKENS, POWER_NS), say)
    assert found.area_power_gain is not None
    return found.area_power_gain


def w4a16_ratio() -> float:
    """Area for a product of the W4A16 engine over an FP16 multiply-add element, both made for 3.6 ns."""
    assert LIBERTY is not None
    library = read_liberty(Path(LIBERTY))
    return engine("mixpe_fp16")(library)["area_per_mac"] / element(library)["area_per_mac"]


def sustained_luts() -> float:
    """LUTs on UltraScale+ for each product that W4A8 forms in a cycle over 16 tokens of 1536 x 1536."""
    config = configure("mixpe", XCUP, "xcup")
    used = 1536 * 1536 * 16 / (config.cycles(1536, 1536, 16) * config.macs_per_cycle)
    return luts("mixpe", "xcup", *XCUP) / used


def utilisation(dataflow: str, activation: str, tokens: int) -> float:
    """Products over those possible in the elements that a job can use, 64 x 64, 4096 x 4096."""
    config = configure("systolic", ("rows=64", "columns=64", f"dataflow={dataflow}", f"activation={activation}"))
    return float(config.utilisation(n_in=4096, n_out=4096, tokens=tokens))


def fidelity() -> float:
    """Nats a character of the `tiny` model in W4A8 over those of the same model in float."""
    assert TEXT is not None
    model, _ = load_model(checkpoints.path("tiny_mixpe"))
    tokens = load_tokenizer(checkpoints.path("tiny_mixpe")).encode(split(read_text(Path(TEXT)))[1])
    return evaluate(model, None, tokens).nats_per_char_float / FLOAT


FIGURES = [
    Figure("MixPE LUT per sustained W4A8 MAC, 16 x 16, xcup", sustained_luts, most=32, digits=4),
    *(
        Figure(
            f"systolic utilisation, {form}, {flow}-stationary, 64 x 64, 4096 x 4096 x {tokens}",
            lambda flow=flow, form=form, tokens=tokens: utilisation(flow, form, tokens),  # type: ignore[misc]
            least=0.95 if tokens > 1 else 0.9,
            digits=4,
        )
        for form in ("int8", "fp16")
        for flow in ("output", "weight")
        for tokens in (64, 1)
    ),
    *([] if TEXT is None else [Figure("tiny in W4A8 over float, nats a character", fidelity, most=1.02, digits=4)]),
    *cell_figures("MixPE W4A8 16 x 8", "mixpe", W4A8, CLOCK_NS, area=180, path=1.2),
    *(
        []
        if LIBERTY is None
        else [
            Figure(
                "MixPE W4A8 16 x 8 over the INT8 array, area",
                lambda: area_per_mac("mixpe", W4A8, CLOCK_NS) / area_per_mac("baseline", INT8, CLOCK_NS),
                most=0.57,
            ),
            Figure("INT8 array over MixPE W4A8 16 x 8, area x power, real layer", area_power_gain, least=2.8),
            Figure("MixPE W4A16 over an FP16 multiply-add element, area", w4a16_ratio, most=0.25),
        ]
    ),
]
