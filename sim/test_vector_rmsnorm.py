"""The products and the sum of squares of the fused norm, against exact sums."""

import random
from typing import Any

import pytest
import torch

from nomul.sim.pipeline_bench import simulate
from nomul.vector.rmsnorm import NormProducts

WORD, GAIN = (1 << 19) - 1, 127


@pytest.mark.parametrize(("lanes", "word_bits"), [(1, 20), (4, 20), (5, 18), (16, 20), (3, 21)])
def test_products_and_sums(lanes: int, word_bits: int) -> None:
    dice = random.Random(lanes * word_bits)
    top = (1 << (word_bits - 1)) - 1
    longest = 24
    lengths = [1, 2, longest, longest, longest] + [dice.randint(1, longest) for _ in range(40)]
    corners = [-top, top, 0, 1, -1, 2, 3, -2, -3, top - 1, -top - 1]

    def word(number: int) -> int:
        return [-top, top, dice.choice(corners), dice.randint(-top, top)][min(number, 3)]

    vectors = [[[word(number) for _ in range(lanes)] for _ in range(length)] for number, length in enumerate(lengths)]
    vectors[3] = [[top] * lanes] * longest
    vectors[4] = [[-top - 1] * lanes] * longest
    gains = [[[dice.choice((-GAIN, GAIN, 0, dice.randint(-GAIN, GAIN))) for _ in part] for part in v] for v in vectors]
    unit = NormProducts(lanes, word_bits, length_max=longest * lanes)
    sums: list[int] = []
    products: list[list[int]] = []
    fed: list[tuple[int, list[int], list[int]]] = []
    for vector, gain in zip(vectors, gains, strict=True):
        for place, (words, factors) in enumerate(zip(vector, gain, strict=True)):
            fed.append((1 | (place == 0) << 1 | (place == len(vector) - 1) << 2, words, factors))
            while dice.random() < 0.2:
                fed.append((dice.choice((0, 2, 4, 6)), [top] * lanes, [GAIN] * lanes))
    times: list[int] = []

    async def bench(ctx: Any) -> None:
        for cycle in range(len(fed) + unit.sum_latency):
            flags, words, factors = fed[cycle] if cycle < len(fed) else (0, [0] * lanes, [0] * lanes)
            ctx.set(unit.valid, flags & 1)
            ctx.set(unit.first, flags >> 1 & 1)
            ctx.set(unit.last, flags >> 2)
            ctx.set(unit.words, words)
            ctx.set(unit.gains, factors)
            if cycle >= unit.latency:
                products.append(list(ctx.get(unit.products)))
            if ctx.get(unit.sum_valid):
                sums.append(ctx.get(unit.sum))
                times.append(cycle)
            await ctx.tick()
        if ctx.get(unit.sum_valid):
            sums.append(ctx.get(unit.sum))
            times.append(len(fed) + unit.sum_latency)

    simulate(unit, bench)
    assert sums == [int(torch.tensor(vector).square().sum()) for vector in vectors]
    assert times == [cycle + unit.sum_latency for cycle, (flags, _, _) in enumerate(fed) if flags & 5 == 5]
    want = (torch.tensor([words for _, words, _ in fed]) * torch.tensor([factors for _, _, factors in fed])).tolist()
    assert products[: len(fed)] == want
