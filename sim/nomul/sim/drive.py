"""Drives the streams of a design, cycle by cycle, for the benches of engines and of units.

It runs inside the simulator, and knows nothing of what goes through the streams.
"""

import dataclasses
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer

__all__ = ["PERIOD_NS", "Driven", "Driver", "run_cases"]

PERIOD_NS = 10


@dataclasses.dataclass(frozen=True)
class Driven:
    """What came of a case."""

    transfers: list[list[int]]
    """Payloads of each output."""

    facts: dict[str, Any]
    """`cycles` from the first transfer of the first input to the last of the first output, `seconds`, `surplus`
    transfers offered after the last expected one, and `fault` at the end."""


class Driver:
    """Drives a design's streams from one coroutine, one iteration a cycle.

    Inputs change just after a rising edge; whether a transfer happens at the next one is read at the falling edge.
    With a stall probability p, each source waits and each sink refuses in each cycle with probability p, independently;
    a source that has offered a transfer keeps it until it is taken.

    Parameters
    ----------
    dut
        A simulated design with `clk`, `rst` and `fault`.
    inputs
        What goes into each stream, in order: payloads, or numbers of payloads if the stream is replayed.
    outputs
        The streams that come out.
    replayed
        Inputs whose payloads the simulator reads from a file (`nomul.sim.replay`).
    stall
        The stall probability.
    seed
        Of the stalls.
    """

    def __init__(
        self, dut: Any, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str], *,
        replayed: Sequence[str] = (), stall: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.dut, self.stall, self.random = dut, stall, random.Random(seed)
        self.queues = list(inputs.values())
        # Handles are looked up once: (what is put in or comes out, valid, ready).
        self.sources = [self._stream(name, "number" if name in replayed else "payload") for name in inputs]
        self.sinks = [self._stream(name, "payload") for name in outputs]

    def _stream(self, name: str, item: str) -> tuple[Any, Any, Any]:
        return tuple(getattr(self.dut, f"{name}__{part}") for part in (item, "valid", "ready"))

    async def reset(self) -> None:
        """Hold reset for two cycles with every stream idle."""
        for _, valid, _ in self.sources:
            valid.value = 0
        for _, _, ready in self.sinks:
            ready.value = 0
        self.dut.rst.value = 1
        for _ in range(2):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def run(self, wanted: int, limit: int) -> tuple[list[list[int]], int, int]:
        """Drive everything; return (payloads of each output, cycle of the first job, cycle of the last result).

        Ends when `wanted` transfers have come out and the first input has gone in, or after `limit` cycles. A job is a
        transfer of the first input, a result one of the first output.
        """
        stall, chance, queues = self.stall, self.random.random, self.queues
        inputs, outputs = [*enumerate(self.sources)], [*enumerate(self.sinks)]
        positions, offered = [0] * len(inputs), [False] * len(inputs)
        got: list[list[int]] = [[] for _ in outputs]
        accepting = [False] * len(outputs)
        cycle, count, first, last = 0, 0, -1, -1
        fall, rise = FallingEdge(self.dut.clk), RisingEdge(self.dut.clk)
        while (count < wanted or positions[0] < len(queues[0])) and cycle < limit:
            for i, (item, valid, _) in inputs:
                if not offered[i] and positions[i] < len(queues[i]) and not (stall and chance() < stall):
                    item.value = queues[i][positions[i]]
                    valid.value = 1
                    offered[i] = True
            for i, (_, _, ready) in outputs:
                accept = not (stall and chance() < stall)
                if accept != accepting[i]:
                    ready.value = int(accept)
                    accepting[i] = accept
            await fall
            taken = [offered[i] and int(ready.value) == 1 for i, (_, _, ready) in inputs]
            for i, (item, valid, _) in outputs:
                if accepting[i] and int(valid.value):
                    got[i].append(item.value.to_unsigned())
                    count += 1
                    if i == 0:
                        last = cycle
            await rise
            for i, (item, valid, _) in inputs:
                if taken[i]:
                    if i == 0 and first < 0:
                        first = cycle
                    positions[i] += 1
                    offered[i] = positions[i] < len(queues[i]) and not (stall and chance() < stall)
                    if offered[i]:
                        item.value = queues[i][positions[i]]
                    else:
                        valid.value = 0
            cycle += 1
        return got, first, last

    async def surplus(self) -> int:
        """Count the outputs that are still offered a few cycles after the last expected one."""
        found = 0
        for _ in range(8):
            await FallingEdge(self.dut.clk)
            found += sum(int(valid.value) for _, valid, _ in self.sinks)
            await RisingEdge(self.dut.clk)
        return found

    async def outcome(self, wanted: int, timeout: int, reset_after: int | None = None) -> Driven:
        """Reset the design and drive everything; with `reset_after`, first for so many cycles, and start again."""
        await self.reset()
        if reset_after is not None:
            await self.run(wanted, reset_after)
            await self.reset()
        started = time.perf_counter()
        transfers, first, last = await self.run(wanted, timeout)
        seconds = time.perf_counter() - started
        surplus = await self.surplus()
        await Timer(1, unit="ns")
        facts = {"cycles": last - first + 1, "seconds": seconds, "surplus": surplus, "fault": int(self.dut.fault.value)}
        return Driven(transfers, facts)


async def run_cases(dut: Any, run: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """Run the cases in the file named by NOMUL_CASE and write the results to the file named by NOMUL_RESULT."""
    cases = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())["cases"]
    Clock(dut.clk, PERIOD_NS, unit="ns").start(start_high=False)
    results = [await run(case) for case in cases]
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps({"results": results}))
