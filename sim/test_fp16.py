"""Benches of the FP16 array: the RTL against exact integer arithmetic, in Verilator or Icarus."""

import functools
from typing import Any

import pytest
import torch

from hw.engines.fp16_fma import Fp16FmaConfig
from sim.check import Product, Run, random_words
from sim.scenarios import Scenarios

SMALL: dict[str, Any] = {"n_in_max": 24, "n_out_max": 16}
CONFIGS = {
    "portable": Fp16FmaConfig(rows=2, **SMALL),
    "cells": Fp16FmaConfig(rows=3, target="cells", **SMALL),
}


@functools.cache
def scenarios(name: str, simulator: str) -> Scenarios:
    return Scenarios("fp16", CONFIGS[name], simulator)


@pytest.mark.bench
@pytest.mark.parametrize("name", CONFIGS)
class TestFp16:
    def test_extreme_operands(self, name: str, simulator_name: str) -> None:
        scenarios(name, simulator_name).extreme_operands()

    def test_cycles_equal_the_cost_model(self, name: str, simulator_name: str) -> None:
        scenarios(name, simulator_name).cycles_equal_the_cost_model([(7, 4, 4), (1, 5, 9)])

    def test_ragged_sizes_with_stalls(self, name: str, simulator_name: str) -> None:
        scenarios(name, simulator_name).ragged_sizes_with_stalls()

    def test_reset_in_mid_flight(self, name: str, simulator_name: str) -> None:
        scenarios(name, simulator_name).reset_in_mid_flight()

    def test_illegal_jobs_do_nothing(self, name: str, simulator_name: str) -> None:
        scenarios(name, simulator_name).illegal_jobs_do_nothing()


@pytest.mark.bench
@pytest.mark.parametrize("name", CONFIGS)
def test_many_random_sums(name: str, simulator_name: str) -> None:
    """Sums of two and three products, where every alignment, cancellation and tie of an element occurs."""
    runs = []
    for seed in range(6):
        random = torch.Generator().manual_seed(seed)
        n_in = 2 + seed % 2
        weight, activations = random_words((16, n_in), random), random_words((150, n_in), random)
        # Near cancellations: the second product is about the first one's negative.
        activations[::2, 1] = activations[::2, 0] ^ torch.randint(0, 4, (75,), generator=random)
        weight[::2, 1] = weight[::2, 0] ^ -0x8000
        runs.append(Run([Product(weight, activations)], seed=seed))
    scenarios(name, simulator_name).run(*runs)
