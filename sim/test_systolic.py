"""Benches of the systolic arrays: the RTL against plain torch, for integers and for FP16."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from amaranth.hdl import Const

from nomul.formats.mixpe import GroupQuantized
from nomul.formats.systolic import systolic_job
from nomul.sim import scenarios
from nomul.sim.check import Run, bench_core, build_core, random_jobs
from nomul.sim.conformance import CoreConformance
from nomul.systolic import align, edge, weight_stationary
from nomul.systolic.systolic import SystolicConfig

UNIT = "systolic"
SMALL: dict[str, Any] = {"n_in_max": 50, "n_out_max": 20, "tokens_max": 17, "scale_bits": 5}
FP16: dict[str, Any] = SMALL | {"activation": "fp16"}
CONFIGS = {
    "output": SystolicConfig(rows=4, columns=3, group=8, **SMALL),
    "weight": SystolicConfig(rows=4, columns=3, group=8, dataflow="weight", tokens_tile=6, **SMALL),
    "output_fp16": SystolicConfig(rows=4, columns=3, group=8, **FP16),
    "output_fp16_rounded": SystolicConfig(rows=2, columns=6, group=5, significand=11, fraction_bits=5, **FP16),
    "weight_fp16": SystolicConfig(rows=4, columns=3, group=8, dataflow="weight", tokens_tile=6, **FP16),
    "weight_fp16_rounded": SystolicConfig(
        rows=17, columns=2, group=34, dataflow="weight", tokens_tile=6, significand=12, fraction_bits=6, **FP16
    ),
}


class TestSystolic(CoreConformance):
    core = UNIT
    configs = CONFIGS
    behind_axi = ("output", "weight_fp16")


@pytest.mark.bench
@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if config.floats])
def test_the_largest_sums_and_every_exponent(name: str, simulator_name: str) -> None:
    """Sums of both signs that fill a result; words of each exponent, beside zeros, subnormals and special values."""
    config, jobs = CONFIGS[name], []
    n_in, parts = config.n_in_max, -(-config.n_in_max // config.group)
    for code, zero, word in ((15, 0, 0x7BFF), (0, 15, 0x7BFF), (15, 0, -0x401)):
        scales = torch.full((2, parts), (1 << config.scale_bits) - 1)
        codes = torch.full((2, n_in), code, dtype=torch.int8)
        operands = GroupQuantized(codes, torch.full((2, parts), zero), scales, config.group)
        jobs.append(systolic_job(config, operands, torch.full((1, n_in), word)))
    codes = (torch.arange(9 * n_in).view(9, n_in) * 7 % 16).to(torch.int8)
    operands = GroupQuantized(
        codes, torch.full((9, parts), 8), torch.arange(9 * parts).view(9, parts) % 32, config.group
    )
    for others in (0, -0x8000, 1, -0x7C01, 0x3C01):
        words = torch.full((62, n_in), others)
        fields = torch.arange(31)[:, None] << 10 | torch.tensor([0, 0x155])
        words[:, torch.arange(n_in) % 3 == 1] = fields.flatten()[:, None]
        jobs += [systolic_job(config, operands, part) for part in words.split(config.tokens_max)]
    for special in (0x7C00, -0x400, 0x7E00, 0x7C01):
        words = torch.full((3, n_in), 0x3C00)
        words[1, special % n_in] = special
        jobs.append(systolic_job(config, operands, words))
    scenarios.run(UNIT, config, simulator_name, [Run(jobs)])


def a_code_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """Elements keep each code that comes while a tile is loaded, not the first."""
    patch.setattr(weight_stationary, "keeps", lambda valid, full, first: valid)


def sums_are_floored(patch: pytest.MonkeyPatch) -> None:
    """What is dropped of a scaled sum is forgotten."""
    patch.setattr(edge, "rounds_up", lambda dropped, odd: Const(0, 1))


def ties_go_up(patch: pytest.MonkeyPatch) -> None:
    """A scaled sum half-way between two results is rounded up."""
    patch.setattr(edge, "rounds_up", lambda dropped, odd: dropped[-1])


def exponents_never_fall(patch: pytest.MonkeyPatch) -> None:
    """A group's exponent is the largest of all groups so far."""
    patch.setattr(align, "kept", lambda opens, side: side)


def specials_count(patch: pytest.MonkeyPatch) -> None:
    """Infinities and NaN are numbers of one more exponent."""
    patch.setattr(align, "finite", lambda word: (word, Const(0, 1)))


@pytest.mark.bench
@pytest.mark.parametrize(
    ("name", "mutation"),
    [
        ("weight", a_code_is_not_kept),
        ("output_fp16_rounded", sums_are_floored),
        ("output_fp16_rounded", exponents_never_fall),
        ("weight_fp16", specials_count),
        ("output_fp16_rounded", ties_go_up),
    ],
)
def test_a_mutation_is_noticed(
    name: str, mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, simulator_name: str
) -> None:
    """The jobs are those that the others run without a difference; gateware broken on purpose makes one."""
    mutation(monkeypatch)
    broken = build_core(UNIT, CONFIGS[name], simulator_name)
    said = bench_core(broken, UNIT, CONFIGS[name], [Run(random_jobs(UNIT, CONFIGS[name], 30, seed=0))])
    assert said[0]["mismatches"]
