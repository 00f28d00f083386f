"""Guards what was reached: python -m benchmarks.guard [--update]

Sets the key figures of today beside those of benchmarks/baseline.json, and fails with a table of what got worse: areas
and look-up tables by more than 3 %, cycles at all. `--update` writes the figures of today in their place.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from nomul.console import stdout
from nomul.cores.discover import matmul_cores
from nomul.files import write_atomically
from nomul.jobs.pool import run_jobs
from nomul.report.sweep import build_job, builds

__all__ = ["BASELINE", "SLACK", "cycles", "measure_key_figures", "worse"]

BASELINE = Path(__file__).with_name("baseline.json")

SLACK = 0.03
"""Share by which an area may grow."""

JOBS = ((1536, 1536, 1), (4096, 1536, 16), (100, 1000, 3))
"""Outputs, inputs and tokens of the jobs whose cycles are guarded."""


def cycles() -> dict[str, float]:
    """Return the cycles of each engine's default, in each mode, by name."""
    found: dict[str, float] = {}
    for engine, core in matmul_cores().items():
        for target in ("portable", "cells"):
            config = core.gateware.config(target=target)
            for index, mode in enumerate(config.modes):
                for n_out, n_in, tokens in JOBS:
                    name = f"{engine} {mode.name}, {target}, {n_out} x {n_in}, {tokens} tokens, cycles"
                    found[name] = config.cycles(n_in, n_out, tokens, index)
    return found


def measure_key_figures() -> dict[str, float]:
    """Return the cycles, and what each engine's small size takes on ECP5 and of gate equivalents."""
    chosen = builds(list(matmul_cores()), ["small"], ["ecp5", "cells"], [])
    outcomes = run_jobs([build_job(build, None) for build in chosen], description="synthesising")
    found = cycles()
    for build, outcome in zip(chosen, outcomes, strict=True):
        if outcome.value is not None:
            unit, name = ("area", "area in gate equivalents") if build.target == "cells" else ("lut", "LUT")
            settings = " ".join(f"{field}={value}" for field, value in build.settings)
            found[f"{build.engine} {settings}, {build.target}, {name}"] = outcome.value[unit]
        else:
            stdout.print(f"{outcome.job.label}: {outcome.error}", markup=False, highlight=False)
    return found


def worse(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, tuple[float, float | None]]:
    """Return what got worse, or is no longer there, with both values."""
    found: dict[str, tuple[float, float | None]] = {}
    for name, old in before.items():
        new = now.get(name)
        most = old if name.endswith("cycles") else old * (1 + SLACK)
        if new is None or new > most:
            found[name] = (old, new)
    return found


def main(arguments: list[str]) -> int:
    """Measure and compare, or write; return the exit code."""
    now = measure_key_figures()
    if arguments == ["--update"]:
        write_atomically(BASELINE, (json.dumps(now, indent=1) + "\n").encode())
        return 0
    before = json.loads(BASELINE.read_text())
    bad = worse(before, now)
    better = sum(now[name] < old for name, old in before.items() if name in now)
    stdout.print(f"{len(before)} key figures: {len(bad)} worse, {better} better, {len(now.keys() - before)} new")
    if not bad:
        return 0
    table = Table("figure", "before", "now", "")
    for name, (old, new) in bad.items():
        change = "gone" if new is None else f"{new / old - 1:+.1%}"
        table.add_row(name, f"{old:,.0f}", "" if new is None else f"{new:,.0f}", change)
    stdout.print(table)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
