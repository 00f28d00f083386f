"""Benches of whole machines: small random models, every recorded value against the integer model; faults; resets."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from nomul.accelerator_image import machine_config
from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.memory_map import MemoryMap
from nomul.model.calibration import calibrate
from nomul.model.generation import generate_integer
from nomul.model.integer import IntegerModel
from nomul.model.transformer import Transformer, TransformerConfig
from nomul.sim.accelerator import build_machine, run_jobs, write_dram
from nomul.sim.accelerator_trace import compare
from nomul.sim.runner import Simulator

CHARACTERS = "abcdefghijklmnopq"
SHAPE = TransformerConfig(
    len(CHARACTERS), width=24, layers=2, heads=4, kv_heads=2, head_dim=8, ffn=40, context=24, linear="ternary"
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """A model and a machine for it."""

    engine: str
    settings: tuple[str, ...]
    lanes: int
    tile: int
    activation: str = "relu2"
    tied: bool = True
    fields: tuple[tuple[str, Any], ...] = ()
    """Further ones of the machine."""


SETUPS = {
    "tlmm": Setup("tlmm", ("tables=4", "fill_units=2"), 4, 3),
    "tint": Setup("tint", ("lanes_in=8",), 8, 4, activation="silu", tied=False, fields=(("queries", 3),)),
    "boothflex": Setup("boothflex", ("lanes_in=2",), 4, 1),
    "axi": Setup(
        "tlmm",
        ("tables=4", "fill_units=2"),
        4,
        3,
        fields=(("memory", "axi"), ("ring", 64), ("ports", 2), ("port_bits", 64), ("queries", 2)),
    ),
}


@functools.cache
def model_of(setup: Setup) -> IntegerModel:
    """Return a random model whose values use their ranges."""
    torch.manual_seed(7)
    torch.set_num_threads(1)
    config = dataclasses.replace(SHAPE, activation=setup.activation, tied=setup.tied)
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight") or "layernorm" in name:
                parameter.uniform_(-1.5, 1.5)
            else:
                parameter.normal_(std=0.5)
    return IntegerModel(model, calibrate(model, torch.randint(config.vocabulary, (4, 24))))


@functools.cache
def machine_of(setup: Setup) -> tuple[AcceleratorConfig, Simulator]:
    """Return the configuration and the simulator of its machine."""
    model = model_of(setup)
    config = machine_config(
        model, setup.engine, setup.settings, lanes=setup.lanes, tile=setup.tile, trace=True, **dict(setup.fields)
    )
    return config, build_machine(config)


def run(name: str, jobs: list[dict[str, Any]], folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Run jobs on a machine; each has a time-out that no machine of this size needs."""
    setup = SETUPS[name]
    config, simulator = machine_of(setup)
    return run_jobs(simulator, model_of(setup), config, [{"timeout": 200_000, **job} for job in jobs], folder, seed)[
        "jobs"
    ]


def expected(name: str, prompt: list[int], tokens: int) -> list[int]:
    """Return what the integer model says."""
    return list(generate_integer(model_of(SETUPS[name]), torch.tensor(prompt), tokens, 0.0, 0))


@pytest.mark.bench
@pytest.mark.parametrize("name", SETUPS)
class TestMachine:
    def test_every_value_equals_the_integer_model(self, name: str, tmp_path: Path) -> None:
        prompt = [3, 1, 4, 1, 5, 9, 2, 6]
        (said,) = run(name, [{"prompt": prompt, "tokens": 17}], tmp_path)
        assert said["error"] is None and not said["fault"]
        config, _ = machine_of(SETUPS[name])
        difference = compare(model_of(SETUPS[name]), config, torch.tensor(prompt), said["tokens"], tmp_path)
        assert difference is None, str(difference)
        assert said["tokens"] == expected(name, prompt, 17)

    def test_stalls_and_jobs_behind_each_other_change_nothing(self, name: str, tmp_path: Path) -> None:
        jobs: list[dict[str, Any]] = [
            {"prompt": [index % 17 for index in range(n)], "tokens": 3, "stall": 0.7} for n in (1, 2, 7)
        ]
        for job, said in zip(jobs, run(name, jobs, tmp_path, seed=5), strict=True):
            assert said["error"] is None and said["tokens"] == expected(name, job["prompt"], job["tokens"])

    def test_reset_at_any_time(self, name: str, tmp_path: Path) -> None:
        jobs = [{"prompt": [2, 7, 1, 8], "tokens": 2, "reset_after": 40 + 431 * index} for index in range(12)]
        for said in run(name, jobs, tmp_path):
            assert said["error"] is None and said["tokens"] == expected(name, [2, 7, 1, 8], 2)


