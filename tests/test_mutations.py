"""The benches can fail: gateware that is broken on purpose must be noticed."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib.wiring import Component

from nomul.arith import bit_count
from nomul.arith.carry_save import Control
from nomul.arith.digits import Digit
from nomul.engines import (
    baseline_array,
    block_schedule,
    boothflex_array,
    boothflex_bs_array,
    bwta_array,
    bwta_trees,
    tlmm,
    tlmm_schedule,
    tlmm_table,
)
from nomul.engines.baseline import BaselineConfig
from nomul.engines.boothflex import BoothFlexConfig
from nomul.engines.boothflex_bs import BoothFlexBsConfig
from nomul.engines.bwta import BwtaConfig
from nomul.engines.tlmm import TlmmConfig
from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.product import random_product

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
    broken = build_core("tlmm", CONFIG)
    said = bench_core(broken, "tlmm", CONFIG, [Run(products, stall, seed=1) for stall in (0.0, 0.4, 0.8)])
    assert any(result["mismatches"] for result in said)
    first = next(result["first_mismatch"] for result in said if result["mismatches"])
    assert {"token", "row", "tile", "expected", "got"} <= first.keys()


@pytest.mark.bench
def test_the_unbroken_engine_passes_the_same_products() -> None:
    products = [random_product(64, n_out, 8, CONFIG, seed=n_out) for n_out in (1, 2, 3, 5)]
    honest = build_core("tlmm", CONFIG)
    for said in bench_core(honest, "tlmm", CONFIG, [Run(products, stall, seed=1) for stall in (0.0, 0.4, 0.8)]):
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
    said = bench_core(build_core("bwta", config), "bwta", config, runs)
    assert any(result["mismatches"] for result in said)


def one_short_correction(patch: pytest.MonkeyPatch) -> None:
    """The sum of a step's activations is multiplied by 40 instead of 42."""
    patch.setattr(boothflex_array, "OFFSET", 40)


def one_shift_too_few(patch: pytest.MonkeyPatch) -> None:
    """The fourth digit is shifted by four bits instead of six."""
    honest = boothflex_array.FlexRow.shift
    patch.setattr(
        boothflex_array.FlexRow, "shift", lambda row, sums, tree, shift: honest(row, sums, tree, min(shift, 4))
    )


def one_early_start(patch: pytest.MonkeyPatch) -> None:
    """A block's start values reach the accumulators while the last block's total still settles."""
    honest = boothflex_array.pace

    def early(m: Module, *args: Value, **settings: Any) -> Control:
        control = honest(m, *args, **settings)
        return dataclasses.replace(control, ready=args[0])

    patch.setattr(boothflex_array, "pace", early)


@pytest.mark.bench
@pytest.mark.parametrize("mutation", [one_short_correction, one_shift_too_few, one_early_start])
def test_a_mutation_of_boothflex_is_noticed(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BoothFlexConfig(lanes_in=4, rows=1, n_in_max=32, n_out_max=8, target="cells")
    products = [random_product(32, 5, 3, config, seed=mode, mode=mode) for mode in (0, 1)]
    mutation(monkeypatch)
    broken = build_core("boothflex", config)
    (said,) = bench_core(broken, "boothflex", config, [Run(products)])
    assert said["mismatches"]


def one_digit_not_shifted(patch: pytest.MonkeyPatch) -> None:
    """The lowest digit of a bit-serial weight counts as the highest, which is below zero where it is 2 or 3."""
    honest = boothflex_bs_array.digit_term
    patch.setattr(boothflex_bs_array, "digit_term", lambda code, number, negative: honest(code, number, Const(1, 1)))


def one_product_bit(patch: pytest.MonkeyPatch) -> None:
    """Bit 7 of a product of the baseline takes -2 for -1 and -1 for -2."""
    honest = baseline_array.digit_product

    def product(m: Module, name: str, digit: Digit, number: Value) -> list[Value]:
        bits = honest(m, name, digit, number)
        wrong = dataclasses.replace(digit, minus=digit.twice, twice=digit.minus)
        return [*bits[:7], honest(m, f"{name}_wrong", wrong, number)[7], bits[8]]

    patch.setattr(baseline_array, "digit_product", product)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("engine", "config", "mutation"),
    [
        ("boothflex_bs", BoothFlexBsConfig(lanes_in=3, rows=1, n_in_max=32, n_out_max=8), one_digit_not_shifted),
        ("baseline", BaselineConfig(lanes_in=4, rows=1, n_in_max=32, n_out_max=8, target="cells"), one_product_bit),
    ],
)
def test_a_mutation_of_an_integer_engine_is_noticed(
    engine: str, config: Any, mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [random_product(32, 5, 2, config, seed=3, mode=len(config.modes) - 1)]
    mutation(monkeypatch)
    (said,) = bench_core(build_core(engine, config), engine, config, [Run(products)])
    assert said["mismatches"]
