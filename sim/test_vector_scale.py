"""The scale unit against the golden functions: values, zeros, and the cycles that its documentation says."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from nomul.golden import scale
from nomul.golden.requantise import requantise_unsigned
from nomul.golden.scale import Scale
from nomul.sim.pipeline_bench import simulate
from nomul.vector.scale import FIX_BITS, Operation, ScaleUnit

Pair = tuple[int, int]
Case = tuple[Operation, Pair, Pair, int]

SMALL, LARGE = 1 << 15, (1 << 16) - 1
EDGES = (SMALL, SMALL + 1, LARGE - 1, LARGE, 46340, 46341)


def run(cases: list[Case], integer_bits: int = 62) -> list[tuple[Pair, int, int]]:
    """Return result, word and cycles of each case."""
    unit, said = ScaleUnit(integer_bits), []

    async def bench(ctx: Any) -> None:
        for number, (operation, a, b, integer) in enumerate(cases):
            ctx.set(unit.operation, operation)
            ctx.set(unit.a, {"mantissa": a[0], "exponent": a[1]})
            ctx.set(unit.b, {"mantissa": b[0], "exponent": b[1]})
            ctx.set(unit.integer, integer)
            ctx.set(unit.start, 1)
            await ctx.tick()
            ctx.set(unit.start, number % 2)
            # The operands are taken: what comes after must not matter, another start included.
            ctx.set(unit.operation, Operation.NORMALISE)
            ctx.set(unit.a, {"mantissa": 0x5555, "exponent": -333})
            ctx.set(unit.b, {"mantissa": 0x9999, "exponent": 222})
            ctx.set(unit.integer, 1)
            cycles = 1
            while not ctx.get(unit.done):
                ctx.set(unit.start, 0 if cycles > 3 else number % 2)
                await ctx.tick()
                cycles += 1
                assert cycles < 200
            result = ctx.get(unit.result)
            said.append(((result["mantissa"], result["exponent"]), ctx.get(unit.word), cycles))

    simulate(unit, bench)
    return said


def golden(cases: list[Case], function: Callable[..., Scale], *names: str) -> list[Pair]:
    """Return the golden results, of operands of these names."""
    columns = {
        "a": Scale(torch.tensor([case[1][0] for case in cases]), torch.tensor([case[1][1] for case in cases])),
        "b": Scale(torch.tensor([case[2][0] for case in cases]), torch.tensor([case[2][1] for case in cases])),
        "integer": torch.tensor([case[3] for case in cases]),
    }
    result = function(*(columns[name] for name in names))
    return list(zip(result.mantissa.tolist(), result.exponent.tolist(), strict=True))


def any_mantissa(dice: random.Random) -> int:
    return dice.choice(EDGES) if dice.random() < 0.3 else dice.randint(SMALL, LARGE)


def pairs(count: int, near: int, zero_b: bool = True) -> list[tuple[Pair, Pair]]:
    """Return random operands, zeros among them, with exponents within `near` of each other or far apart."""
    dice, found = random.Random(near), []
    for number in range(count):
        ea = dice.randint(-150, 150)
        eb = ea + dice.randint(-near, near) if number % 8 else dice.randint(-200, 200)
        a = (any_mantissa(dice), ea) if number % 23 else (0, 0)
        b = (any_mantissa(dice), eb) if number % 29 or not zero_b else (0, 0)
        found.append((a, b))
    return found


def compare(cases: list[Case], said: list[tuple[Pair, int, int]], want: list[Pair], least: int, most: int) -> None:
    """Compare results, and the cycles with the documented range."""
    wrong = [(case, got[0], right) for case, got, right in zip(cases, said, want, strict=True) if got[0] != right]
    assert not wrong, f"{len(wrong)} of {len(cases)}, the first: {wrong[0]}"
    assert least <= min(got[2] for got in said) and max(got[2] for got in said) <= most


@pytest.mark.parametrize("integer_bits", [62, 25])
def test_normalise(integer_bits: int) -> None:
    dice = random.Random(integer_bits)
    integers = [0, (1 << integer_bits) - 1]
    for length in range(1, integer_bits + 1):
        top = 1 << (length - 1)
        integers += [top, (top << 1) - 1, top | dice.getrandbits(length)]
        for below in range(length - 16):
            if below % 5 == length % 5:
                unit = 1 << (below + 1)
                integers += [dice.randrange(1 << 15, 1 << 16) * unit // 2 + near for near in (-1, 0, 1)]
    integers = [integer & ((1 << integer_bits) - 1) for integer in integers]
    integers += [((((1 << 17) - 1) << (length - 17)) + near) for length in (17, 18, 25) for near in (-1, 0)]
    cases: list[Case] = [(Operation.NORMALISE, (LARGE, 5), (SMALL, 3), integer) for integer in integers]
    said = run(cases, integer_bits)
    compare(cases, said, golden(cases, scale.normalise, "integer"), 5, 18)
    # Leading zeros are shifted out by eights and by ones.
    for (_, _, _, integer), (_, _, cycles) in zip(cases, said, strict=True):
        zeros = 62 - integer.bit_length() if integer else 0
        assert cycles == 5 + zeros // 8 + zeros % 8


def test_multiply() -> None:
    cases: list[Case] = [(Operation.MULTIPLY, a, b, 77) for a, b in pairs(600, 150)]
    cases += [(Operation.MULTIPLY, (x, -3), (y, 4), 0) for x in EDGES for y in EDGES]
    compare(cases, run(cases), golden(cases, scale.multiply, "a", "b"), 6, 19)


def test_divide() -> None:
    cases: list[Case] = [(Operation.DIVIDE, a, b, 77) for a, b in pairs(500, 200, zero_b=False)]
    cases += [(Operation.DIVIDE, (x, -3), (y, 4), 0) for x in EDGES for y in EDGES]
    compare(cases, run(cases), golden(cases, scale.divide, "a", "b"), 23, 36)


def test_add() -> None:
    cases: list[Case] = [(Operation.ADD, a, b, 77) for a, b in pairs(600, 34)]
    cases += [(Operation.ADD, (x, 0), (y, e), 0) for x in EDGES for y in EDGES for e in (0, -1, 1, -16, 17, -31, 32)]
    cases += [(Operation.ADD, (0, 0), (0, 0), 9)]
    cases += [(Operation.ADD, (LARGE, e), (LARGE, -e), 0) for e in range(-34, 35)]
    cases += [(Operation.ADD, (LARGE, e), (0, 0), 0) for e in (-466, 400)]
    cases += [(Operation.ADD, (0, 0), (SMALL, e), 0) for e in (-466, 400)]
    cases += [(Operation.ADD, (LARGE, e), (LARGE, -e), 0) for e in (-466, 400)]
    compare(cases, run(cases), golden(cases, scale.add, "a", "b"), 7, 33)


def test_rsqrt() -> None:
    dice = random.Random(1)
    exponents = [*range(-8, 8), -512, -511, 510, 511]
    cases: list[Case] = [(Operation.RSQRT, (x, e), (SMALL, 9), 7) for x in EDGES for e in exponents]
    cases += [
        (Operation.RSQRT, (dice.randint(SMALL, LARGE), dice.randint(-512, 511)), (SMALL, 9), 7) for _ in range(200)
    ]
    compare(cases, run(cases), golden(cases, scale.rsqrt, "a"), 75, 88)


def test_rsqrt_of_zero() -> None:
    cases: list[Case] = [(Operation.RSQRT, (0, 0), (SMALL, 9), 7)]
    compare(cases, run(cases), [(0, 0)], 5, 5)


def test_fix() -> None:
    dice, cases = random.Random(3), []
    top = (1 << FIX_BITS) - 1
    for number in range(900):
        integer = dice.choice((0, 1, top, dice.getrandbits(dice.randint(1, FIX_BITS))))
        a = (any_mantissa(dice) if number % 31 else 0, dice.randint(-48, 4) if number % 4 else dice.randint(-512, 511))
        cases.append((Operation.FIX, a, (LARGE, 100), integer))
    # Ties, and the edge of saturation: mantissa 2^15 makes an exact division.
    for k in range(1, 12):
        for word in (0, 1, 2, 3, 65533, 65534, 65535, 65536):
            for near in (-1, 0, 1):
                integer = (word << k) + (1 << (k - 1)) + near
                cases.append((Operation.FIX, (SMALL, -15 - k), (0, 0), min(top, integer)))
    said = run(cases)
    scales = Scale(torch.tensor([case[1][0] for case in cases]), torch.tensor([case[1][1] for case in cases]))
    want = requantise_unsigned(torch.tensor([case[3] for case in cases]), scales, 16).tolist()
    wrong = [(case, got[1], right) for case, got, right in zip(cases, said, want, strict=True) if got[1] != right]
    assert not wrong, f"{len(wrong)} of {len(cases)}, the first: {wrong[0]}"
    assert max(got[2] for got in said) <= 19
