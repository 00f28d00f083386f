"""The cocotb bench of attention with its cache: fill the cache, drive jobs and queries, note results and cycles.

Inputs that are not offered are all ones.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

__all__ = ["attend"]


class Offer:
    """Offers payloads on a stream in order, each from a random cycle on until it is taken."""

    def __init__(self, dut: Any, name: str, payloads: list[str], dice: random.Random) -> None:
        self.valid, self.ready, self.payload = (
            getattr(dut, f"{name}__{part}") for part in ("valid", "ready", "payload")
        )
        self.ones = (1 << len(self.payload)) - 1
        self.payloads, self.dice = [int(payload, 16) for payload in payloads], dice
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self.position = 0
        self.offered: int | None = None
        self.taken: list[int] = []
        self.valid.value, self.payload.value = 0, self.ones

    def drive(self, stall: float) -> None:
        """Begin a cycle."""
        more = self.position < len(self.payloads)
        if more and self.offered is None and (not stall or self.dice.random() >= stall):
            self.offered = self.position
            self.valid.value, self.payload.value = 1, self.payloads[self.position]

    def note(self, cycle: int) -> None:
        """End a cycle."""
        if self.offered is not None and int(self.ready.value):
            self.taken.append(cycle)
            self.position, self.offered = self.position + 1, None

    def settle(self) -> None:
        """After the clock edge, take back what was taken."""
        if self.offered is None:
            self.valid.value, self.payload.value = 0, self.ones


async def reset(dut: Any, streams: list[Offer]) -> None:
    """Hold reset for two cycles."""
    for stream in streams:
        stream.restart()
    dut.rst.value = 1
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


async def run(dut: Any, streams: list[Offer], case: dict[str, Any], dice: random.Random, limit: int) -> dict[str, Any]:
    """Drive everything until all results are there, or `limit` cycles have passed."""
    results: list[str] = []
    cycles: list[int] = []
    cycle = idle = 0
    stall, hold, refuse = case["stall"], case["hold"], case["refuse"]
    while idle < 8 and cycle < limit:
        for stream in streams:
            stream.drive(stall)
        accept = not refuse or dice.random() >= refuse
        dut.results__ready.value = int(accept)
        dut.hold.value = int(hold > 0 and dice.random() < hold)
        await FallingEdge(dut.clk)
        if accept and int(dut.results__valid.value):
            results.append(f"{dut.results__payload.value.to_unsigned():x}")
            cycles.append(cycle)
        for stream in streams:
            stream.note(cycle)
        await RisingEdge(dut.clk)
        for stream in streams:
            stream.settle()
        cycle += 1
        # A surplus result would come in the cycles after the last.
        idle = idle + 1 if len(results) >= case["results"] else 0
    return {"results": results, "cycles": cycles, "taken": streams[0].taken}


@cocotb.test()
async def attend(dut: Any) -> None:
    """Write the results (hexadecimal), the cycle of each, and the cycles in which jobs were taken."""
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    dice = random.Random(case["seed"])
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    writes = Offer(dut, "writes", case["writes"], dice)
    streams = [Offer(dut, name, case[name], dice) for name in ("jobs", "queries")]
    dut.hold.value, dut.results__ready.value, dut.output_unit.value = 0, 0, int(case["output_unit"], 16)
    await reset(dut, [writes, *streams])
    while writes.position < len(writes.payloads):
        writes.drive(0)
        await FallingEdge(dut.clk)
        writes.note(0)
        await RisingEdge(dut.clk)
        writes.settle()
    # A reset may find only written rows.
    await ClockCycles(dut.clk, case.get("settle", 1))
    for cycles in case["resets"]:
        await run(dut, streams, case, dice, cycles)
        await reset(dut, streams)
    outcome = await run(dut, streams, case, dice, case["limit"])
    if hasattr(dut, "violation"):
        outcome["violation"] = int(dut.violation.value)
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(outcome))
