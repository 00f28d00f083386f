"""The requantiser against its golden model: every exponent, ties, both ends of every range."""

import random

import pytest
import torch

from nomul.golden.requantise import requantise
from nomul.golden.scale import Scale
from nomul.sim.pipeline_bench import stream
from nomul.vector.requantise import Requantise

LANES = 4


def check(value_bits: int, bits: int, cases: list[tuple[list[int], int, int]]) -> None:
    """Compare words of (values, mantissa, exponent), one case a cycle."""
    unit = Requantise(LANES, value_bits, bits)
    values, mantissas, exponents = (list(column) for column in zip(*cases, strict=True))
    said = stream(
        unit, {"values": values, "mantissa": mantissas, "exponent": exponents}, ["words"], unit.latency
    )["words"]  # fmt: skip
    scale = Scale(torch.tensor(mantissas)[:, None], torch.tensor(exponents)[:, None])
    want = requantise(torch.tensor(values), scale, bits).tolist()
    wrong = [(case, got, right) for case, got, right in zip(cases, said, want, strict=True) if got != right]
    assert not wrong, f"{len(wrong)} of {len(cases)}, the first: {wrong[0]}"


def any_value(dice: random.Random, width: int) -> int:
    """Return a number of any length, sometimes a power of two or its neighbour."""
    length = dice.randrange(width)
    magnitude = dice.getrandbits(length) if dice.random() < 0.7 else (1 << length) + dice.randrange(-1, 2)
    return max(-(1 << (width - 1)), min((1 << (width - 1)) - 1, dice.choice((-1, 1)) * magnitude))


@pytest.mark.parametrize(("value_bits", "bits"), [(8, 20), (27, 20), (28, 20), (45, 20), (20, 8), (45, 32)])
def test_random_values_and_scales(value_bits: int, bits: int) -> None:
    dice = random.Random(value_bits * bits)
    cases = []
    for number in range(1200):
        values = [any_value(dice, value_bits) for _ in range(LANES)]
        mantissa = dice.choice((0, 1 << 15, (1 << 16) - 1, dice.randrange(1 << 16)))
        mantissa = mantissa if number % 16 == 0 else (1 << 15) | dice.getrandbits(15) & dice.choice((-1, -1 << 11))
        exponent = dice.randrange(-16 - value_bits, bits - 14) if number % 8 else dice.randrange(-512, 512)
        cases.append((values, mantissa, exponent))
    check(value_bits, bits, cases)


@pytest.mark.parametrize("value_bits", [20, 45])
def test_every_exponent(value_bits: int) -> None:
    top = 1 << (value_bits - 1)
    rows = [[-top, top - 1, 1, -1], [0, -3, 3, -top + 1]]
    cases = [(row, mantissa, e) for e in range(-512, 512) for row in rows for mantissa in (1 << 15, (1 << 16) - 1)]
    cases += [(rows[1], mantissa, e) for e in range(-40, 40) for mantissa in (0, 1, 3)]
    check(value_bits, 20, cases)


@pytest.mark.parametrize("value_bits", [22, 36])
def test_ties_and_the_edge_of_saturation(value_bits: int) -> None:
    cases = []
    # A mantissa of 2^15 and an exponent of -15 - k make an exact division by 2^k.
    for k in range(1, value_bits - 1):
        for centre in (0, 1, 2, (1 << 19) - 2, (1 << 19) - 1, 1 << 19):
            half = (centre << k) + (1 << (k - 1))
            row = [max(-(1 << (value_bits - 1)), min((1 << (value_bits - 1)) - 1, half + near)) for near in (-1, 0, 1)]
            cases += [([*row, 0], 1 << 15, -15 - k), ([*(~value for value in row), 5], 1 << 15, -15 - k)]
            cases += [([*(max(-value, -(1 << (value_bits - 1))) for value in row), 5], 1 << 15, -15 - k)]
    check(value_bits, 20, cases)
