"""The benches can fail: gateware that is broken on purpose must be noticed."""

from collections.abc import Callable

import pytest
from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import Component

from hw.engines import tlmm, tlmm_schedule, tlmm_table
from hw.engines.tlmm import TlmmConfig
from sim.check import Run, bench_engine, build_engine, random_product

CONFIG = TlmmConfig(group=2, tables=4, rows=2, fill_units=4, n_in_max=64, n_out_max=8)
"""Tables that fill faster than stalled weights come: steps follow each other closely."""


class StuckBit(Component):
    """A signed sum one bit of whose total is stuck at zero."""

    def __init__(self, whole: Component) -> None:
        self.whole = whole
        super().__init__(whole.signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.whole = whole = self.whole
        m.d.comb += [whole.addend.eq(self.addend)]
        for mine, its in zip([*self.words, *self.signs], [*whole.words, *whole.signs], strict=True):
            m.d.comb += its.eq(mine)
        m.d.comb += self.total.eq(Cat(whole.total[:5], Const(0, 1), whole.total[6:]))
        return m


def one_table_entry(patch: pytest.MonkeyPatch) -> None:
    """The last entry of every table differs by the wrong activation."""
    honest = tlmm_table.gray_walk

    def walk(group: int) -> list[tuple[int, int]]:
        *moves, (which, change) = honest(group)
        return [*moves, (which - 1 if which else which + 1, change)]

    patch.setattr(tlmm_table, "gray_walk", walk)


def one_accumulator_bit(patch: pytest.MonkeyPatch) -> None:
    """Bit 5 of every accumulator is stuck at zero."""
    honest = tlmm.signed_sum
    patch.setattr(tlmm, "signed_sum", lambda *args: StuckBit(honest(*args)))


def one_dropped_stall(patch: pytest.MonkeyPatch) -> None:
    """The next step does not wait until a block's accumulators are written."""
    patch.setattr(tlmm_schedule.LookupSchedule, "GAP", 2)


@pytest.mark.bench
@pytest.mark.parametrize("mutation", [one_table_entry, one_accumulator_bit, one_dropped_stall])
def test_a_mutation_is_noticed(mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    products = [random_product(64, n_out, 8, CONFIG, seed=n_out) for n_out in (1, 2, 3, 5)]
    mutation(monkeypatch)
    broken = build_engine("tlmm", CONFIG)
    said = bench_engine(broken, "tlmm", CONFIG, [Run(products, stall, seed=1) for stall in (0.0, 0.4, 0.8)])
    assert any(result["mismatches"] for result in said)
    first = next(result["first_mismatch"] for result in said if result["mismatches"])
    assert {"token", "row", "tile", "expected", "got"} <= first.keys()


@pytest.mark.bench
def test_the_unbroken_engine_passes_the_same_products() -> None:
    products = [random_product(64, n_out, 8, CONFIG, seed=n_out) for n_out in (1, 2, 3, 5)]
    honest = build_engine("tlmm", CONFIG)
    for said in bench_engine(honest, "tlmm", CONFIG, [Run(products, stall, seed=1) for stall in (0.0, 0.4, 0.8)]):
        assert (said["mismatches"], said["surplus"]) == (0, 0)
