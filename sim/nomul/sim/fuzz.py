"""Random configurations of every core, simulated (`make fuzz`).

`python -m nomul.sim.fuzz configurations COUNT` simulates so many, and
`python -m nomul.sim.fuzz machines COUNT` small machines (`nomul.sim.fuzz_machine`).

Sample number SEED is a core, a configuration over the whole of its fields, a bus, and runs of random operands:
jobs alone that nothing stalls, whose cycles must be the model's, and jobs in a row with stalls, with a reset between
and with illegal ones. What was found without a fault is kept in the cache, by the contents of the sources, so that
a run that is stopped goes on where it was.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from nomul.cores.discover import cores, find_core
from nomul.export.top_level import BUSES
from nomul.jobs.cache import place, ready
from nomul.jobs.sources import sources
from nomul.report.measure import modules_of
from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.draw import draw_config, draw_runs, widest
from nomul.sim.fuzz_machine import machines

__all__ = ["Sample", "configurations", "fastest", "find_fault", "run_seeds", "sample"]

PORT_MOST = 1200
"""Widest port of a sample, in bits."""

PRODUCTS_MOST = 160
"""Most products or values a cycle of a sample."""

CYCLES_MOST = 600
"""Most cycles of a sample's shortest job."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one seed stands for."""

    seed: int
    name: str
    config: Any
    bus: str
    runs: Sequence[Run]

    def __str__(self) -> str:
        """Say it as options of `nomul check`."""
        fields = dataclasses.fields(self.config)
        values = {field.name: getattr(self.config, field.name) for field in fields}
        settings = " ".join(f"--set {name}={value}" for name, value in values.items() if value is not None)
        return f"{self.name} {settings} --bus {self.bus}"


def sample(seed: int) -> Sample:
    """Return the sample of a seed; cores take turns."""
    dice = random.Random(seed)
    name = [*cores()][seed % len(cores())]
    core = find_core(name)
    while True:
        config = draw_config(core.gateware.config, dice)
        shortest = config.cycles(**dict.fromkeys(config.job_limits, 1))
        if config.work_per_cycle <= PRODUCTS_MOST and widest(config) <= PORT_MOST and shortest <= CYCLES_MOST:
            break
    bus = BUSES[dice.random() < 0.2]
    return Sample(seed, name, config, bus, draw_runs(name, config, bus, dice))


def fastest() -> str:
    """Return the simulator that builds small designs sooner: Icarus where it is installed."""
    return "icarus" if shutil.which("iverilog") else "verilator"


def find_fault(drawn: Sample, simulator: str) -> str | None:
    """Simulate a sample; return what is wrong, or None."""
    config, runs = drawn.config, drawn.runs
    built = build_core(drawn.name, config, simulator, drawn.bus)
    try:
        results = bench_core(built, drawn.name, config, runs, drawn.bus)
    finally:
        shutil.rmtree(built.folder, ignore_errors=True)
        Path(f"{built.folder}.lock").unlink(missing_ok=True)
    for number, (run, said) in enumerate(zip(runs, results, strict=True)):
        jobs = [job.fields for job in run.jobs]
        where = f"run {number}, jobs {jobs}, stall {run.stall}"
        if said["mismatches"] or said["surplus"]:
            wrong = f"{said['mismatches']} mismatches, {said['surplus']} surplus"
            return f"{where}: {wrong}, first {said['first_mismatch']}"
        if said["fault"] != bool(run.illegal_last):
            return f"{where}: fault is {said['fault']}"
        if run.alone and said["cycles"] != config.cycles(**jobs[0]):
            return f"{where}: {said['cycles']} cycles, the model says {config.cycles(**jobs[0])}"
    return None


def configurations(seed: int, simulator: str) -> str | None:
    """Simulate the sample of a seed; return its fault in one line, or None."""
    torch.set_num_threads(1)
    drawn: Sample | None = None
    try:
        drawn = sample(seed)
        fault = find_fault(drawn, simulator)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    return fault and " ".join(f"seed {seed}: nomul check {drawn}: {fault}".split())


@functools.cache
def _sources() -> str:
    """Return a hash of everything that a sample is made of."""
    texts = (
        path.read_bytes()
        for files in sources("nomul.sim.fuzz", *(module for name in cores() for module in modules_of(name))).values()
        for path in files
    )
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]


def run_seeds(
    check: Callable[[int, str], str | None], seeds: Iterable[int], simulator: str, workers: int
) -> tuple[int, list[str]]:
    """Check seeds in as many processes; return how many had no fault, and the faults of the others."""
    kept = ready(place() / "fuzz") / f"{check.__name__}-{simulator}-{_sources()}.txt"
    known = {int(line) for line in kept.read_text().split()} if kept.exists() else set()
    wanted, faults = set(seeds), []
    good = len(wanted & known)
    with concurrent.futures.ProcessPoolExecutor(workers) as pool, kept.open("a") as file:
        running = {pool.submit(check, seed, simulator): seed for seed in sorted(wanted - known)}
        for future in concurrent.futures.as_completed(running):
            fault = future.result()
            if fault is None:
                good += 1
                print(running[future], file=file, flush=True)
            else:
                faults.append(fault)
                print(fault, flush=True)
            if (good + len(faults)) % 50 == 0:
                print(f"{good} without a fault, {len(faults)} with one", file=sys.stderr, flush=True)
    return good, faults


def main() -> None:
    """Run as many samples as the command line says; exit with 1 if one had a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("configurations", "machines"))
    parser.add_argument("count", type=int, help="samples")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--sim", default=fastest(), choices=("verilator", "icarus"))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.count)
    check = configurations if given.kind == "configurations" else machines
    good, faults = run_seeds(check, seeds, given.sim, given.workers)
    print(f"{good} of {given.count} {given.kind} without a fault")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
