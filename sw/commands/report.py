"""`nomul report`: what an engine costs on an FPGA or in standard cells, and how fast it is."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from hw.arith.target import TARGETS as ARITHMETIC
from hw.engines import ENGINES
from sw.console import json_option, print_json, stderr, stdout
from sw.engines import configure
from sw.errors import InputError
from sw.flow.cell_report import CellReport, Core, cell_report
from sw.flow.liberty import read_liberty
from sw.flow.report import Report, Work, check_routable, report
from sw.flow.rtlil import convert
from sw.flow.targets import TARGETS, find_target

REFERENCE = "1536x1536"
CELLS = "cells"


def table_of(result: Report) -> Table:
    """Return the figures as a table that fits 80 columns."""
    found, work, timing = result.synthesis, result.work, result.timing
    table = Table(box=None, pad_edge=False, title=f"{result.engine} on {find_target(found.target).description}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("note")
    for name, value, note in (
        ("LUT", f"{found.lut:,}", f"of them {found.lutram_as_lut:,} as memory"),
        ("flip-flops", f"{found.ff:,}", ""),
        ("carry cells", f"{found.carry:,}", ""),
        ("multipliers", f"{found.dsp:,}", ""),
        ("block RAM", f"{found.bram:g}", f"large RAM {found.uram:g}"),
        ("MAC per cycle", f"{work.macs_per_cycle:,}", f"used to {100 * work.utilization:.2f} %"),
        ("LUT per MAC", f"{result.lut_per_mac:.3f}", f"sustained {result.lut_per_sustained_mac:.3f}"),
    ):
        table.add_row(name, value, note)
    if timing is not None:
        fmax = "no path" if timing.fmax_mhz is None else f"{timing.fmax_mhz:.1f}"
        cells = f"{timing.logic_cells:,}"
        seeds = ", ".join("none" if value is None else f"{value:.1f}" for value in timing.fmax_by_seed.values())
        table.add_row("Fmax, MHz", fmax, f"median of {seeds}")
        table.add_row(
            "cells after packing", cells, f"{result.cells_per_mac:.3f} per MAC, of {timing.logic_available:,}"
        )
    table.caption = f"{', '.join(result.tool_versions)}; {result.seconds:g} s of tool time"
    return table


def parse_layer(text: str) -> tuple[int, int]:
    """Read 'N_OUTxN_IN'; InputError if it is not two numbers from 1 up."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise InputError(f"layer '{text}' is not N_OUTxN_IN with two numbers from 1 up, for example {REFERENCE}")
    return int(found[1]), int(found[2])


