"""The model of cycles against simulated machines."""

from pathlib import Path

import pytest

from nomul.accelerators.cycles import ERROR, CycleModel, MemoryRate
from nomul.accelerators.sequencer import Step
from nomul.sim.accelerator import build_machine, run_jobs
from nomul.sim.dram import DramConfig
from sim.test_machine import SETUPS, machine_of, model_of

JOBS = ((1, 1), (3, 1), (8, 6), (20, 5))
"""Lengths of prompts, and tokens to generate."""

STEP_ERROR = 0.16
"""Largest relative error of a step; the smallest steps here take about 30 cycles."""


def check(name: str, memory: MemoryRate | None, folder: Path) -> None:
    """Simulate jobs and compare them with the model: all cycles, those until the first token, and those of each step.

    With DRAM it is chance whether the first norm or the embedding waits for weights, so they count together.
    """
    config, simulator = machine_of(SETUPS[name])
    if memory is not None:
        rate = DramConfig(rate_bytes=16, rate_cycles=round(16 / memory.bytes_per_cycle))
        simulator = build_machine(config, rate)
    jobs = [{"prompt": [place % 13 for place in range(n)], "tokens": m, "timeout": 200_000} for n, m in JOBS]
    said = run_jobs(simulator, model_of(SETUPS[name]), config, jobs, folder, steps=True)["jobs"]
    model = CycleModel(config, memory)
    for (prompt, tokens), outcome in zip(JOBS, said, strict=True):
        passes = model.job(prompt, tokens)
        simulated = {step: outcome["steps"][str(int(step))] for step in Step}
        cycles = {step: sum(each.steps[step] for each in passes) for step in Step}
        assert sum(each.total for each in passes) == pytest.approx(sum(outcome["steps"].values()), rel=ERROR)
        prefill = sum(each.total for each in passes[: -(-prompt // config.tile)])
        assert prefill == pytest.approx(outcome["cycles"][0], rel=ERROR)
        if config.memory == "axi":
            for found in (simulated, cycles):
                found[Step.NORM_INPUT] += found.pop(Step.EMBED)
        for step, count in simulated.items():
            assert cycles[step] == pytest.approx(count, rel=STEP_ERROR, abs=20), step.name


@pytest.mark.bench
@pytest.mark.parametrize("name", SETUPS)
def test_cycles_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    check(name, None, tmp_path)


@pytest.mark.bench
def test_cycles_with_a_slow_memory(tmp_path: Path) -> None:
    check("axi", MemoryRate(1.0), tmp_path)
