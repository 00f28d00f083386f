"""Benches of the systolic arrays: the RTL against plain torch."""

from typing import Any

import pytest

from hw.systolic import weight_stationary
from hw.systolic.systolic import SystolicConfig
from sim import unit_scenarios as scenarios
from sim.check import build_engine
from sim.unit_check import UnitRun, bench_unit, random_jobs

UNIT = "systolic"
SMALL: dict[str, Any] = {"n_in_max": 50, "n_out_max": 20, "tokens_max": 17, "scale_bits": 5}
CONFIGS = {
    "output": SystolicConfig(rows=4, columns=3, group=8, **SMALL),
    "weight": SystolicConfig(rows=4, columns=3, group=8, dataflow="weight", tokens_tile=6, **SMALL),
}


@pytest.mark.bench
@pytest.mark.parametrize("name", CONFIGS)
class TestSystolic:
    def test_random_jobs_with_stalls(self, name: str, simulator_name: str) -> None:
        scenarios.many_random_jobs(UNIT, CONFIGS[name], simulator_name, 100)

    def test_cycles_equal_the_cost_model(self, name: str, simulator_name: str) -> None:
        scenarios.alone(UNIT, CONFIGS[name], simulator_name, scenarios.small_and_large(UNIT, CONFIGS[name]))

    def test_reset_in_mid_flight(self, name: str, simulator_name: str) -> None:
        scenarios.reset_in_mid_flight(UNIT, CONFIGS[name], simulator_name)

    def test_an_illegal_job_does_nothing_and_says_so(self, name: str, simulator_name: str) -> None:
        scenarios.illegal_jobs(UNIT, CONFIGS[name], simulator_name)


@pytest.mark.bench
def test_behind_axi(simulator_name: str) -> None:
    scenarios.behind_axi(UNIT, CONFIGS["output"], simulator_name)


@pytest.mark.bench
def test_a_mutation_is_noticed(monkeypatch: pytest.MonkeyPatch, simulator_name: str) -> None:
    """Elements that keep each code that comes while a tile is loaded, not the first, are broken."""
    monkeypatch.setattr(weight_stationary, "keeps", lambda valid, full, first: valid)
    broken = build_engine(UNIT, CONFIGS["weight"], simulator_name)
    said = bench_unit(broken, CONFIGS["weight"], [UnitRun(random_jobs(UNIT, CONFIGS["weight"], 4, seed=1))])
    assert said[0]["mismatches"]
