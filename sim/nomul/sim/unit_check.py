"""Simulates a unit on jobs and compares what it says with the golden functions."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.formats.mixpe import Operands
from nomul.golden.threshold import ternary
from nomul.sim.check import build_engine, random_words
from nomul.sim.evidence import Evidence
from nomul.sim.runner import Simulator
from nomul.sim.unit_bench import UnitCase
from nomul.unit_contract import Port
from nomul.unit_jobs import (
    UnitJob,
    absmax_job,
    bwta_attention_job,
    leading_one_job,
    pack_lanes,
    systolic_job,
    top_k_job,
)
from nomul.units import UNITS

__all__ = ["UnitRun", "bench_unit", "check_unit", "random_jobs"]


@dataclasses.dataclass(frozen=True)
class UnitRun:
    """Jobs that run one after the other through a unit; the next is offered while the last is still running."""

    jobs: Sequence[UnitJob]

    stall: float = 0.0
    """Probability that a stream waits, in each cycle, for each stream."""

    seed: int = 0
    """Of the stalls."""

    reset_after: int | None = None
    """First run everything for so many cycles, then reset and start again."""

    illegal_first: Sequence[dict[str, int]] = ()
    illegal_last: Sequence[dict[str, int]] = ()
    """Jobs that the unit must refuse, given before and after the others."""


def bench_unit(
    simulator: Simulator,
    config: Any,
    runs: Sequence[UnitRun],
    bus: str = "stream",
    folder: Path | None = None,
    waves: Path | None = None,
) -> list[dict[str, Any]]:
    """Drive runs through a built unit, with a reset before each; return what the bench says of each.

    With `waves`, a simulator that was built for them writes the values of signals there, on AXI those of the first run.
    Everything of the runs is put into `folder`, if it is given.
    """
    with tempfile.TemporaryDirectory(prefix="nomul-case-") as temporary:
        cases = [
            dataclasses.asdict(_case(config, run, (folder or Path(temporary)) / f"arrays{number}.npz"))
            for number, run in enumerate(runs)
        ]
        if bus == "stream":
            said = simulator.run("nomul.sim.unit_bench", {"cases": cases}, folder=folder, waves=waves)["results"]
        else:
            said = []
            for case in cases:
                more: dict[str, Any] = {"folder": folder, "waves": None if said else waves}
                said += simulator.run("nomul.sim.unit_axi_bench", {"cases": [case]}, **more)["results"]
    ports = {port.name: port for port in config.outputs}
    for run, result in zip(runs, said, strict=True):
        for difference in result["differences"]:
            port = ports[difference["output"]]
            difference["job"] = _job_of(run, difference)
            for side in ("expected", "got"):
                difference[side] = difference[side] and _values(int(difference[side], 16), port)
        result["first_mismatch"] = next(iter(result["differences"]), None)
    return said


def _job_of(run: UnitRun, difference: dict[str, Any]) -> int:
    """Return the number of the job that a transfer of an output belongs to."""
    ends = np.cumsum([len(job.outputs[difference["output"]][0]) for job in run.jobs])
    return int(np.searchsorted(ends, difference["transfer"], side="right"))


def _values(payload: int, port: Port) -> dict[str, Any]:
    """Return the lanes and `last` of a payload."""
    width, sign = port.shape.width, port.shape.signed << (port.shape.width - 1)
    lanes = [((payload >> (lane * width) & ((1 << width) - 1)) ^ sign) - sign for lane in range(port.lanes)]
    return {"values": lanes, "last": payload >> (width * port.lanes)}


def _case(config: Any, run: UnitRun, file: Path) -> UnitCase:
    widths = {name: limit.bit_length() for name, limit in config.job_limits.items()}
    jobs = [*run.illegal_first, *(job.fields for job in run.jobs), *run.illegal_last]
    arrays = {"jobs": _pack_jobs(jobs, widths)}
    for port in config.inputs:
        packed = [pack_lanes(job.inputs[port.name], port.shape.width) for job in run.jobs]
        arrays[f"input_{port.name}"] = np.concatenate(packed)
    for port in config.outputs:
        packed = [
            pack_lanes(values, port.shape.width, last) for values, last in (j.outputs[port.name] for j in run.jobs)
        ]
        arrays[f"output_{port.name}"] = np.concatenate(packed)
    np.savez(file, **arrays)
    model = sum(config.cycles(**job.fields) for job in run.jobs)
    return UnitCase(
        jobs=[job.fields for job in run.jobs],
        arrays=str(file),
        inputs=[port.name for port in config.inputs],
        outputs=[port.name for port in config.outputs],
        ports={
            port.name: {"lanes": port.lanes, "width": port.shape.width, "signed": port.shape.signed}
            for port in (*config.inputs, *config.outputs)
        },
        illegal_first=list(run.illegal_first),
        illegal_last=list(run.illegal_last),
        lasts=sum(job.fields[config.repeats] if config.repeats else 1 for job in run.jobs),
        stall=run.stall,
        seed=run.seed,
        reset_after=run.reset_after,
        timeout=int((model + 1000) * 4 / (1 - min(run.stall, 0.9)) ** 2),
    )


def _pack_jobs(jobs: Sequence[dict[str, int]], widths: dict[str, int]) -> Any:
    total = -(-sum(widths.values()) // 8)
    rows = []
    for job in jobs:
        payload, offset = 0, 0
        for name, width in widths.items():
            payload |= job[name] << offset
            offset += width
        rows.append(np.frombuffer(payload.to_bytes(total, "little"), dtype=np.uint8))
    return np.stack(rows)


def random_jobs(unit: str, config: Any, count: int, seed: int) -> list[UnitJob]:
    """Return jobs of random sizes: random values of every magnitude, extremes, ties and zeros, the same for a seed."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    def values(bits: int, *shape: int) -> Tensor:
        # A few bits only, extremes only, one value only, or all of the range.
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        kind = draw(0, 4)
        if kind == 0:
            return torch.tensor([low, high, 0])[torch.randint(3, shape, generator=random)]
        if kind == 1:
            return torch.full(shape, draw(low, high))
        some = (1 << draw(0, bits - 1)) if kind == 2 else high
        return torch.randint(-some, some + 1, shape, generator=random).clamp(low, high)

    jobs = []
    for _ in range(count):
        if unit == "absmax":
            length = draw(1, min(config.length_max, 8 * config.lanes))
            jobs.append(absmax_job(config, values(config.word_bits, draw(1, 4), length), random))
        elif unit == "top_k":
            m = draw(1, min(config.scores_max, 16 * config.lanes))
            jobs.append(top_k_job(config, values(config.score_bits, m), draw(1, min(m + 2, config.scores_max))))
        elif unit == "systolic":
            n_in, n_out = draw(1, min(config.n_in_max, 3 * config.group)), draw(1, min(config.n_out_max, 40))
            tokens, low = draw(1, min(config.tokens_max, 20)), draw(-1, 0) * 8
            parts = (n_out, -(-n_in // config.group))
            operands = Operands(
                values(4, n_out, n_in).to(torch.int8) + 8 + low,
                torch.randint(low, low + 16, parts, generator=random),
                values(config.scale_bits, *parts) + (1 << (config.scale_bits - 1)),
                config.group,
            )
            vectors = random_words((tokens, n_in), random) if config.floats else values(config.act_bits, tokens, n_in)
            jobs.append(systolic_job(config, operands, vectors))
        elif unit == "bwta_attention":
            size, m = draw(1, min(config.size_max, 3 * config.lanes_in)), draw(1, min(config.keys_max, 200))
            query = values(config.query_bits, size)
            keys, cached = (values(2, m, size).clamp(min=-1).to(torch.int8) for _ in range(2))
            # Scales whose halves are a value or near it, and a score, near it, or half of it; the largest of all.
            scale = _scale(int(query[draw(0, size - 1)]), draw(-1, 1), config.job_limits["query_scale"])
            scores = keys.long() @ ternary(query, scale).long()
            bar = _scale(int(scores[draw(0, m - 1)]) >> draw(0, 1), draw(-1, 1), config.job_limits["score_scale"])
            if draw(0, 9) == 0:
                scale = config.job_limits["query_scale"]
            jobs.append(bwta_attention_job(config, query, keys, cached, scale, bar, random))
        else:
            length, m = draw(1, min(config.length_max, 8 * config.lanes)), draw(1, min(config.keys_max, 64))
            query, keys = values(config.act_bits, length), values(config.act_bits, m, length)
            jobs.append(leading_one_job(config, query, keys, random))
    return jobs


def _scale(value: int, more: int, limit: int) -> int:
    return min(max(2 * abs(value) + more, 1), limit)


def check_unit(
    unit: str,
    config: Any,
    jobs: Sequence[UnitJob],
    *,
    simulator: str = "verilator",
    bus: str = "stream",
    stall: float = 0.0,
    seed: int = 0,
    waves: Path | None = None,
) -> dict[str, Any]:
    """Simulate jobs, all in a row and then, without stalls, one of them alone; return the figures of `nomul check`.

    `cycles` are those of all jobs in a row, `job_cycles` those of the largest job alone, which must be `model_cycles`
    where nothing stalls. `folder` is where the run was kept, if something differed. The values of all signals are
    written to `waves`.
    """
    assert unit in UNITS
    built = build_engine(unit, config, simulator, bus, waves=waves is not None)
    largest = max(jobs, key=lambda job: config.cycles(**job.fields))
    with Evidence() as evidence:
        runs = [UnitRun(jobs, stall, seed), UnitRun([largest])]
        said = together, alone = bench_unit(built, config, runs, bus, evidence.folder, waves)
        wrong, differences, folder = sum(one["mismatches"] + one["surplus"] for one in said), [], None
        if wrong:
            number = next(place for place, one in enumerate(said) if one["mismatches"] + one["surplus"])
            differences = said[number]["differences"]
            with np.load(evidence.folder / f"arrays{number}.npz") as arrays:
                streams = {
                    name.removeprefix("input_"): arrays[name] for name in arrays if not name.startswith("output")
                }
                streams |= {f"{port.name}_expected": arrays[f"output_{port.name}"] for port in config.outputs}
            operands = {
                name: np.concatenate([job.inputs[name] for job in runs[number].jobs]) for name in jobs[0].inputs
            }
            folder = evidence.keep(built, operands, streams, differences)
    taken = sum(config.values(**job.fields) for job in jobs)
    return {
        "jobs": len(jobs),
        "outputs": together["outputs"] + alone["outputs"],
        "mismatches": wrong,
        "first_mismatch": differences[0] if differences else None,
        "differences": differences,
        "folder": folder,
        "cycles": together["cycles"],
        "values": taken,
        "values_per_cycle_peak": config.values_per_cycle,
        "utilization": taken / (together["cycles"] * config.values_per_cycle) if together["cycles"] > 0 else 0.0,
        "largest_job": largest.fields,
        "job_cycles": alone["cycles"],
        "model_cycles": config.cycles(**largest.fields),
        "seed": seed,
        "seconds": together["seconds"] + alone["seconds"],
    }
