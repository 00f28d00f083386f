"""Synthesises the configurations that the cost models of `nomul.flow.cost` are fitted to, and those that test the fit.

    python -m benchmarks.cost_points [ENGINE]...

Writes sw/nomul/flow/cost_points.json. It takes about an hour on two cores; what is there already is not made again.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nomul.console import stderr, write_atomically
from nomul.engines import ENGINES
from nomul.flow.cost import POINTS
from nomul.flow.jobs import Job, Outcome, run_jobs
from nomul.flow.measure import cells_job, fpga_job

TARGETS = ("ecp5", "ice40", "xcup", "cells", "gowin")

ENGINE_TARGETS = {"fp16": ("ice40",), "mixpe_fp16": ("ice40",)}
"""Targets of engines that `explore` does not choose among: the report asks whether they fit an iCE40."""

ELEMENTS = ((2, 512), (4, 4096), (8, 1024), (16, 4096))
"""Rows, and the longest vectors of FP16's."""

ELEMENTS_TEST = ((6, 2048), (12, 4096))

ARRAYS: tuple[tuple[int, ...], ...] = (
    (4, 2, 512),
    (8, 2, 4096),
    (8, 8, 512),
    (16, 4, 8192),
    (12, 2, 1024),
    (16, 16, 4096),
)
"""Lanes, rows, and the longest vectors of the configurations that arrays are fitted to."""

ARRAYS_TEST: tuple[tuple[int, ...], ...] = ((8, 4, 2048), (16, 8, 8192))
"""The same of those that test the fit."""

LOOKUPS: tuple[tuple[int, ...], ...] = (
    (4, 2, 2, 512), (4, 4, 1, 4096), (8, 2, 4, 4096), (8, 8, 2, 1024), (16, 4, 4, 8192), (12, 16, 3, 4096),
    (4, 8, 4, 4096), (8, 14, 8, 8192), (16, 2, 2, 1024),
)  # fmt: skip
"""Tables, rows, tables filled at a time, and the longest vectors of TLMM."""

LOOKUPS_TEST: tuple[tuple[int, ...], ...] = ((8, 4, 2, 4096), (12, 8, 6, 2048), (16, 7, 8, 4096))


def settings(engine: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the fields of each configuration, and whether it is one that the fit does not see."""
    if engine == "tlmm":
        for held, lookups in ((False, LOOKUPS), (True, LOOKUPS_TEST)):
            for tables, rows, fill, longest in lookups:
                yield {"tables": tables, "rows": rows, "fill_units": fill, **_longest(longest)}, held
        return
    if engine == "fp16":
        for held, elements in ((False, ELEMENTS), (True, ELEMENTS_TEST)):
            for rows, longest in elements:
                yield {"rows": rows, **_longest(longest)}, held
        return
    scale = 4 if engine == "bwta" else 1
    for held, arrays in ((False, ARRAYS), (True, ARRAYS_TEST)):
        for lanes, rows, longest in arrays:
            if engine.startswith("mixpe"):
                lanes = 16 if lanes == 12 else lanes
            base: dict[str, Any] = {"lanes_in": lanes * scale, "rows": rows, **_longest(longest)}
            yield base, held
            if engine == "tint" and (lanes, rows) in ((8, 2), (8, 8), (16, 4), (16, 8)):
                yield base | {"weights": "dense"}, held


def _longest(longest: int) -> dict[str, int]:
    return {"n_in_max": longest, "n_out_max": longest}


def job(engine: str, config: dict[str, Any], target: str, weight: float) -> Job:
    """Return the job that measures a configuration."""
    if target == "cells":
        return cells_job(engine, config, None, None, weight)
    return fpga_job(engine, config, target, weight)


def main(engines: list[str]) -> None:
    """Measure what is not in the file yet, engine by engine, and write the file after each measurement."""
    kept = json.loads(POINTS.read_text()) if POINTS.exists() else []
    known = {json.dumps([point["engine"], point["target"], point["settings"]], sort_keys=True) for point in kept}
    wanted: list[dict[str, Any]] = []
    jobs: list[Job] = []
    for target in TARGETS:
        for engine in engines:
            if target not in ENGINE_TARGETS.get(engine, TARGETS):
                continue
            for fields, held in settings(engine):
                entry = {"engine": engine, "target": target, "settings": fields, "held_out": held}
                if json.dumps([engine, target, fields], sort_keys=True) in known:
                    continue
                config = ENGINES[engine].config(**fields, target="portable" if target in ("ice40", "gowin") else target)
                wanted.append(entry)
                jobs.append(job(engine, dataclasses.asdict(config), target, 1 / (len(jobs) + 1)))
    entries = dict(zip((job.key for job in jobs), wanted, strict=True))

    def finished(outcome: Outcome) -> None:
        if outcome.value is None:
            stderr.print(f"{outcome.job.label}: {outcome.error}", markup=False)
            return
        names = ("area", "memory_bits") if "area" in outcome.value else ("lut", "ff", "bram", "uram")
        figures = {name: outcome.value[name] for name in names}
        kept.append(entries[outcome.job.key] | figures | {"tools": outcome.value["tools"]})
        lines = ",\n ".join(json.dumps(point) for point in kept)
        write_atomically(Path(POINTS), f"[\n {lines}\n]\n".encode())

    run_jobs(jobs, description="synthesising", finished=finished)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ENGINES))
