"""The cocotb bench that every engine runs in: drive jobs, activations and weights, compare the results.

It runs inside the simulator. The case (a JSON object, see `Case`) says what to drive and what to expect; the
expectation was computed outside, by plain PyTorch. Nothing here knows what an engine computes.
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

from sim.replay import append_payloads

__all__ = ["REPLAYED", "Case", "EngineBench", "compare", "simulate"]

PERIOD_NS = 10

REPLAYED = ("activations", "weights")
"""Streams whose payloads the simulator reads from a file (`sim.replay`)."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What a bench drives into an engine, in the order of jobs.

    `arrays` names an .npz file with, for job j, `activations{j}` and `weights{j}`, uint8 [transfers, bytes] payloads,
    and `expected{j}`, int64 [tokens, n_out]. Rows beyond n_out are zero, or `padding{j}`, int64 [tokens], where that is
    there.
    """

    jobs: list[dict[str, int]]
    arrays: str
    rows: int
    total_width: int
    widths: dict[str, int]
    rows_beyond_are_zero: bool = True
    stall: float = 0.0
    seed: int = 0
    reset_after: int | None = None
    illegal_first: dict[str, int] | None = None
    illegal_last: dict[str, int] | None = None
    timeout: int = 1_000_000


class Stream:
    """One stream port: looks its handles up once. What is put in is a payload, or its number if it is replayed."""

    def __init__(self, dut: Any, name: str, *, replayed: bool = False) -> None:
        self.name = name
        self.valid, self.ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
        self.item = getattr(dut, f"{name}__number" if replayed else f"{name}__payload")


class EngineBench:
    """Drives an engine's four streams from one coroutine, one iteration a cycle.

    Inputs change just after a rising edge; whether a transfer happens at the next one is read at the falling edge.
    With a stall probability p, each source waits and the sink refuses in each cycle with probability p, independently;
    a source that has offered a transfer keeps it until it is taken.
    """

    def __init__(self, dut: Any, case: Case) -> None:
        self.dut, self.case = dut, case
        self.random = random.Random(case.seed)
        jobs = [*filter(None, [case.illegal_first]), *case.jobs, *filter(None, [case.illegal_last])]
        self.items: dict[str, list[int]] = {"jobs": [self._job_payload(job) for job in jobs]}
        with np.load(case.arrays) as arrays:
            for name in REPLAYED:
                width, self.items[name] = len(getattr(dut, f"{name}__payload")), []
                for number, job in enumerate(case.jobs):
                    numbers = append_payloads(Path(f"{name}.bin"), arrays[f"{name}{number}"], width)
                    self.items[name] += [*numbers] * (job["tokens"] if name == "weights" else 1)

    def _job_payload(self, job: dict[str, int]) -> int:
        payload, offset = 0, 0
        for field in ("n_in", "n_out", "tokens", "mode"):
            payload |= job.get(field, 0) << offset
            offset += self.case.widths.get(field, 0)
        return payload

    async def reset(self) -> None:
        """Hold reset for two cycles with every stream idle."""
        for name in ("jobs", "activations", "weights"):
            getattr(self.dut, f"{name}__valid").value = 0
        self.dut.results__ready.value = 0
        self.dut.rst.value = 1
        for _ in range(2):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def run(self, limit: int | None = None) -> tuple[list[int], int, int]:
        """Drive everything; return (result payloads, cycle of the first job transfer, cycle of the last result).

        Ends when all results have come, or after `limit` cycles.
        """
        dut, stall, chance = self.dut, self.case.stall, self.random.random
        sources = [Stream(dut, name, replayed=name in REPLAYED) for name in ("jobs", "activations", "weights")]
        queues = [self.items[source.name] for source in sources]
        positions, offered = [0, 0, 0], [False, False, False]
        wanted = sum(job["tokens"] * -(-job["n_out"] // self.case.rows) for job in self.case.jobs)
        results: list[int] = []
        result_valid, result_ready, result_payload = dut.results__valid, dut.results__ready, dut.results__payload
        cycle, first, last, accepting = 0, -1, -1, False
        limit = limit or self.case.timeout
        clk = dut.clk
        fall, rise = FallingEdge(clk), RisingEdge(clk)
        while (len(results) < wanted or positions[0] < len(queues[0])) and cycle < limit:
            for i, source in enumerate(sources):
                if not offered[i] and positions[i] < len(queues[i]) and not (stall and chance() < stall):
                    source.item.value = queues[i][positions[i]]
                    source.valid.value = 1
                    offered[i] = True
            accept = not (stall and chance() < stall)
            if accept != accepting:
                result_ready.value = int(accept)
                accepting = accept
            await fall
            taken = [offered[i] and int(source.ready.value) == 1 for i, source in enumerate(sources)]
            if accepting and int(result_valid.value):
                results.append(result_payload.value.to_unsigned())
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
        return results, first, last


def compare(case: Case, results: list[int]) -> dict[str, Any]:
    """Compare result payloads with the expectation; also check `last` and the rows beyond n_out."""
    with np.load(case.arrays) as arrays:
        wanted = [arrays[f"expected{number}"] for number in range(len(case.jobs))]
        padding = [arrays.get(f"padding{number}", np.zeros(job["tokens"], int)) for number, job in enumerate(case.jobs)]
    width, rows = case.total_width, case.rows
    mask, sign = (1 << width) - 1, 1 << (width - 1)
    outputs = mismatches = position = 0
    first: dict[str, Any] | None = None
    for number, (job, expected) in enumerate(zip(case.jobs, wanted, strict=True)):
        blocks = -(-job["n_out"] // rows)
        for token in range(job["tokens"]):
            for block in range(blocks):
                payload = results[position] if position < len(results) else None
                position += 1
                got_last = None if payload is None else payload >> (width * rows)
                for row in range(rows):
                    index = block * rows + row
                    exists = index < job["n_out"]
                    want = int(expected[token, index] if exists else padding[number][token])
                    got = None if payload is None else ((payload >> (row * width) & mask) ^ sign) - sign
                    outputs += exists
                    if not exists and not case.rows_beyond_are_zero:
                        want = got or 0
                    if got == want and got_last == (block == blocks - 1):
                        continue
                    mismatches += 1
                    if first is None:
                        first = {
                            "job": number, "token": token, "row": index, "tile": block,
                            "expected": want, "got": got, "last": got_last,
                        }  # fmt: skip
    return {
        "outputs": outputs, "mismatches": mismatches, "first_mismatch": first,
        "surplus": max(0, len(results) - position),
    }  # fmt: skip


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Run the cases in the file named by NOMUL_CASE and write the results to the file named by NOMUL_RESULT."""
    cases = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())["cases"]
    Clock(dut.clk, PERIOD_NS, unit="ns").start(start_high=False)
    results = [await run_case(dut, Case(**case)) for case in cases]
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps({"results": results}))


async def run_case(dut: Any, case: Case) -> dict[str, Any]:
    """Reset the engine, drive one case and return what came of it."""
    bench = EngineBench(dut, case)
    await bench.reset()
    if case.reset_after is not None:
        await bench.run(limit=case.reset_after)
        await bench.reset()
    started = time.perf_counter()
    results, first, last = await bench.run()
    seconds = time.perf_counter() - started
    # A surplus result would come now.
    for _ in range(4):
        await FallingEdge(dut.clk)
        if int(dut.results__valid.value):
            results.append(0)
        await RisingEdge(dut.clk)
    await Timer(1, unit="ns")
    return compare(case, results) | {
        "cycles": last - first + 1, "seconds": seconds, "fault": int(dut.fault.value), "seed": case.seed,
    }  # fmt: skip
