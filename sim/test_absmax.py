"""Benches of the absmax barrier: RTL against exact rationals of the golden function."""

from typing import Any

import pytest
import torch
from amaranth.hdl import Const, Module, Value
from amaranth.lib.wiring import Component

from nomul.formats.absmax import absmax_job
from nomul.sim import scenarios
from nomul.sim.check import Run, bench_core, build_core, random_jobs
from nomul.sim.conformance import CoreConformance
from nomul.vector import absmax
from nomul.vector.absmax import AbsmaxConfig

UNIT = "absmax"
CONFIGS = {
    "plain": AbsmaxConfig(lanes=4, length_max=60, word_bits=12),
    "single": AbsmaxConfig(lanes=1, length_max=9, word_bits=6, code_bits=4, vectors_waiting=8),
    "odd": AbsmaxConfig(lanes=6, length_max=100, queue=24),
    "ecp5": AbsmaxConfig(lanes=2, length_max=40, word_bits=9, target="ecp5"),
    "xcup": AbsmaxConfig(lanes=3, length_max=40, word_bits=10, target="xcup"),
}


class TestAbsmax(CoreConformance):
    core = UNIT
    configs = CONFIGS
    random_jobs = 120
    behind_axi = ("plain",)

    @pytest.mark.bench
    def test_cycles_of_corners_equal_the_cost_model(self, name: str, simulator_name: str) -> None:
        config = CONFIGS[name]
        longest = absmax_job(config, torch.arange(3 * config.length_max).view(3, -1) % 31 - 15)
        scenarios.run(
            UNIT, config, simulator_name, [Run([job]) for job in (longest, absmax_job(config, torch.ones(40, 1)))]
        )


@pytest.mark.bench
def test_every_value_under_every_maximum(simulator_name: str) -> None:
    """Exhaustive for 7-bit words and 8-bit codes: all quotients, all ties, the least two's complement number."""
    config = AbsmaxConfig(lanes=8, length_max=136, word_bits=7)
    jobs = []
    for top in range(65):
        values = torch.cat((torch.arange(-top, min(top, 63) + 1), torch.tensor([-top])))
        jobs.append(absmax_job(config, values[None]))
    scenarios.run(UNIT, config, simulator_name, [Run(jobs)])


@pytest.mark.bench
def test_sixteen_values_a_cycle(simulator_name: str) -> None:
    """Vectors in a row, long and of one transfer, keep all sixteen lanes busy but for the first and the last."""
    config = AbsmaxConfig(length_max=512)
    random = torch.Generator().manual_seed(1)
    for count, length in ((40, 512), (600, 16)):
        vectors = torch.randint(-(2**19), 2**19, (count, length), generator=random)
        (said,) = scenarios.run(UNIT, config, simulator_name, [Run([absmax_job(config, vectors)])])
        assert said["cycles"] == config.cycles(length=length, vectors=count)
        assert count * length / said["cycles"] > 0.94 * 16


class Broken(Component):
    """A quotient whose dividend's lowest bit is stuck at one."""

    def __init__(self, *arguments: Any) -> None:
        self.whole = HONEST(*arguments)
        super().__init__(self.whole.signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.whole = whole = self.whole
        m.d.comb += [
            whole.magnitude.eq(self.magnitude | 1),
            whole.negative.eq(self.negative),
            self.code.eq(whole.code),
        ]
        m.d.comb += [its.eq(mine) for its, mine in zip(whole.largest, self.largest, strict=True)]
        return m

    latency = staticmethod(absmax.Quotient.latency)


HONEST = absmax.Quotient


def no_tie(patch: pytest.MonkeyPatch) -> None:
    """Ties are never seen."""
    honest = Value.any

    def never(self: Value) -> Any:
        return Const(1, 1) if len(self) == -(-12 // absmax.TIE_BITS) else honest(self)

    patch.setattr(Value, "any", never)


def dull_lane(patch: pytest.MonkeyPatch) -> None:
    """The lowest bit of every magnitude is stuck at one."""
    patch.setattr(absmax, "Quotient", Broken)


def blind_tree(patch: pytest.MonkeyPatch) -> None:
    """The tree of maxima passes the smaller of two values on."""
    honest = absmax.Mux
    patch.setattr(
        absmax, "Mux", lambda test, x, y: honest(test, y, x) if len(Value.cast(x)) == 12 else honest(test, x, y)
    )


@pytest.mark.bench
@pytest.mark.parametrize("mutation", [no_tie, dull_lane, blind_tree])
def test_a_mutation_is_noticed(mutation: Any, monkeypatch: pytest.MonkeyPatch, simulator_name: str) -> None:
    config = AbsmaxConfig(lanes=4, length_max=60, word_bits=12)
    ties = absmax_job(config, torch.tensor([[254, *range(-127, 128, 2)][:60]]))
    mutation(monkeypatch)
    broken = build_core(UNIT, config, simulator_name)
    (said,) = bench_core(broken, UNIT, config, [Run([ties, *random_jobs(UNIT, config, 10, seed=1)])])
    assert said["mismatches"]
    assert {"job", "output", "vector", "index", "transfer", "expected", "got", "last"} == said["first_mismatch"].keys()
