"""Benches of leading-one prediction: RTL against the golden predictor, both candidates, on each technology's adders."""

import itertools
from typing import Any

import pytest
import torch

from nomul.attention import leading_one
from nomul.attention.leading_one import LeadingOneConfig
from nomul.formats.leading_one import leading_one_job
from nomul.sim import scenarios
from nomul.sim.check import Run, bench_core, build_core, random_jobs
from nomul.sim.conformance import CoreConformance

UNIT = "leading_one"
CONFIGS = {
    "asymmetric": LeadingOneConfig(lanes=4, length_max=20, keys_max=40),
    "symmetric": LeadingOneConfig(lanes=4, length_max=20, keys_max=40, predictor="symmetric"),
    "ecp5": LeadingOneConfig(lanes=3, length_max=10, keys_max=20, target="ecp5"),
    "xcup": LeadingOneConfig(lanes=5, length_max=14, keys_max=20, target="xcup", queue=16),
    "xcup_symmetric": LeadingOneConfig(
        lanes=8, length_max=24, keys_max=20, target="xcup", predictor="symmetric", act_bits=5
    ),
}


class TestLeadingOne(CoreConformance):
    core = UNIT
    configs = CONFIGS
    random_jobs = 60
    behind_axi = ("asymmetric",)

    @pytest.mark.bench
    def test_no_score_of_the_longest_key_overflows(self, name: str, simulator_name: str) -> None:
        config = CONFIGS[name]
        low, length = -(1 << (config.act_bits - 1)), config.length_max
        jobs = [
            leading_one_job(config, torch.full((length,), query), torch.full((2, length), key))
            for query, key in itertools.product((low, -low - 1), repeat=2)
        ]
        scenarios.run(UNIT, config, simulator_name, [Run(jobs)])


@pytest.mark.bench
@pytest.mark.parametrize("name", ["asymmetric", "symmetric"])
def test_every_query_against_every_key(name: str, simulator_name: str) -> None:
    """Exhaustive: each of the 256 INT8 queries against each of the 256 keys, in one lane, in all lanes' places."""
    config = LeadingOneConfig(lanes=4, length_max=4, keys_max=256, predictor=CONFIGS[name].predictor)
    jobs = []
    for query in range(-128, 128):
        place = query % 4
        vector, keys = torch.zeros(4, dtype=torch.int64), torch.zeros(256, 4, dtype=torch.int64)
        vector[place], keys[:, place] = query, torch.arange(-128, 128)
        jobs.append(leading_one_job(config, vector, keys))
    scenarios.run(UNIT, config, simulator_name, [Run(jobs)])


def lazy_code(patch: pytest.MonkeyPatch) -> None:
    """Negative elements are coded by their complement, not their magnitude."""
    honest = leading_one.Mux

    def complement(test: Any, x: Any, y: Any) -> Any:
        negates = not isinstance(x, int) and not isinstance(y, int) and len(x) == len(y) + 1
        return honest(test, ~y, y) if negates else honest(test, x, y)

    patch.setattr(leading_one, "Mux", complement)


def leaky_sum(patch: pytest.MonkeyPatch) -> None:
    """A key's sum begins with that of the key before."""
    honest = leading_one.Mux
    patch.setattr(
        leading_one,
        "Mux",
        lambda test, x, y: y if isinstance(x, int) and x == 0 and len(y) > 12 else honest(test, x, y),
    )


@pytest.mark.bench
@pytest.mark.parametrize("mutation", [lazy_code, leaky_sum])
def test_a_mutation_is_noticed(mutation: Any, monkeypatch: pytest.MonkeyPatch, simulator_name: str) -> None:
    config = CONFIGS["asymmetric"]
    mutation(monkeypatch)
    broken = build_core(UNIT, config, simulator_name)
    (said,) = bench_core(broken, UNIT, config, [Run(random_jobs(UNIT, config, 20, seed=1))])
    assert said["mismatches"]
