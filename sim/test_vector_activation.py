"""Gated activations and block normalisation against their golden functions."""

import random
from typing import Any

import pytest
import torch

from nomul.golden.activation import SILU_REST, block_normalise, relu2_gate, silu_gate
from nomul.golden.rounding import saturate, shift_round
from nomul.sim.pipeline_bench import simulate, stream
from nomul.vector import activation
from nomul.vector.activation import BlockShift, MagnitudeBits, Relu2Gate, SiluGate

LANES = 3


def any_value(dice: random.Random, width: int) -> int:
    """Return a number of any length, sometimes a power of two or its neighbour."""
    length = dice.randrange(width)
    magnitude = dice.getrandbits(length) if dice.random() < 0.6 else (1 << length) + dice.randrange(-1, 2)
    return max(-(1 << (width - 1)), min((1 << (width - 1)) - 1, dice.choice((-1, 1)) * magnitude))


def rows(dice: random.Random, width: int, count: int, lanes: int = LANES) -> list[list[int]]:
    """Return transfers, extremes among them."""
    top = 1 << (width - 1)
    found = [[any_value(dice, width) for _ in range(lanes)] for _ in range(count)]
    return [[-top] * lanes, [top - 1] * lanes, [1 - top] * lanes, [0] * lanes, [-top] * lanes, *found]


@pytest.mark.parametrize("width", [8, 9, 17, 18, 20])
def test_relu2_gate(width: int) -> None:
    dice = random.Random(width)
    gates, ups = rows(dice, width, 600), rows(dice, width, 600)
    ups[1], ups[4] = ups[0], ups[1]
    gates[4] = gates[1]
    unit = Relu2Gate(LANES, width)
    said = stream(unit, {"gate": gates, "up": ups}, ["products"], unit.latency)["products"]
    assert said == relu2_gate(torch.tensor(gates), torch.tensor(ups)).tolist()


def test_the_table_is_the_golden_one() -> None:
    assert list(activation.SILU_REST) == SILU_REST.tolist()


@pytest.mark.parametrize(("lanes", "up_bits"), [(2, 16), (3, 18)])
def test_silu_gate(lanes: int, up_bits: int) -> None:
    dice, top = random.Random(up_bits), (1 << 19) - 1
    near = [*range(-1100, 1100), top, -top, 0, 1, -1, top - 1, 1 - top, 2048, -2048, 1 << 18, -(1 << 18)]
    near += [max(-top, any_value(dice, 20)) for _ in range(800)]
    near += [0] * (-len(near) % lanes)
    gates = [near[i : i + lanes] for i in range(0, len(near), lanes)]
    ups = rows(dice, up_bits, len(gates) - 5, lanes)
    edges = [(top, -(1 << (up_bits - 1))), (-top, (1 << (up_bits - 1)) - 1), (top, (1 << (up_bits - 1)) - 1)]
    gates += [[gate] * lanes for gate, _ in edges]
    ups += [[up] * lanes for _, up in edges]
    unit = SiluGate(lanes, up_bits)
    said = stream(unit, {"gate": gates, "up": ups}, ["products"], unit.latency)["products"]
    assert said == silu_gate(torch.tensor(gates), torch.tensor(ups)).tolist()


@pytest.mark.parametrize("width", [18, 27, 44, 49])
def test_magnitude_bits(width: int) -> None:
    dice = random.Random(width)
    top = 1 << (width - 1)
    vectors = [[[0] * LANES], [[-top] * LANES], [[top - 1] * LANES] * 2, [[0, 0, -1]], [[1, 0, 0]]]
    for length in range(width):
        for value in (1 << length, -(1 << length), 1 - (1 << length), (1 << length) - 1):
            lane = dice.randrange(LANES)
            vectors.append([[max(-top, min(top - 1, value)) if i == lane else 0 for i in range(LANES)]])
    for _ in range(150):
        limit = dice.randint(1, width)
        vectors.append([[any_value(dice, limit) for _ in range(LANES)] for _ in range(dice.randint(1, 6))])
    fed: list[tuple[bool, bool, bool, list[int]]] = []
    for vector in vectors:
        for place, values in enumerate(vector):
            fed.append((True, place == 0, place == len(vector) - 1, values))
            while dice.random() < 0.1:
                fed.append((False, dice.random() < 0.5, dice.random() < 0.5, [-top] * LANES))
    unit = MagnitudeBits(LANES, width)
    shifts: list[int] = []
    times: list[int] = []

    async def bench(ctx: Any) -> None:
        for cycle in range(len(fed) + unit.latency + 1):
            valid, first, last, values = fed[cycle] if cycle < len(fed) else (False, False, False, [0] * LANES)
            for name, value in (("valid", valid), ("first", first), ("last", last), ("values", values)):
                ctx.set(getattr(unit, name), value)
            if ctx.get(unit.shift_valid):
                shifts.append(ctx.get(unit.shift))
                times.append(cycle)
            await ctx.tick()

    simulate(unit, bench)
    assert shifts == [int(block_normalise(torch.tensor(vector).flatten())[1]) for vector in vectors]
    assert times == [cycle + unit.latency for cycle, (valid, _, last, _) in enumerate(fed) if valid and last]


@pytest.mark.parametrize("width", [20, 26, 44, 49])
def test_block_shift(width: int) -> None:
    dice = random.Random(width)
    unit = BlockShift(LANES, width)
    values, shifts = rows(dice, width, 300), [dice.randrange(1 << len(unit.shift)) for _ in range(305)]
    for shift in range(width + 2):
        for value in (1, 3, (1 << 19) - 1, 1 << 19, (1 << 20) - 1, dice.getrandbits(19), dice.getrandbits(19)):
            tie = min((1 << (width - 1)) - 2, value << shift >> 1)
            values += [[tie - 1, tie, tie + 1], [1 - tie, -tie, -tie - 1]]
            shifts += [shift, shift]
    for length in range(width):
        # What the rule itself asks for: the largest magnitude becomes a word, or saturates.
        top = [(1 << length) - 1, 1 - (1 << length), -(1 << length)]
        values.append(top)
        shifts.append(max(0, (1 << length).bit_length() - 19))
        values.append(top)
        shifts.append(max(0, length - 19))
    said = stream(unit, {"values": values, "shift": shifts}, ["words"], unit.latency)["words"]
    want = saturate(shift_round(torch.tensor(values), torch.tensor(shifts)[:, None]), 20).tolist()
    wrong = [case for case in zip(values, shifts, said, want, strict=True) if case[2] != case[3]]
    assert not wrong, f"{len(wrong)}, the first: {wrong[0]}"
