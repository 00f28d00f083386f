"""What every unit's bench runs, whatever the unit: the claims of `nomul.contract`."""

import functools
from typing import Any

from nomul.formats.job import UnitJob
from nomul.sim.check import build_engine
from nomul.sim.runner import Simulator
from nomul.sim.unit_check import UnitRun, bench_unit, random_jobs

__all__ = [
    "alone", "behind_axi", "illegal_jobs", "many_random_jobs", "reset_in_mid_flight", "run", "run_scenarios",
    "small_and_large",
]  # fmt: skip


@functools.cache
def built(unit: str, config: Any, simulator: str, bus: str) -> Simulator:
    """Build a unit once in a session."""
    return build_engine(unit, config, simulator, bus)


def run(unit: str, config: Any, simulator: str, *runs: UnitRun, bus: str = "stream") -> list[dict[str, Any]]:
    """Run, and fail with the first difference and its seed."""
    said = bench_unit(built(unit, config, simulator, bus), config, runs, bus)
    for result in said:
        assert result["mismatches"] == 0, f"{result['first_mismatch']}; replay with seed {result['seed']}"
        assert result["surplus"] == 0
    return said


def alone(unit: str, config: Any, simulator: str, jobs: list[UnitJob]) -> None:
    """Each job alone takes the cycles of the model when nothing stalls."""
    said = run(unit, config, simulator, *(UnitRun([job]) for job in jobs))
    for job, result in zip(jobs, said, strict=True):
        assert result["cycles"] == config.cycles(**job.fields), job.fields


def many_random_jobs(unit: str, config: Any, simulator: str, count: int) -> None:
    """Jobs in a row are exact without stalls and with few, some and many."""
    stalls = (0.0, 0.1, 0.5, 0.8)
    runs = [
        UnitRun(random_jobs(unit, config, count if not stall else max(10, count // 8), seed), stall, seed)
        for seed, stall in enumerate(stalls)
    ]
    run(unit, config, simulator, *runs)


def reset_in_mid_flight(unit: str, config: Any, simulator: str) -> None:
    """A reset leaves nothing of the jobs before it."""
    jobs = random_jobs(unit, config, 6, seed=5)
    total = sum(config.cycles(**job.fields) for job in jobs)
    moments = (1, 5, total // 5, total // 3, total // 2)
    run(unit, config, simulator, *(UnitRun(jobs, 0.2, seed=after, reset_after=after) for after in moments))


def illegal_jobs(unit: str, config: Any, simulator: str) -> None:
    """A job with a field of zero or above its limit does nothing and raises fault until a legal one is taken."""
    good = random_jobs(unit, config, 1, seed=9)
    wrong = []
    for name, limit in config.job_limits.items():
        wrong.append(good[0].fields | {name: 0})
        if limit + 1 < 1 << limit.bit_length():
            wrong.append(good[0].fields | {name: limit + 1})
    assert len(wrong) > len(config.job_limits)
    for said in run(unit, config, simulator, *(UnitRun(good, illegal_last=[job]) for job in wrong)):
        assert said["fault"] == 1
    (said,) = run(unit, config, simulator, UnitRun(good, illegal_first=wrong))
    assert said["fault"] == 0


def behind_axi(unit: str, config: Any, simulator: str) -> None:
    """Behind AXI results are as exact, and a job alone takes the same cycles."""
    jobs = random_jobs(unit, config, 6, seed=3)
    vectors = sum(job.fields[config.repeats] if config.repeats else 1 for job in jobs)
    runs = [UnitRun(jobs), UnitRun(jobs, 0.4, 1), UnitRun(jobs, 0.2, 2, reset_after=120)]
    for said in run(unit, config, simulator, *runs, bus="axi"):
        assert (said["vectors"], said["fault"]) == (vectors, 0)
    (said,) = run(unit, config, simulator, UnitRun(jobs[:1]), bus="axi")
    assert said["cycles"] == config.cycles(**jobs[0].fields)
    (said,) = run(
        unit, config, simulator, UnitRun(jobs[:1], illegal_last=[dict.fromkeys(jobs[0].fields, 0)]), bus="axi"
    )
    assert said["fault"] == 1


def small_and_large(unit: str, config: Any) -> list[UnitJob]:
    """Return random jobs of which one is as large as they get and one as small."""
    jobs = random_jobs(unit, config, 60, seed=7)
    ordered = sorted(jobs, key=lambda job: config.cycles(**job.fields))
    return [ordered[0], *ordered[10::12], ordered[-1]]


def run_scenarios(unit: str, config: Any, simulator: str, count: int = 100) -> None:
    """Run all of them; `count` random jobs without stalls, and fewer with them."""
    many_random_jobs(unit, config, simulator, count)
    alone(unit, config, simulator, small_and_large(unit, config))
    reset_in_mid_flight(unit, config, simulator)
    illegal_jobs(unit, config, simulator)
