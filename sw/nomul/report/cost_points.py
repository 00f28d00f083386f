"""Synthesises the configurations that the models of `nomul.report.cost` are fitted to, and those that test the fit.

    python -m nomul.report.cost_points [CORE]...

Writes cost_points.json beside this file, or for a core that another distribution brings the file that its `Core` object
names. All of ours take about an hour on two cores; what is there already is not made again.
"""

import dataclasses
import itertools
import json
import sys
from typing import Any

from nomul.console import stderr
from nomul.cores.discover import find_core, matmul_cores
from nomul.files import write_atomically
from nomul.jobs.pool import JobOutcome, ToolJob, run_jobs
from nomul.report.cost import POINTS, arithmetic
from nomul.report.measure import cells_job, fpga_job

TARGETS = ("ecp5", "ice40", "xcup", "cells", "gowin")


def job(engine: str, config: dict[str, Any], target: str, weight: float) -> ToolJob:
    """Return the job that measures a configuration."""
    if target == "cells":
        return cells_job(engine, config, None, None, weight)
    return fpga_job(engine, config, target, weight)


def main(engines: list[str]) -> None:
    """Measure what is not in the file yet, engine by engine, and write the file after each measurement."""
    files = {engine: find_core(engine).cost_file or POINTS for engine in engines}
    kept = {file: json.loads(file.read_text()) if file.exists() else [] for file in files.values()}
    points = itertools.chain(*kept.values())
    known = {json.dumps([point["engine"], point["target"], point["settings"]], sort_keys=True) for point in points}
    wanted: list[dict[str, Any]] = []
    jobs: list[ToolJob] = []
    for target in TARGETS:
        for engine in engines:
            if target not in (find_core(engine).cost_targets or TARGETS):
                continue
            for point in find_core(engine).cost_points:
                fields = dict(point.settings)
                entry = {"engine": engine, "target": target, "settings": fields, "held_out": point.held_out}
                if json.dumps([engine, target, fields], sort_keys=True) in known:
                    continue
                config = find_core(engine).gateware.config(**fields, target=arithmetic(target))
                wanted.append(entry)
                jobs.append(job(engine, dataclasses.asdict(config), target, 1 / (len(jobs) + 1)))
    entries = dict(zip((job.key for job in jobs), wanted, strict=True))

    def finished(outcome: JobOutcome) -> None:
        if outcome.value is None:
            stderr.print(f"{outcome.job.label}: {outcome.error}", markup=False)
            return
        names = ("area", "memory_bits") if "area" in outcome.value else ("lut", "ff", "bram", "uram")
        figures = {name: outcome.value[name] for name in names}
        entry = entries[outcome.job.key]
        file = files[entry["engine"]]
        kept[file].append(entry | figures | {"tools": outcome.value["tools"]})
        lines = ",\n ".join(json.dumps(point) for point in kept[file])
        write_atomically(file, f"[\n {lines}\n]\n".encode())

    run_jobs(jobs, description="synthesising", finished=finished)


if __name__ == "__main__":
    main(sys.argv[1:] or list(matmul_cores()))
