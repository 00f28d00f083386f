# amaranth: UnusedElaboratable=no
"""The cache of keys and values in Amaranth's simulator: contents, order, and a row a cycle."""

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from nomul.memory.kv_cache import KvCache

LAYERS, HEADS, CONTEXT, HEAD_DIM = 2, 3, 5, 4


def read(commands: list[tuple[int, int, int, int]], stall: float) -> tuple[list[tuple[Any, ...]], list[int], list[int]]:
    """Fill a cache, send commands (values, layer, head, length); return the rows, their cycles, those of commands."""
    dut = KvCache(LAYERS, HEADS, CONTEXT, HEAD_DIM)
    dice = random.Random(1)
    rows: list[tuple[Any, ...]] = []
    cycles: list[int] = []
    taken: list[int] = []

    async def drive(ctx: Any) -> None:
        for place in dice.sample(range(2 * LAYERS * HEADS * CONTEXT), 2 * LAYERS * HEADS * CONTEXT):
            values, layer, head, token = place % 2, place // 2 % LAYERS, place // 4 % HEADS, place // 12
            codes, scale = contents(values, layer, head, token)
            row = {"values": values, "layer": layer, "head": head, "token": token, "codes": codes, "scale": scale}
            ctx.set(dut.writes.payload, row)
            ctx.set(dut.writes.valid, 1)
            await ctx.tick()
        ctx.set(dut.writes.valid, 0)
        cycle = position = 0
        while len(rows) < sum(command[3] for command in commands):
            if position < len(commands):
                names = ("values", "layer", "head", "length")
                ctx.set(dut.reads.payload, dict(zip(names, commands[position], strict=True)))
            ctx.set(dut.reads.valid, position < len(commands))
            ctx.set(dut.rows.ready, dice.random() >= stall)
            if position < len(commands) and ctx.get(dut.reads.ready):
                taken.append(cycle)
                position += 1
            if ctx.get(dut.rows.valid) and ctx.get(dut.rows.ready):
                row = dut.rows.payload
                codes = [ctx.get(row.codes[i]) for i in range(HEAD_DIM)]
                rows.append((codes, ctx.get(row.key_scale), ctx.get(row.value_scale)))
                cycles.append(cycle)
            await ctx.tick()
            cycle += 1
            assert cycle < 10000

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return rows, cycles, taken


def contents(values: int, layer: int, head: int, token: int) -> tuple[list[int], int]:
    """Return the codes and the scale of a row, different from all others."""
    number = ((layer * HEADS + head) * CONTEXT + token) * 2 + values
    return [number - 60, -number, number * 2 - 127, values], 1000 * number + 5


def expected(commands: list[tuple[int, int, int, int]]) -> list[tuple[Any, ...]]:
    """Return the rows of commands; both scales."""
    return [
        (contents(values, layer, head, token)[0], *(contents(i, layer, head, token)[1] for i in (0, 1)))
        for values, layer, head, length in commands
        for token in range(length)
    ]


DICE = random.Random(2)
COMMANDS = [
    (DICE.randrange(2), DICE.randrange(LAYERS), DICE.randrange(HEADS), DICE.choice((1, 1, 2, CONTEXT)))
    for _ in range(60)
]


def test_a_row_a_cycle_without_gaps() -> None:
    rows, cycles, taken = read(COMMANDS, 0)
    assert rows == expected(COMMANDS)
    assert cycles == list(range(taken[0] + 3, taken[0] + 3 + len(rows)))


def test_stalls() -> None:
    rows, _, _ = read(COMMANDS, 0.6)
    assert rows == expected(COMMANDS)


@pytest.mark.parametrize("name", ["layers", "kv_heads", "context", "head_dim"])
def test_sizes_are_positive(name: str) -> None:
    sizes: dict[str, Any] = {"layers": 1, "kv_heads": 1, "context": 2, "head_dim": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"KvCache {name} is 0; allowed: 1 or more"):
        KvCache(**sizes)
