"""The benches of MixPE can fail: gateware that is broken on purpose must be noticed."""

import dataclasses
from collections.abc import Callable

import pytest
from amaranth.hdl import Const

from nomul.arith.recoding import Digit
from nomul.engines import group_scale, mixpe_array
from nomul.engines.mixpe import MixpeConfig
from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.product import random_product

CONFIG = MixpeConfig(lanes_in=2, rows=2, group=4, n_in_max=16, n_out_max=8, target="cells")


def one_digit_of_the_zero_point(patch: pytest.MonkeyPatch) -> None:
    """The highest digit of a zero point is added, not taken away."""
    honest = Digit.negated
    patch.setattr(Digit, "negated", lambda digit: honest(digit) if digit.shift == 0 else digit)


def the_first_step_does_not_clear(patch: pytest.MonkeyPatch) -> None:
    """The low columns of a sum go on from the last group's."""
    honest = mixpe_array.running_sum
    patch.setattr(
        mixpe_array,
        "running_sum",
        lambda *args, first, **rest: honest(*args, first=(Const(0, 1), first[1]), **rest),
    )


def one_scale_bit(patch: pytest.MonkeyPatch) -> None:
    """The last digit of a scale counts half."""
    honest = group_scale.scale_digits

    def digits(bits: int) -> object:
        recoded = honest(bits)
        *rest, last = recoded.digits
        return dataclasses.replace(recoded, digits=(*rest, dataclasses.replace(last, shift=last.shift - 1)))

    patch.setattr(group_scale, "scale_digits", digits)


MUTATIONS: list[Callable[[pytest.MonkeyPatch], None] | None] = [
    None,
    one_digit_of_the_zero_point,
    the_first_step_does_not_clear,
    one_scale_bit,
]


@pytest.mark.bench
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_noticed(
    mutation: Callable[[pytest.MonkeyPatch], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [random_product(n_in, 5, 3, CONFIG, seed=n_in) for n_in in (7, 16)]
    if mutation is not None:
        mutation(monkeypatch)
    (said,) = bench_core(build_core("mixpe", CONFIG), "mixpe", CONFIG, [Run(products, 0.2, seed=1)])
    assert (said["mismatches"] > 0) == (mutation is not None)
