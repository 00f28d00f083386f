"""A target's own arithmetic takes no more than the portable form: what was measured, and the smallest case of today."""

import dataclasses
import json

import pytest

from benchmarks.forms import FORMS, MOST, pairs
from nomul.cores.discover import find_core, matmul_cores
from nomul.report.measure import fpga

MEASURED = json.loads(FORMS.read_text())


def test_every_core_was_measured_on_every_fpga_with_forms():
    for name, (build, *_) in pairs(list(matmul_cores()), ["small"]).items():
        assert name in MEASURED or build.target == "cells", name


@pytest.mark.parametrize("name", MEASURED)
def test_no_form_takes_more_than_the_portable_one(name):
    entry = MEASURED[name]
    assert entry["own"] <= MOST * entry["portable"]
    assert entry["ratio"] == pytest.approx(entry["own"] / entry["portable"], abs=1e-4)
    assert name in pairs([name.split()[0]], [name.split()[1]]), "no such build: measure again"


@pytest.mark.synth
@pytest.mark.parametrize(
    ("engine", "target", "settings"),
    [
        ("tlmm", "xcup", {"tables": 2, "rows": 2, "fill_units": 1}),
        ("mixpe", "ecp5", {"lanes_in": 4, "rows": 1, "group": 8}),
    ],
)
def test_the_smallest_forms_of_today(engine, target, settings):
    made = [
        find_core(engine).gateware.config(**settings, n_in_max=64, n_out_max=64, target=each)
        for each in (target, "portable")
    ]
    own, portable = (fpga(engine, dataclasses.asdict(config), target)["lut"] for config in made)
    assert own <= MOST * portable, (own, portable)
