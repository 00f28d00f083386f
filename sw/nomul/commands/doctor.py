"""`nomul doctor`: tries every tool that Nomul drives, and says how to mend what does not work."""

import sys
import threading
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from nomul.console import json_option, print_json, progress_bar, stdout
from nomul.fpga.doctor_checks import Trial, run_trials
from nomul.jobs.tools import TOOLS


def describe(trial: Trial) -> dict[str, Any]:
    """Return an outcome as an entry of the command's JSON."""
    return {
        "name": trial.tool.name,
        "purpose": trial.tool.purpose,
        "version": trial.version,
        "required": trial.tool.required,
        "works": trial.works,
        "seconds": trial.seconds,
        "message": trial.message,
        "mend": "" if trial.works else trial.tool.mend,
    }


def table_of(trials: list[Trial]) -> Table:
    """Return the outcomes as a table that fits 80 columns."""
    table = Table(box=None, pad_edge=False)
    for heading in ("tool", "version", "for", "needed", "works"):
        table.add_column(heading, no_wrap=heading != "for")
    table.add_column("s", justify="right")
    for trial in trials:
        tool = trial.tool
        works = Text("yes", "green") if trial.works else Text("no", "red" if tool.required else "yellow")
        needed = "yes" if tool.required else "no"
        table.add_row(tool.name, trial.version or "-", tool.purpose, needed, works, f"{trial.seconds:.1f}")
    return table


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Check every tool that Nomul drives, each on a module of a few lines; exit 1 if a needed one does not work."""
    lock = threading.Lock()
    with progress_bar(transient=True) as progress:
        task = progress.add_task("trying the tools", total=len(TOOLS))

        def finished(trial: Trial) -> None:
            with lock:
                progress.advance(task)

        trials = run_trials(finished)
    broken = [trial for trial in trials if not trial.works]
    healthy = not any(trial.tool.required for trial in broken)
    if as_json:
        print_json({"ok": healthy, "tools": [describe(trial) for trial in trials]})
    else:
        stdout.print(table_of(trials))
        for trial in broken:
            stdout.print(f"\n{trial.tool.name}: {trial.message}", markup=False, highlight=False)
            stdout.print(f"  to mend it: {trial.tool.mend}", markup=False, highlight=False)
    if not healthy:
        sys.exit(1)
