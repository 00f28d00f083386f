"""The cocotb bench that every unit runs in: drive all its streams, compare all its outputs, transfer by transfer.

It runs inside the simulator. The case says what to drive and what to expect; the expectation was computed outside, by
the golden functions. Nothing here knows what a unit computes.
"""

import dataclasses
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from sim.bench import PERIOD_NS, Stream

__all__ = ["UnitBench", "UnitCase", "simulate"]


@dataclasses.dataclass(frozen=True)
class UnitCase:
    """What a bench drives into a unit.

    `arrays` names an .npz file with the payloads of each stream, uint8 [transfers, bytes]: `jobs`, `input_NAME`, and
    `output_NAME` for those expected. `jobs` are the fields of each; `illegal_first` and `illegal_last` say how many
    jobs before and after them in the array the unit must refuse. `ports` has lanes, width and sign of each stream.
    """

    jobs: list[dict[str, int]]
    arrays: str
    inputs: list[str]
    outputs: list[str]
    ports: dict[str, dict[str, Any]]
    illegal_first: list[dict[str, int]] = dataclasses.field(default_factory=list)
    illegal_last: list[dict[str, int]] = dataclasses.field(default_factory=list)
    lasts: int = 1
    stall: float = 0.0
    seed: int = 0
    reset_after: int | None = None
    timeout: int = 1_000_000


class UnitBench:
    """Drives a unit's streams from one coroutine, one iteration a cycle, as `sim.bench.EngineBench` does."""

    def __init__(self, dut: Any, case: UnitCase) -> None:
        self.dut, self.case = dut, case
        self.random = random.Random(case.seed)
        arrays = np.load(case.arrays)
        self.items = {"jobs": _integers(arrays["jobs"])}
        self.items |= {name: _integers(arrays[f"input_{name}"]) for name in case.inputs}
        self.expected = {name: _integers(arrays[f"output_{name}"]) for name in case.outputs}

    async def reset(self) -> None:
        """Hold reset for two cycles with every stream idle."""
        for name in self.items:
            getattr(self.dut, f"{name}__valid").value = 0
        for name in self.expected:
            getattr(self.dut, f"{name}__ready").value = 0
        self.dut.rst.value = 1
        for _ in range(2):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def run(self, limit: int | None = None) -> tuple[dict[str, list[int]], int, int]:
        """Drive everything; return (payloads of each output, cycle of the first job, cycle of the last result).

        Ends when all expected transfers have come, or after `limit` cycles.
        """
        stall, chance = self.case.stall, self.random.random
        sources = [Stream(self.dut, name) for name in self.items]
        sinks = [Stream(self.dut, name) for name in self.expected]
        queues = list(self.items.values())
        positions, offered = [0] * len(sources), [False] * len(sources)
        got: list[list[int]] = [[] for _ in sinks]
        accepting = [False] * len(sinks)
        wanted = sum(len(items) for items in self.expected.values())
        cycle, first, last, count = 0, -1, -1, 0
        limit = limit or self.case.timeout
        fall, rise = FallingEdge(self.dut.clk), RisingEdge(self.dut.clk)
        while (count < wanted or positions[0] < len(queues[0])) and cycle < limit:
            for i, source in enumerate(sources):
                if not offered[i] and positions[i] < len(queues[i]) and not (stall and chance() < stall):
                    source.item.value = queues[i][positions[i]]
                    source.valid.value = 1
                    offered[i] = True
            for i, sink in enumerate(sinks):
                accept = not (stall and chance() < stall)
                if accept != accepting[i]:
                    sink.ready.value = int(accept)
                    accepting[i] = accept
            await fall
            taken = [offered[i] and int(source.ready.value) == 1 for i, source in enumerate(sources)]
            for i, sink in enumerate(sinks):
                if accepting[i] and int(sink.valid.value):
                    got[i].append(sink.item.value.to_unsigned())
                    count += 1
                    if i == 0:
                        last = cycle
            await rise
            for i, source in enumerate(sources):
                if taken[i]:
                    if i == 0 and first < 0:
                        first = cycle
                    positions[i] += 1
                    offered[i] = positions[i] < len(queues[i]) and not (stall and chance() < stall)
                    if offered[i]:
                        source.item.value = queues[i][positions[i]]
                    else:
                        source.valid.value = 0
            cycle += 1
        return dict(zip(self.expected, got, strict=True)), first, last

    async def surplus(self) -> int:
        """Count the outputs that are still offered a few cycles after the last expected one."""
        found = 0
        for _ in range(8):
            await FallingEdge(self.dut.clk)
            found += sum(int(getattr(self.dut, f"{name}__valid").value) for name in self.expected)
            await RisingEdge(self.dut.clk)
        return found

    def compare(self, got: dict[str, list[int]]) -> dict[str, Any]:
        """Compare payloads with the expectation, `last` included; the first difference is in hexadecimal."""
        mismatches, first = 0, None
        for name, expected in self.expected.items():
            for number, want in enumerate(expected):
                have = got[name][number] if number < len(got[name]) else None
                if have != want:
                    mismatches += 1
                    first = first or {
                        "output": name, "transfer": number, "expected": hex(want),
                        "got": None if have is None else hex(have),
                    }  # fmt: skip
        return {
            "outputs": sum(len(expected) for expected in self.expected.values()),
            "mismatches": mismatches,
            "first_mismatch": first,
        }


def _integers(rows: np.ndarray) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Run the cases in the file named by NOMUL_CASE and write the results to the file named by NOMUL_RESULT."""
    cases = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())["cases"]
    Clock(dut.clk, PERIOD_NS, unit="ns").start(start_high=False)
    results = [await run_case(dut, UnitCase(**case)) for case in cases]
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps({"results": results}))


async def run_case(dut: Any, case: UnitCase) -> dict[str, Any]:
    """Reset the unit, drive one case and return what came of it."""
    bench = UnitBench(dut, case)
    await bench.reset()
    if case.reset_after is not None:
        await bench.run(limit=case.reset_after)
        await bench.reset()
    started = time.perf_counter()
    got, first, last = await bench.run()
    seconds = time.perf_counter() - started
    surplus = await bench.surplus()
    await Timer(1, unit="ns")
    return bench.compare(got) | {
        "surplus": surplus, "cycles": last - first + 1, "seconds": seconds, "fault": int(dut.fault.value),
        "seed": case.seed,
    }  # fmt: skip
