"""Simulates a core on jobs, and compares what it says with plain PyTorch."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nomul.cores.discover import find_core
from nomul.draw import Draw
from nomul.errors import InputError
from nomul.export.rtlil import verilog
from nomul.export.top_level import make_top
from nomul.formats.job import Job, pack_lanes
from nomul.sim.bench import Case
from nomul.sim.evidence import Evidence
from nomul.sim.fields import field_bits, pack_fields
from nomul.sim.product import Product, product_job
from nomul.sim.replay import add_replay
from nomul.sim.runner import Simulator, build

__all__ = [
    "Run",
    "as_job",
    "bench_core",
    "build_core",
    "build_netlist",
    "check_core",
    "make_case",
    "random_jobs",
    "vectors_of",
]


@dataclasses.dataclass(frozen=True)
class Run:
    """Jobs that run one after the other through a core; the next is offered while the last is still running."""

    jobs: Sequence[Job | Product]

    stall: float = 0.0
    """Probability that a stream waits, in each cycle, for each stream."""

    seed: int = 0
    """Of the stalls."""

    reset_after: int | None = None
    """First run everything for so many cycles, then reset and start again."""

    illegal_first: Sequence[dict[str, int]] = ()
    illegal_last: Sequence[dict[str, int]] = ()
    """Jobs that the core must refuse, given before and after the others."""

    @property
    def alone(self) -> bool:
        """Whether it is one job that nothing disturbs, whose cycles are the model's."""
        return len(self.jobs) == 1 and not (self.stall or self.reset_after or self.illegal_first or self.illegal_last)


def as_job(core: str, config: Any, job: Job | Product) -> Job:
    """Return what goes over a core's streams for a job or a product."""
    return product_job(core, config, job) if isinstance(job, Product) else job


def vectors_of(config: Any, job: Job | Product) -> int:
    """Return the vectors in a job's results."""
    return job.fields[config.repeats] if config.repeats else 1


def build_core(
    core: str, config: Any, simulator: str = "verilator", bus: str = "stream", *, waves: bool = False
) -> Simulator:
    """Generate a core on a bus of `nomul.export.top_level.BUSES` and build a simulator of it.

    The data of a bare core's streams are replayed from files.
    """
    component, top = make_top(core, config, bus)
    text = verilog(component, top)
    if bus == "stream":
        text, top = add_replay(text, top, [port.name for port in config.inputs])
    return build(text, top, simulator, config.target, waves=waves)


def build_netlist(text: str, core: str, config: Any) -> Simulator:
    """Build a simulator, which counts toggles, of Verilog that has the ports of a core on bare streams."""
    text, top = add_replay(text, core, [port.name for port in config.inputs])
    return build(text, top, activity=True)


def bench_core(
    simulator: Simulator,
    core: str,
    config: Any,
    runs: Sequence[Run],
    bus: str = "stream",
    activity: Path | None = None,
    folder: Path | None = None,
    waves: Path | None = None,
) -> list[dict[str, Any]]:
    """Drive runs through a built core, with a reset before each; return what the bench says of each.

    With `activity`, a simulator of `build_netlist` writes toggles there; with `waves`, one that was built for them
    writes the values of signals, on AXI those of the first run. Everything of the runs is put into `folder`, if it is
    given.
    """
    with tempfile.TemporaryDirectory(prefix="nomul-case-") as temporary:
        cases = []
        for number, run in enumerate(runs):
            file = (folder or Path(temporary)) / f"arrays{number}.npz"
            cases.append(dataclasses.asdict(make_case(core, config, run, file)))
        if bus == "stream":
            said = simulator.run("nomul.sim.bench", {"cases": cases}, activity=activity, folder=folder, waves=waves)
            return list(said["results"])
        # The AXI bench runs one case in each simulation.
        results: list[dict[str, Any]] = []
        for case in cases:
            more: dict[str, Any] = {"folder": folder, "waves": None if results else waves}
            results += simulator.run("nomul.sim.axi_bench", {"cases": [case]}, **more)["results"]
        return results


def make_case(core: str, config: Any, run: Run, file: Path) -> Case:
    """Return a run as the bench takes it; its arrays are written to a file."""
    jobs = [as_job(core, config, job) for job in run.jobs]
    ports = (*config.inputs, *config.outputs)
    arrays: dict[str, Any] = {}
    times = []
    for number, job in enumerate(jobs):
        words = {port.name: job.words(port.name, port.shape.width) for port in config.inputs}
        arrays |= {f"{name}{number}": given.rows for name, given in words.items()}
        times.append({name: given.times for name, given in words.items()})
        for port in config.outputs:
            values, last = job.outputs[port.name]
            arrays[f"{port.name}{number}"] = pack_lanes(values, port.shape.width, last)
            if port.name in job.beyond:
                kind = 1 if job.beyond_is_known else 2
                arrays[f"{port.name}{number}_beyond"] = job.beyond[port.name].astype(np.int8) * kind
    np.savez(file, **arrays)
    model = sum(config.cycles(**job.fields) for job in jobs)
    return Case(
        jobs=[job.fields for job in jobs],
        arrays=str(file),
        field_bits=field_bits(config),
        inputs=[port.name for port in config.inputs],
        outputs=[port.name for port in config.outputs],
        ports={
            port.name: {
                "lanes": port.lanes, "width": port.shape.width, "signed": port.shape.signed,
                "container": port.container,
            }
            for port in ports
        },
        times=times,
        place_names=config.place_names,
        illegal_first=list(run.illegal_first),
        illegal_last=list(run.illegal_last),
        vectors=sum(vectors_of(config, job) for job in jobs),
        stall=run.stall,
        seed=run.seed,
        reset_after=run.reset_after,
        timeout=int((model + 1000) * 4 / (1 - min(run.stall, 0.9)) ** 2),
    )  # fmt: skip


