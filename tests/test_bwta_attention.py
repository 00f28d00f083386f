"""Attention of BWTA from end to end: the gateware against plain torch, on random tensors and on those of the model."""

import random
import warnings

import pytest
import torch
from amaranth.sim import Simulator
from torch import Tensor

from hw.attention.bwta_attention import BwtaAttention
from hw.engines.bwta import BwtaConfig
from sw.engines import pack_weights
from sw.golden import bwta_attention
from sw.model import checkpoints
from sw.model.operators import attention_heads

CONFIG = BwtaConfig(lanes_in=8, rows=4, products="all", n_in_max=64, n_out_max=64)
WIDTH = 8

Head = tuple[Tensor, Tensor, Tensor, int, int]
"""Query [size], keys and values [keys, size], and both scales."""


def expect(head: Head) -> list[int]:
    query, keys, values, query_scale, score_scale = head
    packed = (2 * query > query_scale).long() - (2 * query < -query_scale).long()
    attended = (2 * (keys.long() @ packed) > score_scale).long()
    return (values.long().T @ attended).tolist()


def transfers(vector: Tensor, lanes: int) -> list[list[int]]:
    padded = torch.nn.functional.pad(vector, (0, -len(vector) % lanes))
    return padded.view(-1, lanes).tolist()


def drive(heads: list[Head], stall: float) -> list[list[int]]:
    """Return what leaves for each head, one job after the other, the streams stalling at random."""
    device, dice = BwtaAttention(CONFIG, WIDTH), random.Random(1)
    simulator = Simulator(device)
    simulator.add_clock(1e-6)
    names = [mode.name for mode in CONFIG.modes]
    jobs, queries, weights = [], [], []
    for query, keys, values, query_scale, score_scale in heads:
        sizes = {"size": len(query), "keys": len(keys)}
        jobs.append(sizes | {"query_scale": query_scale, "score_scale": score_scale})
        queries += transfers(query, CONFIG.lanes_in)
        for name, matrix in (("ternary", keys), ("boolean", values.T.contiguous())):
            octets = pack_weights("bwta", CONFIG, matrix, names.index(name))
            weights += [int.from_bytes(transfer.tobytes(), "little") for transfer in octets]
    results: list[list[int]] = [[]]

    async def give(ctx, stream, items) -> None:
        for item in items:
            while dice.random() < stall:
                await ctx.tick()
            ctx.set(stream.payload, item)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    def words(ctx):
        shape = device.weights.payload.shape()
        return [shape.from_bits(word) for word in weights]

    async def take(ctx) -> None:
        stream = device.results
        for _ in range(2000 * len(heads)):
            if len(results) > len(heads):
                return
            ctx.set(stream.ready, dice.random() >= stall)
            _, _, valid, ready, payload = await ctx.tick().sample(stream.valid, stream.ready, stream.payload)
            if valid and ready:
                results[-1] += [payload.values[row] for row in range(CONFIG.rows)]
                if payload.last:
                    results.append([])

    async def give_jobs(ctx) -> None:
        await give(ctx, device.jobs, jobs)

    async def give_queries(ctx) -> None:
        await give(ctx, device.queries, queries)

    async def give_weights(ctx) -> None:
        await give(ctx, device.weights, words(ctx))

    for each in (give_jobs, give_queries, give_weights):
        simulator.add_testbench(each, background=True)
    simulator.add_testbench(take)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator.run()
    return [result[: len(head[0])] for result, head in zip(results, heads, strict=False)]


def draw(seed: int) -> Head:
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    size, keys = dice.randint(1, 20), dice.randint(1, 40)
    query = torch.randint(-128, 128, (size,), generator=generator)
    matrices = torch.randint(-1, 2, (2, keys, size), generator=generator).to(torch.int8)
    return query, matrices[0], matrices[1], dice.choice([0, 3, 120, 255]), dice.randint(0, 6)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_random_heads(stall: float) -> None:
    heads = [draw(seed) for seed in range(12)]
    heads.append((torch.tensor([127]), torch.tensor([[1]]), torch.tensor([[-1]]), 2, 1))
    assert drive(heads, stall) == [expect(head) for head in heads]


def test_the_heads_of_the_model_and_the_golden_chain() -> None:
    head = attention_heads(checkpoints.path("tiny_bwta"), "model.layers.1.self_attn", checkpoints.sample_text(), 48)
    positions = (11, 40, 47)
    heads = []
    for position in positions:
        keys, values = head.keys[: position + 1], head.values[: position + 1]
        heads.append((head.queries[position], keys, values, head.query_scale, head.score_scales[position]))
    expected = [expect(each) for each in heads]
    assert drive(heads, 0.1) == expected
    for (query, keys, values, query_scale, score_scale), y in zip(heads, expected, strict=True):
        assert bwta_attention.attend(query[None], keys, values, query_scale, score_scale).tolist() == [y]
        assert any(y)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"products": "linear"}, r"^BwtaAttention products is 'linear'; allowed: 'all'$"),
        ({"products": "all", "rows": 3}, r"^BwtaAttention lanes_in is 64; allowed: a multiple of rows = 3$"),
    ],
)
def test_a_wrong_configuration_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BwtaAttention(BwtaConfig(**fields), WIDTH)
