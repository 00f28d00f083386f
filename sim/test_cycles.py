"""The model of cycles against simulated machines."""

from pathlib import Path

import pytest

from hw.accelerators.cycles import ERROR, CycleModel
from hw.accelerators.sequencer import Step
from sim.accelerator import run_jobs
from sim.test_machine import SETUPS, machine_of, model_of

JOBS = ((1, 1), (3, 1), (8, 6), (20, 5))
"""Lengths of prompts, and tokens to generate."""

STEP_ERROR = 0.16
"""Largest relative error of a step; the smallest steps here take about 30 cycles."""


@pytest.mark.bench
@pytest.mark.parametrize("name", SETUPS)
def test_cycles_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    setup = SETUPS[name]
    config, simulator = machine_of(setup)
    jobs = [{"prompt": [place % 13 for place in range(n)], "tokens": m, "timeout": 200_000} for n, m in JOBS]
    said = run_jobs(simulator, model_of(setup), config, jobs, tmp_path, steps=True)["jobs"]
    model = CycleModel(config)
    for (prompt, tokens), outcome in zip(JOBS, said, strict=True):
        passes = model.job(prompt, tokens)
        simulated = sum(outcome["steps"].values())
        assert sum(each.total for each in passes) == pytest.approx(simulated, rel=ERROR)
        prefill = sum(each.total for each in passes[: -(-prompt // config.tile)])
        assert prefill == pytest.approx(outcome["cycles"][0], rel=ERROR)
        for step in Step:
            cycles = sum(each.steps[step] for each in passes)
            assert cycles == pytest.approx(outcome["steps"][str(int(step))], rel=STEP_ERROR, abs=20), step.name