def random_jobs(core: str, config: Any, count: int, seed: int) -> list[Job]:
    """Return jobs of random sizes: random values of every magnitude, extremes, ties and zeros, the same for a seed."""
    draw, job = Draw(seed), find_core(core).jobs
    if job is None:
        raise InputError(f"core {core} draws no random jobs: its Core names no jobs")
    return [job(config, draw) for _ in range(count)]


def check_core(
    core: str,
    config: Any,
    jobs: Sequence[Job | Product],
    *,
    simulator: str = "verilator",
    bus: str = "stream",
    stall: float = 0.0,
    seed: int = 0,
    waves: Path | None = None,
) -> dict[str, Any]:
    """Simulate jobs in a row and then, of several, the largest alone without stalls; return what `nomul check` says.

    `cycles` are those of all jobs in a row, `job_cycles` those of the largest job alone, which must be `model_cycles`
    where nothing stalls. Utilisation is work over what the cycles allowed at full use, stalls and padding included.
    `folder` is where the run was kept, if something differed. The values of all signals are written to `waves`.
    """
    made = [as_job(core, config, job) for job in jobs]
    built = build_core(core, config, simulator, bus, waves=waves is not None)
    largest = max(made, key=lambda job: config.cycles(**job.fields))
    runs = [Run(made, stall, seed), *([Run([largest])] if len(made) > 1 else [])]
    with Evidence() as evidence:
        said = bench_core(built, core, config, runs, bus, folder=evidence.folder, waves=waves)
        wrong = [one["mismatches"] + one["surplus"] for one in said]
        differences, folder = [], None
        if any(wrong):
            number = next(place for place, one in enumerate(wrong) if one)
            differences = said[number]["differences"]
            folder = _keep(evidence, built, config, [made, [largest]][number], differences)
    together, alone = said[0], said[-1]
    unit, work = config.work_unit, sum(config.work(**job.fields) for job in made)
    peak = config.modes[made[0].fields.get("mode", 0)].macs_per_cycle if config.modes else config.work_per_cycle
    return {
        "jobs": len(made),
        "outputs": sum(one["outputs"] for one in said),
        "mismatches": sum(wrong),
        "first_mismatch": differences[0] if differences else None,
        "differences": differences,
        "folder": folder,
        "cycles": together["cycles"],
        f"{unit}s": work,
        f"{unit}s_per_cycle_peak": peak,
        "utilization": work / (together["cycles"] * peak) if together["cycles"] > 0 else 0.0,
        "largest_job": largest.fields,
        "job_cycles": alone["cycles"],
        "model_cycles": config.cycles(**largest.fields),
        "seed": seed,
        "seconds": sum(one["seconds"] for one in said),
    }


def _keep(
    evidence: Evidence, built: Simulator, config: Any, jobs: Sequence[Job], differences: list[dict[str, Any]]
) -> str:
    """Keep a run that found differences: operands as numbers, streams as transfers; return its folder."""
    operands: dict[str, Any] = {}
    bits = field_bits(config)
    size = -(-sum(bits.values()) // 8)
    given = [pack_fields(job.fields, bits).to_bytes(size, "little") for job in jobs]
    streams: dict[str, Any] = {"jobs": np.frombuffer(b"".join(given), np.uint8).reshape(-1, size)}
    for port in config.inputs:
        words = [job.words(port.name, port.shape.width) for job in jobs]
        streams[port.name] = np.concatenate([np.tile(each.rows, (each.times, 1)) for each in words])
    for port in config.outputs:
        packed = [pack_lanes(job.outputs[port.name][0], port.shape.width, job.outputs[port.name][1]) for job in jobs]
        streams[f"{port.name}_expected"] = np.concatenate(packed)
    for name in jobs[0].operands:
        operands |= {f"{name}{number or ''}": job.operands[name] for number, job in enumerate(jobs)}
    for name, lanes in jobs[0].inputs.items():
        if not jobs[0].operands and isinstance(lanes, np.ndarray):
            operands[name] = np.concatenate([job.inputs[name] for job in jobs])
    return evidence.keep(built, operands, streams, differences)
