"""The cocotb bench that every engine runs in: drive jobs, activations and weights, compare the results.

It runs inside the simulator. The case (a JSON object, see `Case`) says what to drive and what to expect; the
expectation was computed outside, by plain PyTorch. Nothing here knows what an engine computes.
"""

import dataclasses
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from nomul.sim.drive import Driver, run_cases
from nomul.sim.evidence import DIFFERENCES, write_got
from nomul.sim.replay import append_payloads

__all__ = ["REPLAYED", "Case", "compare", "simulate"]

REPLAYED = ("activations", "weights")
"""Streams whose payloads the simulator reads from a file (`nomul.sim.replay`)."""


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


def inputs(dut: Any, case: Case) -> dict[str, list[int]]:
    """Write the payloads that are replayed to their files; return what goes into each stream."""
    jobs = [*filter(None, [case.illegal_first]), *case.jobs, *filter(None, [case.illegal_last])]
    items: dict[str, list[int]] = {"jobs": [_job_payload(job, case.widths) for job in jobs]}
    with np.load(case.arrays) as arrays:
        for name in REPLAYED:
            width, items[name] = len(getattr(dut, f"{name}__payload")), []
            for number, job in enumerate(case.jobs):
                numbers = append_payloads(Path(f"{name}.bin"), arrays[f"{name}{number}"], width)
                items[name] += [*numbers] * (job["tokens"] if name == "weights" else 1)
    return items


def _job_payload(job: dict[str, int], widths: dict[str, int]) -> int:
    payload, offset = 0, 0
    for field in ("n_in", "n_out", "tokens", "mode"):
        payload |= job.get(field, 0) << offset
        offset += widths.get(field, 0)
    return payload


def compare(case: Case, results: list[int]) -> dict[str, Any]:
    """Compare result payloads with the expectation; also check `last` and the rows beyond n_out.

    `differences` are the first of each of several rows. What came is written to a file if something differs.
    """
    with np.load(case.arrays) as arrays:
        wanted = [arrays[f"expected{number}"] for number in range(len(case.jobs))]
        padding = [arrays.get(f"padding{number}", np.zeros(job["tokens"], int)) for number, job in enumerate(case.jobs)]
    width, rows = case.total_width, case.rows
    mask, sign = (1 << width) - 1, 1 << (width - 1)
    outputs = mismatches = position = 0
    first: dict[tuple[int, int], dict[str, Any]] = {}
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
                    if (number, index) not in first and len(first) < DIFFERENCES:
                        first[number, index] = {
                            "job": number, "token": token, "row": index, "tile": block,
                            "expected": want, "got": got, "last": got_last,
                        }  # fmt: skip
    surplus = max(0, len(results) - position)
    if mismatches or surplus:
        write_got({"results": (results, width * rows + 1)})
    differences = list(first.values())
    return {
        "outputs": outputs, "mismatches": mismatches, "surplus": surplus,
        "first_mismatch": differences[0] if differences else None, "differences": differences,
    }  # fmt: skip


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Drive each case into the engine and compare."""

    async def run(values: dict[str, Any]) -> dict[str, Any]:
        case = Case(**values)
        driver = Driver(dut, inputs(dut, case), ["results"], replayed=REPLAYED, stall=case.stall, seed=case.seed)
        wanted = sum(job["tokens"] * -(-job["n_out"] // case.rows) for job in case.jobs)
        done = await driver.outcome(wanted, case.timeout, case.reset_after)
        found = compare(case, done.transfers[0])
        return found | done.facts | {"surplus": found["surplus"] + done.facts["surplus"], "seed": case.seed}

    await run_cases(dut, run)