def cell_table(result: CellReport) -> Table:
    """Return the figures of standard cells as a table that fits 80 columns."""
    found, work = result.found, result.core.work
    table = Table(box=None, pad_edge=False, title=f"{result.core.engine} in {found.library}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("note")
    reference, ratio = result.baseline_area_per_mac, result.area_ratio
    path = " to ".join(found.path)
    kinds = result.as_json()["area_by_kind"]
    shares = ", ".join(
        f"{name} {area / found.area:.0%}" for name, area in sorted(kinds.items(), key=lambda kind: -kind[1])
    )
    repairs = f"{found.stronger} stronger cells, {found.buffers} buffers"
    for name, value, note in (
        ("area", f"{found.area:,.0f}", f"as mapped {found.mapped_area:,.0f}; {repairs}"),
        ("of it", "", shares),
        ("MAC per cycle", f"{work.macs_per_cycle:,}", f"used to {100 * work.utilization:.2f} %"),
        ("area per MAC", f"{result.area_per_mac:.2f}", ""),
        ("INT8 array", "-" if reference is None else f"{reference:.2f}", "area per MAC"),
        ("ratio", "-" if ratio is None else f"{ratio:.3f}", ""),
        ("critical path, ns", "none" if found.critical_path_ns is None else f"{found.critical_path_ns:.3f}", path),
        ("power, mW", "-" if result.power_mw is None else f"{result.power_mw:.3f}", result.power_source),
        ("memory macros, bits", f"{found.memory_bits:,}", "not in the area"),
    ):
        table.add_row(name, value, note)
    clock = "for the least area" if result.clock_ns is None else f"for a clock of {result.clock_ns:g} ns"
    table.caption = f"made {clock}; timing: {found.timing_source}; {found.seconds:g} s of tool time"
    return table


def baseline_core(config: Any, target: str, utilization: float) -> Core | None:
    """Return the INT8 array of the size of an engine's configuration; None if there is no such engine yet.

    It has the engine's `lanes_in` and `rows`, where the engine has those fields, and otherwise eight rows (fewer for a
    smaller engine) and the lanes that come nearest to the engine's products in a cycle.
    """
    spec = ENGINES.get("baseline")
    if spec is None:
        return None
    names = {field.name for field in dataclasses.fields(spec.config)}
    rows = config.rows if hasattr(config, "lanes_in") else min(8, config.macs_per_cycle)
    lanes = getattr(config, "lanes_in", None) or max(1, round(config.macs_per_cycle / rows))
    values = {
        "lanes_in": lanes,
        "rows": rows,
        "n_in_max": config.n_in_max,
        "n_out_max": config.n_out_max,
        "target": target,
    }
    try:
        reference = spec.config(**{name: value for name, value in values.items() if name in names})
    except ValueError as error:
        raise InputError(f"the INT8 array of this size is not possible: {error}") from None
    text = convert(spec.component(reference), "baseline")
    return Core(text, "baseline", dataclasses.asdict(reference), Work(reference.macs_per_cycle, utilization))


def report_cells(
    core: Core, baseline: Core | None, files: tuple[Path, ...], clock_ns: float | None, status: Any
) -> list[CellReport]:
    """Report a core in each of several libraries."""
    libraries = [read_liberty(file) for file in files]
    return [
        cell_report(core, library, clock_ns, baseline=baseline, progress=lambda step: status.update(step))
        for library in libraries
    ]


@click.command()
@click.argument("engine")
@click.option("--target", required=True, type=click.Choice([*TARGETS, CELLS]), help="FPGA family, or standard cells.")
@click.option("--portable", is_flag=True, help="Use plain operators instead of the target's arithmetic forms.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be repeated.")
@click.option("--layer", default=REFERENCE, show_default=True, help="Layer for the utilisation, N_OUTxN_IN.")
@click.option("--pnr", is_flag=True, help="Place and route too, where nextpnr supports the family.")
@click.option(
    "--liberty",
    "liberties",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Library of standard cells, plain or gzipped; may be repeated.",
)
@click.option("--clock-ns", type=float, help="Clock period that standard cells are made for; without it, least area.")
@json_option
def command(
    engine: str, target: str, portable: bool, settings: tuple[str, ...], layer: str, pnr: bool,
    liberties: tuple[Path, ...], clock_ns: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Synthesise ENGINE for a target and report its resources; with --pnr also its clock frequency."""
    if (target == CELLS) != bool(liberties):
        raise InputError(
            "target 'cells' needs --liberty FILE, a library of standard cells"
            if target == CELLS
            else f"--liberty goes with target 'cells' only; the target is '{target}'"
        )
    if clock_ns is not None and (target != CELLS or not 0 < clock_ns < float("inf")):
        raise InputError(
            f"--clock-ns is {clock_ns:g}; allowed: above 0"
            if target == CELLS
            else f"--clock-ns goes with target 'cells' only; the target is '{target}'"
        )
    arithmetic = "portable" if portable or target not in ARITHMETIC else target
    config = configure(engine, settings, arithmetic)
    if pnr:
        check_routable(target)
    n_out, n_in = parse_layer(layer)
    n_out, n_in = min(n_out, config.n_out_max), min(n_in, config.n_in_max)
    utilization = n_out * n_in / (config.cycles(n_in, n_out, 1) * config.macs_per_cycle)
    work = Work(config.macs_per_cycle, utilization)
    shape = {"layer": {"n_out": n_out, "n_in": n_in}}
    with stderr.status(f"elaborating {engine}") as status:
        if target == CELLS:
            for file in liberties:
                if not file.is_file():
                    raise InputError(f"liberty file {file} does not exist")
        text = convert(ENGINES[engine].component(config), engine)
        if target == CELLS:
            core = Core(text, engine, dataclasses.asdict(config), work)
            found = report_cells(core, baseline_core(config, arithmetic, utilization), liberties, clock_ns, status)
        else:
            result = report(
                text,
                engine,
                dataclasses.asdict(config),
                target,
                work,
                pnr=pnr,
                progress=lambda step: status.update(step),
            )
    if target == CELLS:
        if as_json:
            one = found[0].as_json() | shape
            print_json(
                one
                if len(found) == 1
                else {"engine": engine, "target": CELLS, **shape, "libraries": [each.as_json() for each in found]}
            )
        else:
            for each in found:
                stdout.print(cell_table(each))
    elif as_json:
        print_json(result.as_json() | shape)
    else:
        stdout.print(table_of(result))
        if result.timing is not None and (path := result.timing.critical_path) is not None:
            where = f"slowest path: {path.logic_ns:g} ns in cells and {path.routing_ns:g} ns in wires,"
            stdout.print(f"{where} {path.start} to {path.end}", markup=False, highlight=False)
