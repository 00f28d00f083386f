"""The cocotb bench of `nomul.memory.trit_decoder`: drive transfers, note the blocks and when they come."""

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

__all__ = ["decode"]


@cocotb.test()
async def decode(dut: Any) -> None:
    """Drive transfers (hexadecimal) and write the blocks, the cycle of each, and the cycle in which `fault` rose.

    Cycle 0 is the first after reset. While no transfer is offered, the payload is all ones.
    """
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    transfers, count, stall = case["transfers"], case["blocks"], case["stall"]
    ones = (1 << len(dut.dense__payload)) - 1
    dice = random.Random(case["seed"])
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    dut.dense__valid.value, dut.blocks__ready.value, dut.rst.value = 0, 0, 1
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    blocks: list[str] = []
    cycles: list[int] = []
    taken: list[int] = []
    fault: int | None = None
    position, offered, cycle = 0, False, 0
    while len(blocks) < count and cycle < 100 * len(transfers) + 100:
        offered = offered or (position < len(transfers) and dice.random() >= stall)
        accept = dice.random() >= stall
        dut.dense__valid.value = int(offered)
        dut.dense__payload.value = int(transfers[position], 16) if offered else ones
        dut.blocks__ready.value = int(accept)
        await FallingEdge(dut.clk)
        if accept and int(dut.blocks__valid.value):
            blocks.append(f"{dut.blocks__payload.value.to_unsigned():x}")
            cycles.append(cycle)
        if fault is None and int(dut.fault.value):
            fault = cycle
        if offered and int(dut.dense__ready.value):
            taken.append(cycle)
            position, offered = position + 1, False
        await RisingEdge(dut.clk)
        cycle += 1
    await FallingEdge(dut.clk)
    outcome = {"blocks": blocks, "cycles": cycles, "taken": taken, "fault": fault, "faulty": int(dut.fault.value)}
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(outcome))
