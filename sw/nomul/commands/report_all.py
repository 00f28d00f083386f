"""`nomul report --all`: every engine on every target, as a page, as Markdown and as JSON."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nomul.commands.report_cells import CellOptions
from nomul.commands.simulated import simulated_job
from nomul.console import stderr
from nomul.cores.discover import matmul_cores
from nomul.errors import InputError
from nomul.files import write_atomically
from nomul.jobs.pool import run_jobs
from nomul.names import canonical
from nomul.report.answers import answers, worse
from nomul.report.page import markdown, page, tools
from nomul.report.sweep import ALL_TARGETS, SIZES, Build, builds, figures, name_of, wanted

__all__ = ["FOLDER", "Sweep", "report_all"]

FOLDER = Path("build/report")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `--all` goes with: sizes of `nomul.report.sweep.SIZES`, all if empty, and how it is done."""

    everything: bool
    sizes: Sequence[str]
    output: Path
    workers: int | None
    scheduler: str | None
    """The last two as in `nomul.jobs.pool.run_jobs`."""


def report_all(
    engine: str | None, target: str | None, sweep: Sweep, cells: CellOptions, command: str
) -> dict[str, Any]:
    """Build, and write index.html, report.md and report.json into a folder; return what was written.

    Parameters
    ----------
    engine, target
        Only this one, if given.
    sweep, cells
        What is built, and how.
    command
        What was typed, for the page.

    Raises
    ------
    InputError
        If the engine does not exist, or a library is not there.
    """
    liberties, folder = cells.liberties, sweep.output
    engine = engine and canonical(engine, matmul_cores())
    if engine is not None and engine not in matmul_cores():
        raise InputError(f"no engine is called {engine!r}; the engines are {', '.join(matmul_cores())}")
    for file in liberties:
        if not file.is_file():
            raise InputError(f"liberty file {file} does not exist")
    start = time.monotonic()
    engines, targets = [engine] if engine else list(matmul_cores()), [target] if target else ALL_TARGETS
    chosen = builds(engines, sweep.sizes or SIZES, targets, liberties)
    jobs = wanted(chosen, cells.clock_ns)
    if cells.tokens:
        for build in chosen:
            jobs |= _simulated(build, cells)
    names = list(jobs)
    outcomes = run_jobs(
        [jobs[name] for name in names], workers=sweep.workers, scheduler=sweep.scheduler, description="building"
    )
    found = figures(chosen, dict(zip(names, outcomes, strict=True)))
    result = {
        "command": command,
        "tools": tools(found),
        "answers": [answer.as_json() for answer in answers(found)],
        "worse_than_plain": worse(found),
        "entries": [figure.as_json() for figure in found],
    }
    files = {
        "index.html": page(found, command),
        "report.md": markdown(found, command),
        "report.json": json.dumps(result, indent=1) + "\n",
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    failed = [f"{outcome.job.label}: {outcome.error}" for outcome in outcomes if outcome.value is None]
    for line in dict.fromkeys(failed):
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    return {
        "files": [str(folder / name) for name in files],
        "entries": len(found),
        "built": sum(outcome.value is not None for outcome in outcomes),
        "from_cache": sum(outcome.kept for outcome in outcomes),
        "failed": failed,
        "seconds": round(time.monotonic() - start, 1),
    }


def _simulated(build: Build, cells: CellOptions) -> dict[str, Any]:
    """Return the job that simulates a small build's netlist in a library, in place of the one that does not."""
    if build.size != "small" or build.liberty is None:
        return {}
    config = dataclasses.asdict(build.config)
    return {name_of(build): simulated_job(build.engine, config, build.liberty, cells.clock_ns, 30.0, cells.tokens)}
