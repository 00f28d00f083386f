"""The benches can fail: gateware that is broken on purpose must be noticed."""

from collections.abc import Callable, Sequence

import pytest
from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib.wiring import Component

from hw.arith import bit_count
from hw.engines import block_schedule, bwta_array, bwta_trees, tlmm, tlmm_schedule, tlmm_table
from hw.engines.bwta import BwtaConfig
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


PORTABLE, CELLS = (
    BwtaConfig(lanes_in=8, rows=2, n_in_max=32, n_out_max=6, target=target) for target in ("portable", "cells")
)


def lanes_beyond_the_vector_count(patch: pytest.MonkeyPatch) -> None:
    """Activations beyond n_in are stored as they come."""
    patch.setattr(bwta_array.BwtaSums, "trim", block_schedule.Trim(lambda m, stored, *_: (stored, Const(0, 0))))


def a_carry_is_an_or(patch: pytest.MonkeyPatch) -> None:
    """The full adders of the compressor trees carry as soon as one bit is set."""

    def adder(m: Module, name: str, bits: Sequence[Value], target: object) -> list[Value]:
        a, b, c = bits
        return [a ^ b ^ c, a | b | c]

    patch.setattr(bit_count, "_full_adder", adder)


def zeros_are_not_dithered(patch: pytest.MonkeyPatch) -> None:
    """Every zero is stored as one that disagrees with both weights."""
    patch.setattr(
        bwta_trees, "_prefix_parity", lambda m, bits, before, name: ([Const(0, 1)] * len(bits), before ^ bits[0])
    )


@pytest.mark.bench
@pytest.mark.parametrize(
    ("config", "mutation"),
    [(PORTABLE, lanes_beyond_the_vector_count), (PORTABLE, a_carry_is_an_or), (CELLS, zeros_are_not_dithered)],
)
def test_a_mutation_of_bwta_is_noticed(
    config: BwtaConfig, mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    runs = []
    for n_in in (32, 13):
        product = random_product(n_in, 5, 4, config, seed=n_in)
        runs.append(Run([product]))
    said = bench_engine(build_engine("bwta", config), "bwta", config, runs)
    assert any(result["mismatches"] for result in said)
