"""Benches of top-K: RTL against the golden selection, which is proven against a stable sort."""

import itertools
from typing import Any

import pytest
import torch

from nomul.attention import top_k_select
from nomul.attention.top_k import TopKConfig
from nomul.formats.top_k import top_k_job
from nomul.sim import scenarios
from nomul.sim.check import Run, bench_core, build_core, random_jobs
from nomul.sim.conformance import CoreConformance

UNIT = "top_k"
CONFIGS = {
    "plain": TopKConfig(lanes=8, score_bits=6, scores_max=75),
    "narrow": TopKConfig(lanes=4, score_bits=2, scores_max=40, queue=8),
    "wide": TopKConfig(lanes=32, score_bits=9, scores_max=200),
}


class TestTopK(CoreConformance):
    core = UNIT
    configs = CONFIGS
    random_jobs = 1000
    behind_axi = ("plain",)

    @pytest.mark.bench
    def test_cycles_of_corners_equal_the_cost_model(self, name: str, simulator_name: str) -> None:
        """The cycles depend on M and K alone: the same for ties, for spread scores and for extremes."""
        config = CONFIGS[name]
        most, low = config.scores_max, -(1 << (config.score_bits - 1))
        jobs = []
        for m, k in itertools.product((1, config.lanes, config.lanes + 1, most), (1, 3, most)):
            for scores in (torch.zeros(m), torch.arange(m) % -low, torch.tensor([low, -low - 1]).repeat(m)[:m]):
                jobs.append(top_k_job(config, scores.long(), k))
        scenarios.run(UNIT, config, simulator_name, [Run([job]) for job in jobs])


@pytest.mark.bench
def test_every_selection_of_five_small_scores(simulator_name: str) -> None:
    """Exhaustive: all 1024 vectors of five 2-bit scores, with every K."""
    config = CONFIGS["narrow"]
    jobs = [
        top_k_job(config, torch.tensor(scores), k) for scores in itertools.product(range(-2, 2), repeat=5)
        for k in (range(1, 6) if sum(scores) % 3 == 0 else (2, 3))
    ]  # fmt: skip
    scenarios.run(UNIT, config, simulator_name, [Run(jobs)])


def young_ties(patch: pytest.MonkeyPatch) -> None:
    """Every lane counts one survivor of its group too few before it, so one tie too many is chosen."""
    honest = top_k_select.ones
    patch.setattr(top_k_select, "ones", lambda bits: honest(bits[1:]) if 0 < len(bits) < 4 else honest(bits))


def hasty_passes(patch: pytest.MonkeyPatch) -> None:
    """The next pass begins a cycle before the outcome of the last is known."""
    patch.setattr(TopKConfig, "gap", property(lambda self: 2 + self.count_stages))


def lost_group(patch: pytest.MonkeyPatch) -> None:
    """The last group of lanes is not counted."""
    honest = top_k_select.tree
    patch.setattr(top_k_select, "tree", lambda values: honest(values[:-1]) if len(values) == 2 else honest(values))


@pytest.mark.bench
@pytest.mark.parametrize("mutation", [young_ties, hasty_passes, lost_group])
def test_a_mutation_is_noticed(mutation: Any, monkeypatch: pytest.MonkeyPatch, simulator_name: str) -> None:
    config = CONFIGS["plain"]
    mutation(monkeypatch)
    broken = build_core(UNIT, config, simulator_name)
    said = bench_core(broken, UNIT, config, [Run([job]) for job in random_jobs(UNIT, config, 30, seed=1)])
    assert any(result["mismatches"] for result in said)
