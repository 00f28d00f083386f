# amaranth: UnusedElaboratable=no
"""The activation packer: every value under every scale, back-pressure, and its golden model."""

import random
import warnings

import pytest
import torch
from amaranth.sim import Simulator

from nomul.formats import plane_words
from nomul.golden import threshold
from nomul.vector.threshold import Threshold

WIDTH, LANES = 5, 4


def drive(packer: Threshold, cases: list[tuple[int, int, list[int]]], stall: float) -> list[list[int]]:
    """Return what leaves for (scale, boolean, values) cases, the streams stalling at random."""
    dice, taken = random.Random(1), []
    simulator = Simulator(packer)
    simulator.add_clock(1e-6)

    async def bench(ctx) -> None:
        position, offered = 0, False
        while len(taken) < len(cases):
            if not offered and position < len(cases) and dice.random() >= stall:
                scale, boolean, values = cases[position]
                ctx.set(packer.scale, scale)
                ctx.set(packer.boolean, boolean)
                ctx.set(packer.values.payload, values)
                offered = True
            ctx.set(packer.values.valid, offered)
            ctx.set(packer.activations.ready, dice.random() >= stall)
            if ctx.get(packer.activations.valid) and ctx.get(packer.activations.ready):
                taken.append([ctx.get(packer.activations.payload[lane]) for lane in range(packer.lanes)])
            if offered and ctx.get(packer.values.ready):
                position, offered = position + 1, False
            await ctx.tick()

    simulator.add_testbench(bench)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator.run()
    return taken


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_every_value_under_every_scale(stall: float) -> None:
    values = list(range(-(1 << (WIDTH - 1)), 1 << (WIDTH - 1)))
    cases = [
        (scale, boolean, values[first : first + LANES])
        for scale in range(1 << WIDTH)
        for boolean in (0, 1)
        for first in range(0, len(values), LANES)
    ]
    for (scale, boolean, given), got in zip(cases, drive(Threshold(LANES, WIDTH), cases, stall), strict=True):
        # Exactly half goes to zero.
        expected = [int(2 * x > scale) - int(2 * x < -scale and not boolean) for x in given]
        assert got == expected, (scale, boolean, given)
        golden = (threshold.boolean if boolean else threshold.ternary)(torch.tensor(given), scale)
        assert golden.tolist() == expected


def test_it_is_the_quantiser_of_the_kernels() -> None:
    values = torch.arange(-300, 300)
    for scale in (1, 2, 7, 100, 255):
        assert torch.equal(threshold.ternary(values, scale), plane_words.quantise_ternary(values.float(), scale))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 8), r"^Threshold lanes is 0; allowed: 1 or more$"), ((4, 1), r"^Threshold width is 1; allowed: 2 or more$")],
)
def test_a_wrong_size_is_refused(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Threshold(*arguments)
