"""Rotation and its table against the golden functions."""

import random
from typing import Any

import pytest
import torch

from nomul.formats.rotary import Rotary
from nomul.golden.rope import QUARTER, cos_sin, phase_steps, rotate
from nomul.sim.pipeline_bench import simulate, stream
from nomul.vector import rope
from nomul.vector.rope import RopeTable, Rotate


def test_the_table_is_the_golden_one() -> None:
    assert list(rope.QUARTER) == QUARTER.tolist()


@pytest.mark.parametrize(("lanes", "value_bits"), [(2, 17), (4, 16), (6, 20), (4, 25)])
def test_rotate(lanes: int, value_bits: int) -> None:
    dice = random.Random(value_bits)
    top = (1 << (value_bits - 1)) - 1
    angles = torch.arange(4096)
    cosine, sine = cos_sin(angles, torch.tensor([1 << 20]))
    wave = list(zip(cosine[:, 0].tolist(), sine[:, 0].tolist(), strict=True))
    values, cosines, sines = [], [], []
    for number in range(1500):
        chosen = [dice.choice(wave) for _ in range(lanes // 2)]
        if number < 512:  # the longest vectors, at every angle
            chosen = [wave[8 * number + 3]] * (lanes // 2)
        cosines.append([c for c, _ in chosen])
        sines.append([s for _, s in chosen])
        edges = (-top, top, dice.randint(-top, top), 0, 1, dice.randint(-40, 40))
        kinds = 2 if number < 1024 else 6
        values.append([dice.choice(edges[:kinds]) for _ in range(lanes)])
    values[0] = [-top - 1] * lanes
    # Ties: a cosine or a sine of a power of two makes an exact division.
    for k in range(10):
        for odd in (1, 3, 5, -1, -3):
            cosines.append([1 << k] * (lanes // 2))
            sines.append([0] * (lanes // 2))
            values.append([odd << (9 - k)] * lanes)
    unit = Rotate(lanes, value_bits)
    given = {"values": values, "cosines": cosines, "sines": sines}
    said = stream(unit, given, ["rotated"], unit.latency)["rotated"]
    assert said == rotate(torch.tensor(values), torch.tensor(cosines), torch.tensor(sines)).tolist()


@pytest.mark.parametrize(("head_dim", "theta"), [(32, 10000.0), (10, 500000.0), (2, 10000.0)])
def test_table(head_dim: int, theta: float) -> None:
    dice = random.Random(head_dim)
    steps = phase_steps(Rotary(theta).frequencies(head_dim))
    pairs = head_dim // 2
    positions = [0, 1, 2, 255, 4095, 65535] + [dice.randrange(1 << 16) for _ in range(2000 // pairs)]
    unit = RopeTable(steps.tolist())
    assert unit.pairs == pairs
    starts: dict[int, int] = {}
    time = 1
    for position in positions:
        starts[time] = position
        time += pairs + (0 if dice.random() < 0.7 else dice.randint(1, 9))
    said: list[tuple[int, int, int, int]] = []

    async def bench(ctx: Any) -> None:
        for cycle in range(time + unit.latency + pairs):
            ctx.set(unit.start, cycle in starts)
            ctx.set(unit.position, starts.get(cycle, 0xFFFF))
            if ctx.get(unit.valid):
                said.append((cycle, ctx.get(unit.pair), ctx.get(unit.cosine), ctx.get(unit.sine)))
            await ctx.tick()

    simulate(unit, bench)
    cosine, sine = cos_sin(torch.tensor(positions), steps)
    want = [
        (start + unit.latency + pair, pair, int(cosine[number, pair]), int(sine[number, pair]))
        for number, start in enumerate(starts)
        for pair in range(pairs)
    ]
    assert said == want


def test_every_angle_of_the_table() -> None:
    """A step of one interval: all 4096, one position after the other."""
    unit = RopeTable([1 << 20])
    said: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.start, 1)
        for position in range(4096 + unit.latency):
            ctx.set(unit.position, position)
            if position >= unit.latency:
                said.append((ctx.get(unit.cosine), ctx.get(unit.sine)))
            await ctx.tick()

    simulate(unit, bench)
    cosine, sine = cos_sin(torch.arange(4096), torch.tensor([1 << 20]))
    assert said == list(zip(cosine[:, 0].tolist(), sine[:, 0].tolist(), strict=True))
