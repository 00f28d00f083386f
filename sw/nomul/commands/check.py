"""`nomul check`: simulate the RTL of a core on a layer, or on random jobs, and compare every output with PyTorch."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from nomul.commands.jobs import choose_jobs
from nomul.commands.wanted import Named, Wanted, named_core, wanted_jobs
from nomul.console import json_option, print_json, stderr, stdout
from nomul.export.top_level import BUSES
from nomul.options import Number, Output
from nomul.sim.check import check_core
from nomul.sim.runner import SIMULATORS

__all__ = ["command"]


def show(result: dict[str, Any], unit: str, places: Sequence[str]) -> None:
    """Print the figures of a check as a table, then the first differences, each at its `places`."""
    where = f", {result['mode']}, on {result['layer']}" if "layer" in result else ""
    table = Table(show_header=False, title=f"{result['engine']}{where}", title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    cycles, peak = max(1, result["cycles"]), result[f"{unit}s_per_cycle_peak"]
    rows = {}
    if "layer" in result:
        rows["weights"] = result["weights"]
        rows["matrix"] = f"{result['n_out']} x {result['n_in']}, {result['tokens']} tokens"
    rows |= {"outputs compared": f"{result['outputs']:,}", "mismatches": f"{result['mismatches']:,}"}
    if result["jobs"] == 1:
        rows["cycles (model)"] = f"{result['cycles']:,} ({result['model_cycles']:,})"
    else:
        rows |= {
            "jobs": f"{result['jobs']:,}",
            "cycles of all jobs": f"{result['cycles']:,}",
            "largest job": ", ".join(f"{name} {value}" for name, value in result["largest_job"].items()),
            "its cycles alone (model)": f"{result['job_cycles']:,} ({result['model_cycles']:,})",
        }
    name = {"mac": "MAC"}.get(unit, f"{unit}s")
    rows |= {
        f"{name} per cycle (peak)": f"{result[f'{unit}s'] / cycles:,.1f} ({peak:,})",
        "utilisation": f"{result['utilization']:.1%}",
        "seed": str(result["seed"]),
    }
    if "scales_lost" in result:
        rows["group scales"] = (
            f"{result['group_scales']:,}, {result['scale_bits']} bits, {result['scales_lost']:,} lost"
        )
    for title, value in rows.items():
        table.add_row(title, value)
    stdout.print(table)
    if result["mismatches"]:
        show_differences(result, places)


def show_differences(result: dict[str, Any], places: Sequence[str]) -> None:
    """Print the first differences of a check, and where the run was kept."""
    shown = [
        ", ".join(f"{place} {difference[place]}" for place in places)
        + f": expected {difference['expected']}, got {difference['got']}"
        for difference in result["differences"]
    ]
    lines = ["the first differences:", *shown] if shown else ["more came out than was expected"]
    lines.append(f"operands, streams, design and log are in {result['folder']}; replay with --seed {result['seed']}")
    stdout.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@click.command()
@named_core
@wanted_jobs
@click.option("--sim", "simulator", type=click.Choice(SIMULATORS), default=SIMULATORS[0], show_default=True)
@click.option("--bus", type=click.Choice(BUSES), default=BUSES[0], show_default=True)
@click.option("--stall", default=0.0, show_default=True, type=Number(0, 0.9), help="Chance of a wait.")
@click.option("--waves", type=Output(file=True), metavar="FILE.vcd", help="Write every signal's values.")
@json_option
def command(
    named: Named, wanted: Wanted, simulator: str, bus: str, stall: float, waves: Path | None, as_json: bool
) -> None:
    """Simulate the RTL of ENGINE on a layer and compare every output with PyTorch; exit code 1 if one differs.

    Then the first differences of several values are listed, and a folder is kept with the design, the operands (.npy)
    and the streams (.hex).

    A core without weights runs random jobs, `--tokens` of them, with extremes and ties among them; absmax quantises the
    vectors of `--activations` instead where they are given.
    """
    engine, chosen = named.engine, choose_jobs(named, wanted)
    stderr.print(f"simulating {engine} with {simulator}: {chosen.source}", highlight=False, markup=False)
    figures = check_core(
        engine, chosen.config, chosen.jobs, simulator=simulator, bus=bus, stall=stall, seed=wanted.seed, waves=waves
    )
    result = {"engine": engine, **chosen.facts, **figures}
    if as_json:
        print_json(result)
    else:
        outputs = chosen.config.outputs
        places = (*(["output"] if len(outputs) > 1 else []), *(["job"] if len(chosen.jobs) > 1 else []))
        show(result, chosen.config.work_unit, (*places, *chosen.config.place_names))
    if result["mismatches"]:
        sys.exit(1)