@pytest.mark.bench
def test_illegal_jobs_are_refused_and_the_next_one_runs(tmp_path: Path) -> None:
    good = {"prompt": [1, 2], "tokens": 2}
    bad = [
        {"prompt": [], "tokens": 1},
        {"prompt": [], "prompt_length": 1, "tokens": 0},
        {"prompt": [], "prompt_length": 24, "tokens": 2},
        {"prompt": [1, 17, 2], "tokens": 1},
        {"prompt": [31], "tokens": 1},
    ]
    said = run("tlmm", [good, *[job for one in bad for job in (one, good)]], tmp_path)
    for refused, after in zip(said[1::2], said[2::2], strict=True):
        assert refused["fault"] == 1 and refused["tokens"] == []
        assert after["fault"] == 0 and after["tokens"] == expected("tlmm", [1, 2], 2)


@pytest.mark.bench
def test_the_whole_context_is_used(tmp_path: Path) -> None:
    prompt = [index * 5 % 17 for index in range(20)]
    (said,) = run("tint", [{"prompt": prompt, "tokens": 5}], tmp_path)
    assert said["tokens"] == expected("tint", prompt, 5)


def run_on_dram(job: dict[str, Any], folder: Path, **memory: int) -> dict[str, Any]:
    """Run a job on the machine whose memory is DRAM; return what the bench says."""
    setup = SETUPS["axi"]
    config, simulator = machine_of(setup)
    return run_jobs(simulator, model_of(setup), config, [{"timeout": 400_000, **job}], folder, 0, memory)


@pytest.mark.bench
def test_a_dram_that_stalls_changes_nothing(tmp_path: Path) -> None:
    said = run_on_dram({"prompt": [3, 1, 4, 1, 5], "tokens": 4, "stall": 0.5}, tmp_path, stall=160)
    assert said["jobs"][0]["tokens"] == expected("axi", [3, 1, 4, 1, 5], 4) and not said["violation"]


@pytest.mark.bench
def test_a_memory_error_stops_the_job_and_says_so(tmp_path: Path) -> None:
    """SLVERR in the weights of the second layer: no token, no hang, a status."""
    config, _ = machine_of(SETUPS["axi"])
    place = MemoryMap(config)
    low = (place.weights + place.layers_words // 2 + 20) * config.port_bits // 8
    said = run_on_dram({"prompt": [3, 1], "tokens": 2}, tmp_path, error_low=low, error_high=low + 8)
    (job,) = said["jobs"]
    assert job["tokens"] == [] and job["error"] is None and said["memory_error"] == 1 and said["mismatch"] == 0


@pytest.mark.bench
def test_an_image_for_another_machine_is_refused(tmp_path: Path) -> None:
    config, simulator = machine_of(SETUPS["axi"])
    other = dataclasses.replace(config, tile=2)
    write_dram(model_of(SETUPS["axi"]), other, tmp_path / "other.bin")
    image = (tmp_path / "other.bin").read_bytes()
    said = run_jobs(
        simulator, model_of(SETUPS["axi"]), config, [{"prompt": [], "prompt_length": 1, "tokens": 1, "timeout": 4000}],
        tmp_path, image=image,
    )  # fmt: skip
    assert said["mismatch"] == 1 and said["jobs"][0]["tokens"] == []


@pytest.mark.bench
def test_a_wrong_weight_is_found_where_it_is(tmp_path: Path) -> None:
    """The comparison must see one changed trit, and name the projection that it belongs to."""
    setup = SETUPS["boothflex"]
    config, simulator = machine_of(setup)
    model = model_of(setup)
    good = model.layers[1].linears["o_proj"]
    wrong = good.codes.clone()
    wrong[5, 3] = (wrong[5, 3] + 2) % 3 - 1
    model.layers[1].linears["o_proj"] = dataclasses.replace(good, codes=wrong)
    prompt = torch.tensor([3, 1, 4])
    try:
        (said,) = run_jobs(
            simulator, model, config, [{"prompt": prompt.tolist(), "tokens": 1, "timeout": 200_000}], tmp_path
        )["jobs"]
    finally:
        model.layers[1].linears["o_proj"] = good
    difference = compare(model, config, prompt, said["tokens"], tmp_path)
    assert difference is not None and difference.name.startswith("layers.1.o_proj")
    assert (difference.transfer * config.lanes + difference.lane) % SHAPE.width == 5
