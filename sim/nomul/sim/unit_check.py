"""Simulates a unit on jobs and compares what it says with the golden functions."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nomul.contract import Port
from nomul.cores.discover import find_core
from nomul.draw import Draw
from nomul.errors import InputError
from nomul.formats.job import UnitJob, pack_lanes
from nomul.sim.check import build_engine
from nomul.sim.evidence import Evidence
from nomul.sim.runner import Simulator
from nomul.sim.unit_bench import UnitCase

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
    draw, job = Draw(seed), find_core(unit).jobs
    if job is None:
        raise InputError(f"core {unit} draws no random jobs: its Core names no jobs")
    return [job(config, draw) for _ in range(count)]


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
