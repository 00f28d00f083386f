"""Rounding, scales and the requantiser against exact rationals."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.golden import rounding, scale
from nomul.golden.requantise import requantise, requantise_unsigned
from nomul.golden.scale import Scale

I = torch.tensor  # noqa: E741
mantissas = st.integers(1 << 15, (1 << 16) - 1)
scales = st.tuples(mantissas, st.integers(-80, 80))


def make(pair: tuple[int, int]) -> Scale:
    return Scale(I(pair[0]), I(pair[1]))


def exact(value: Scale) -> Fraction:
    return int(value.mantissa) * Fraction(2) ** int(value.exponent)


def normalised(value: Scale) -> bool:
    return 1 << 15 <= int(value.mantissa) < 1 << 16


def relative(value: Scale, true: Fraction) -> Fraction:
    return abs(exact(value) / true - 1)


@given(st.integers(-(2**61), 2**61), st.integers(0, 80))
def test_shift_round_is_half_even(value: int, shift: int) -> None:
    assert int(rounding.shift_round(I(value), shift)) == round(Fraction(value, 2**shift))


@pytest.mark.parametrize("value", [2**62, -(2**62), 2**62 - 1, 1 - 2**62, 0, 1, -1])
@pytest.mark.parametrize("shift", [0, 1, 2, 61, 62, 63, 64, 1000])
def test_shift_round_at_the_extremes(value: int, shift: int) -> None:
    assert int(rounding.shift_round(I(value), shift)) == round(Fraction(value, 2**shift))


def test_shift_round_ties_and_neighbours_exhaustively() -> None:
    values = torch.arange(-300, 301)
    for shift in range(10):
        expected = [round(Fraction(int(v), 2**shift)) for v in values]
        assert rounding.shift_round(values, shift).tolist() == expected
    assert rounding.shift_round(values, -3).tolist() == (values * 8).tolist()


@given(st.integers(-(2**61), 2**61), st.integers(1, 2**61))
def test_divide_round_is_half_even(numerator: int, denominator: int) -> None:
    assert int(rounding.divide_round(I(numerator), I(denominator))) == round(Fraction(numerator, denominator))


def test_divide_round_exhaustively_on_small_numbers() -> None:
    n, d = torch.meshgrid(torch.arange(-130, 131), torch.arange(1, 66), indexing="ij")
    expected = [[round(Fraction(int(a), int(b))) for a, b in zip(x, y, strict=True)] for x, y in zip(n, d, strict=True)]
    assert rounding.divide_round(n, d).tolist() == expected


@given(st.integers(0, 2**40 - 1))
def test_square_root_is_isqrt(value: int) -> None:
    assert int(rounding.square_root(I(value))) == math.isqrt(value)


@given(st.integers(0, 2**62))
def test_bit_length(value: int) -> None:
    assert int(rounding.bit_length(I(value))) == value.bit_length()


def test_saturate_is_symmetric() -> None:
    assert rounding.saturate(I([-200, -128, -127, 0, 127, 128]), 8).tolist() == [-127, -127, -127, 0, 127, 127]


@given(st.integers(1, 2**61), st.integers(-100, 100))
def test_normalise_rounds_once(value: int, exponent: int) -> None:
    result = scale.normalise(I(value), exponent)
    assert normalised(result)
    assert relative(result, value * Fraction(2) ** exponent) <= Fraction(1, 2**16)
    shift = value.bit_length() - 16
    assert exact(result) == round(value / Fraction(2) ** shift) * Fraction(2) ** (exponent + shift)


@given(scales, scales)
def test_products_quotients_and_sums(a: tuple[int, int], b: tuple[int, int]) -> None:
    x, y = make(a), make(b)
    product, quotient, total = scale.multiply(x, y), scale.divide(x, y), scale.add(x, y)
    assert normalised(product) and normalised(quotient) and normalised(total)
    assert relative(product, exact(x) * exact(y)) <= Fraction(1, 2**16)
    assert relative(quotient, exact(x) / exact(y)) <= Fraction(1, 2**16) + Fraction(1, 2**16)
    assert relative(total, exact(x) + exact(y)) <= Fraction(1, 2**16) + Fraction(1, 2**30)


@given(scales)
def test_zero_scales(a: tuple[int, int]) -> None:
    x, zero = make(a), make((0, 0))
    assert exact(scale.add(x, zero)) == exact(scale.add(zero, x)) == exact(x)
    assert exact(scale.multiply(x, zero)) == exact(scale.add(zero, zero)) == exact(scale.rsqrt(zero)) == 0


def test_rsqrt_of_every_mantissa() -> None:
    mantissa = torch.arange(1 << 15, 1 << 16)
    for exponent in (-31, -30, 0, 1, 17):
        result = scale.rsqrt(Scale(mantissa, torch.full_like(mantissa, exponent)))
        true = (mantissa.double() * 2.0**exponent).rsqrt()
        assert float((result.to_float() / true - 1).abs().max()) < 2**-15
        assert bool(((result.mantissa >= 1 << 15) & (result.mantissa < 1 << 16)).all())


@given(st.fractions(Fraction(1, 10**9), 10**9))
def test_constants_are_nearest(value: Fraction) -> None:
    result = scale.constant(value)
    assert normalised(result)
    assert relative(result, value) <= Fraction(1, 2**16)


def test_constant_refuses_a_negative_value() -> None:
    with pytest.raises(ValueError, match=r"^a scale is -1; it must not be negative$"):
        scale.constant(-1)


def test_an_exponent_out_of_range_is_an_error() -> None:
    with pytest.raises(OverflowError, match=r"10 bits hold -512 to 511"):
        scale.multiply(make((1 << 15, 500)), make((1 << 15, 500)))


@settings(max_examples=300)
@given(st.integers(-(2**45) + 1, 2**45 - 1), mantissas, st.integers(-80, 30))
def test_requantise_rounds_once_and_saturates(value: int, mantissa: int, exponent: int) -> None:
    true = round(value * mantissa * Fraction(2) ** exponent)
    factor = make((mantissa, exponent))
    assert int(requantise(I(value), factor)) == max(-524287, min(524287, true))
    assert int(requantise_unsigned(I(abs(value)), factor, 16)) == min(65535, abs(true))


def test_square_root_around_every_square() -> None:
    root = torch.arange(1, 1 << 20)
    assert torch.equal(rounding.square_root(root * root), root)
    assert torch.equal(rounding.square_root(root * root - 1), root - 1)
    assert int(rounding.square_root(I((1 << 40) - 1))) == (1 << 20) - 1
