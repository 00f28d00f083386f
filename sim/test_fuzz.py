"""A sample of what `make fuzz` runs: random configurations of every core and unit, and small machines."""

import random
from typing import Any

import pytest

from nomul.accelerator_image import machine_config
from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.shape import ModelShape
from nomul.cores.discover import cores
from nomul.cores.tlmm import CORE
from nomul.model.transformer import TransformerConfig
from nomul.sim.draw_machine import draw_machine, random_model
from nomul.sim.fuzz import configurations, fastest
from nomul.sim.fuzz_machine import find_machine_fault

SHAPE: dict[str, Any] = {"layers": 1, "heads": 2, "kv_heads": 1, "ffn": 8, "context": 6, "linear": "ternary"}

FEW = ("stalled", "refused")
"""Kinds of jobs: resets are in `sim.test_machine`."""


@pytest.mark.bench
@pytest.mark.parametrize("seed", range(len(cores())))
def test_a_random_configuration_of_each_core_and_unit(seed: int) -> None:
    assert configurations(seed, fastest()) is None


@pytest.mark.bench
def test_a_random_machine() -> None:
    dice = random.Random(1)
    model, config = draw_machine(dice)
    assert find_machine_fault(dice, model, config, fastest(), FEW) is None, config


@pytest.mark.bench
def test_standard_cells_behind_axi_take_their_own_code_and_corrections() -> None:
    model = random_model(TransformerConfig(5, width=8, head_dim=4, **SHAPE), seed=1)
    settings = ("lanes_in=8", "target=cells")
    config = machine_config(model, "tint", settings, lanes=4, tile=2, memory="axi", port_bits=64, ring=64)
    assert find_machine_fault(random.Random(2), model, config, fastest(), FEW) is None


@pytest.mark.bench
def test_a_norm_begins_while_a_row_shorter_than_a_word_is_dropped() -> None:
    """Heads of two elements that share keys; tables that reach far beyond the longest vector."""
    model = random_model(TransformerConfig(5, width=4, head_dim=2, **SHAPE), seed=1)
    settings = ("tables=6", "fill_units=1", "group=4")
    config = machine_config(model, "tlmm", settings, lanes=2, tile=2, memory="axi", port_bits=256, ring=64)
    assert find_machine_fault(random.Random(3), model, config, fastest(), FEW) is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"memory": "axi", "ring": 1000}, "'ring' is 1000; allowed: a power of two from 4 up"),
        ({"settings": (("act_bits", 5),)}, "act_bits is 5; in a machine allowed: 8"),
        ({"settings": (("group", 5),), "memory": "axi", "port_bits": 32}, "'port_bits' is 32; allowed: 40 or more"),
    ],
)
def test_a_machine_that_would_not_work_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AcceleratorConfig(ModelShape(), CORE.gateware, steps=(0,) * 16, **fields)
