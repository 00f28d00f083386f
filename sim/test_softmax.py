"""The exponential of softmax in Amaranth's simulator against the golden function."""

from typing import Any

import pytest
import torch
from amaranth.sim import Simulator

from nomul.attention.attention_config import AttentionConfig
from nomul.attention.softmax import EXP2, Exp2Negative
from nomul.golden.softmax import EXP2 as GOLDEN
from nomul.golden.softmax import exp2_negative


def test_the_table_is_the_golden_one() -> None:
    assert list(EXP2) == GOLDEN.tolist()


def test_every_distance_that_matters() -> None:
    """All below 17 * 256, and some up to the largest; a distance a cycle, each weight two cycles later."""
    distances = [*range(17 * 256), *range(17 * 256, 1 << 20, 9973), (1 << 20) - 1]
    dut = Exp2Negative()
    weights: list[int] = []

    async def drive(ctx: Any) -> None:
        for distance in [*distances, 0, 0]:
            ctx.set(dut.distance, distance)
            weights.append(ctx.get(dut.weight))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    assert weights[Exp2Negative.LATENCY :] == exp2_negative(torch.tensor(distances)).tolist()


@pytest.mark.parametrize(("field", "value"), [("head_dim", 1), ("context", 1), ("queries", 0), ("lanes", 5)])
def test_a_configuration_says_what_is_wrong(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"AttentionConfig field '{field}' is {value}; allowed: "):
        AttentionConfig(**{field: value})  # type: ignore[arg-type]
