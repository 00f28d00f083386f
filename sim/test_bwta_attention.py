"""Benches of BWTA's attention: RTL against the golden chain, which is proven against plain torch, and on a model."""

import itertools
from typing import Any

import pytest
import torch

from nomul.attention import bwta_attention
from nomul.attention.bwta_attention import BwtaAttentionConfig
from nomul.formats.bwta_attention import bwta_attention_job
from nomul.model import checkpoints
from nomul.model.operators import attention_heads
from nomul.sim import scenarios
from nomul.sim.check import Run, bench_core, build_core, random_jobs
from nomul.sim.conformance import CoreConformance
from nomul.vector import threshold

UNIT = "bwta_attention"
CONFIGS = {
    "plain": BwtaAttentionConfig(lanes_in=8, rows=4, size_max=40, keys_max=150, queue=16),
    "square": BwtaAttentionConfig(lanes_in=12, rows=12, size_max=30, keys_max=250, query_bits=5, queue=16),
    "cells": BwtaAttentionConfig(lanes_in=8, rows=2, size_max=20, keys_max=40, target="cells"),
}


class TestBwtaAttention(CoreConformance):
    core = UNIT
    configs = CONFIGS
    random_jobs = 200
    behind_axi = ("plain",)

    @pytest.mark.bench
    def test_cycles_of_corners_equal_the_cost_model(self, name: str, simulator_name: str) -> None:
        """With a query of one beat scores come a transfer a cycle, more of them than the queue holds."""
        config = CONFIGS[name]
        jobs = []
        sizes = (1, config.lanes_in, config.lanes_in + 1, config.size_max)
        for size, keys in itertools.product(sizes, (1, config.rows + 1, 2 * config.lanes_in, config.keys_max)):
            ones = torch.ones(keys, size, dtype=torch.int8)
            jobs.append(bwta_attention_job(config, torch.full((size,), 3), ones, ones, 5, 1))
        scenarios.run(UNIT, config, simulator_name, [Run([job]) for job in jobs])


@pytest.mark.bench
def test_a_head_of_the_model(simulator_name: str) -> None:
    """What leaves for the queries of the committed model is what plain torch says, and for most is not nothing."""
    config, tokens = CONFIGS["plain"], 48
    head = attention_heads(checkpoints.path("tiny_bwta"), "model.layers.1.self_attn", checkpoints.sample_text(), tokens)
    jobs, some = [], 0
    for position in range(tokens):
        query, scale = head.queries[position], head.score_scales[position]
        keys, values = head.keys[: position + 1], head.values[: position + 1]
        # Of integers a scale of 0 asks what 1 asks.
        job = bwta_attention_job(config, query, keys, values, head.query_scale, max(1, scale))
        packed = (2 * query > head.query_scale).long() - (2 * query < -head.query_scale).long()
        expected = values.long().T @ (2 * (keys.long() @ packed) > scale).long()
        assert job.outputs["results"][0].flatten().tolist() == expected.tolist()
        some += bool(expected.any())
        jobs.append(job)
    assert some > 40
    scenarios.run(UNIT, config, simulator_name, [Run(jobs), Run(jobs, 0.2, 1)])


def ties_that_pass(patch: pytest.MonkeyPatch) -> None:
    """A value of exactly half a scale becomes 1."""
    patch.setattr(threshold, "exceeds", lambda double, scale: double >= scale)


def hasty_jobs(patch: pytest.MonkeyPatch) -> None:
    """The next job is taken while scores of the last are still to be collected."""
    patch.setattr(bwta_attention, "busy", lambda scores, values, querying, collecting: scores | values | querying)


def stale_word(patch: pytest.MonkeyPatch) -> None:
    """A query's last scores wait for a full word, which the next query's begin to fill."""
    patch.setattr(bwta_attention, "fills", lambda place, last, parts: place == parts - 1)


def one_transfer_more(patch: pytest.MonkeyPatch) -> None:
    """A vector that ends with its transfer waits for another."""
    patch.setattr(bwta_attention, "ends", lambda left, lanes: left < lanes)


@pytest.mark.bench
@pytest.mark.parametrize("mutation", [ties_that_pass, hasty_jobs, stale_word, one_transfer_more])
def test_a_mutation_is_noticed(mutation: Any, monkeypatch: pytest.MonkeyPatch, simulator_name: str) -> None:
    config = CONFIGS["plain"]
    mutation(monkeypatch)
    broken = build_core(UNIT, config, simulator_name)
    said = bench_core(broken, UNIT, config, [Run(random_jobs(UNIT, config, 10, seed=seed)) for seed in range(3)])
    assert any(result["mismatches"] for result in said)
