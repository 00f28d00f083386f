"""The cocotb bench of a board's serial side: send the octets of a script, compare what comes back."""

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge

__all__ = ["fuzz"]

PERIOD = 10


async def _answer(dut: Any, limit: int, dice: random.Random, size: int) -> bytes:
    """Take `size` octets, in cycles that the dice choose; stop when `limit` cycles bring none."""
    taken = bytearray()
    quiet = 0
    while len(taken) < size and quiet < limit:
        # At a falling edge: what is valid now, and is given a ready now, is taken at the rising edge to come.
        ready = dice.random() < 0.7
        dut.sent__ready.value = int(ready)
        quiet += 1
        if int(dut.sent__valid.value) and ready:
            taken.append(int(dut.sent__payload.value))
            quiet = 0
        await FallingEdge(dut.clk)
        dut.sent__ready.value = 0
    return bytes(taken)


@cocotb.test()
async def fuzz(dut: Any) -> None:
    """Play the script; write the first step that was answered otherwise, if there is one."""
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    dice = random.Random(case["seed"])
    gap, timeout = case["gap"], case["timeout"]
    Clock(dut.clk, PERIOD, unit="ns", impl="gpi").start(start_high=False)
    for port in ("received__valid", "broken", "sent__ready"):
        getattr(dut, port).value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    sent = 0
    wrong = None
    for number, (send, answer) in enumerate(case["steps"]):
        early = False
        if send == "silence":
            await ClockCycles(dut.clk, timeout + 8)
            await FallingEdge(dut.clk)
        elif send == "broken":
            dut.broken.value = 1
            await FallingEdge(dut.clk)
            dut.broken.value = 0
        else:
            for octet in bytes.fromhex(send):
                early = early or bool(int(dut.sent__valid.value))
                dut.received__payload.value = octet
                dut.received__valid.value = 1
                await FallingEdge(dut.clk)
                dut.received__valid.value = 0
                for _ in range(dice.randrange(gap)):
                    await FallingEdge(dut.clk)
                sent += 1
        expected = bytes.fromhex(answer)
        got = await _answer(dut, 4000, dice, len(expected)) if expected else b""
        for _ in range(4 if expected else 0):
            await FallingEdge(dut.clk)
            early = early or bool(int(dut.sent__valid.value))
        if got != expected or early:
            wrong = {"step": number, "send": send, "expected": answer, "got": got.hex(), "unasked": early}
            break
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps({"octets": sent, "wrong": wrong}))
