"""`nomul report`: what a core costs on an FPGA or in standard cells, and how fast it is."""

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import click
from rich.table import Table

from nomul.arith.target import TARGETS as ARITHMETIC
from nomul.catalog import choose_variant, configure
from nomul.commands.report_all import FOLDER, Sweep, report_all
from nomul.commands.report_cells import CellOptions, cell_table, report_cells
from nomul.console import json_option, print_json, status, stdout
from nomul.contract import CoreConfig
from nomul.cores.api import Core
from nomul.cores.discover import find_core
from nomul.engines.matmul import TOKENS_MAX
from nomul.errors import InputError
from nomul.export.rtlil import convert
from nomul.fpga.targets import TARGETS, find_target
from nomul.options import POSITIVE, Integer, Output, bundle, refuse_given
from nomul.report.figures import Elaborated, Report, Work, check_routable, report
from nomul.report.sweep import SIZES

REFERENCE = "1536x1536"
CELLS = "cells"


def table_of(result: Report) -> Table:
    """Return the figures as a table that fits 80 columns."""
    found, work, timing = result.synthesis, result.work, result.timing
    product = work.name
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
        (f"{product} per cycle", f"{work.per_cycle:,}", f"used to {100 * work.utilization:.2f} %"),
        (f"LUT per {product}", f"{result.lut_per_work:.3f}", f"sustained {result.lut_per_sustained_work:.3f}"),
    ):
        table.add_row(name, value, note)
    if timing is not None:
        fmax = "no path" if timing.fmax_mhz is None else f"{timing.fmax_mhz:.1f}"
        cells = f"{timing.logic_cells:,}"
        seeds = ", ".join("none" if value is None else f"{value:.1f}" for value in timing.fmax_by_seed.values())
        table.add_row("Fmax, MHz", fmax, f"median of {seeds}")
        table.add_row(
            "cells after packing", cells, f"{result.cells_per_work:.3f} per {product}, of {timing.logic_available:,}"
        )
    table.caption = f"{', '.join(result.tool_versions)}; {result.seconds:g} s of tool time"
    return table


def reported_job(core: Core, config: CoreConfig, n_out: int, n_in: int) -> dict[str, int]:
    """Return the job that a core is reported for: a layer, or what it can do.

    Of a core that multiplies, the layer as far as it fits, and as many vectors as it takes together. Of another, every
    field at its limit, but K an eighth of M, and 16 vectors.
    """
    job = dict(config.job_limits)
    if core.multiplies:
        return {"n_in": min(n_in, job["n_in"]), "n_out": min(n_out, job["n_out"]), "tokens": config.tokens_together}
    if "k" in job:
        job["k"] = -(-job["scores"] // 8)
    if "vectors" in job:
        job["vectors"] = 16
    return job


def parse_layer(text: str) -> tuple[int, int]:
    """Read 'N_OUTxN_IN'; InputError if it is not two numbers from 1 up."""
    found = re.fullmatch(r"([1-9][0-9]{0,99})x([1-9][0-9]{0,99})", text)
    if not found:
        raise InputError(f"layer '{text}' is not N_OUTxN_IN with two numbers from 1 up, for example {REFERENCE}")
    return int(found[1]), int(found[2])


def _report_all(subject: "Subject", sweep: Sweep, cells: CellOptions, as_json: bool) -> None:
    """Write the page of all cores, or of one, and say what was written."""
    words = ["nomul", *sys.argv[1:]] if sys.argv[1:2] == ["report"] else ["nomul", "report", "--all"]
    written = report_all(subject.engine, subject.target, sweep, cells, shlex.join(words))
    if as_json:
        print_json(written)
        return
    told = f"{written['entries']} rows, {written['from_cache']} of {written['built']} results from the cache"
    stdout.print(f"{told}, {written['seconds']:g} s", highlight=False)
    for file in written["files"]:
        stdout.print(file, highlight=False, soft_wrap=True)


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is reported: a core, or all, and how it is made."""

    engine: str | None
    target: str | None
    portable: bool
    settings: tuple[str, ...]
    layer: str


@click.command()
@bundle(
    "subject",
    Subject,
    click.argument("engine", required=False),
    click.option("--target", type=click.Choice([*TARGETS, CELLS]), help="FPGA family, or standard cells."),
    click.option("--portable", is_flag=True, help="Use plain operators instead of the target's arithmetic forms."),
    click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be repeated."),
    click.option("--layer", default=REFERENCE, show_default=True, help="Layer for the utilisation, N_OUTxN_IN."),
)
@click.option("--pnr", is_flag=True, help="Place and route too, where nextpnr supports the family.")
@click.option(
    "--once",
    is_flag=True,
    help="Map a module that occurs several times only once: much faster for wide rows, a few cells more.",
)
@bundle(
    "cells",
    CellOptions,
    click.option(
        "--liberty",
        "liberties",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Library of standard cells, plain or gzipped; may be repeated.",
    ),
    click.option(
        "--simulate",
        "tokens",
        default=0,
        type=Integer(0, TOKENS_MAX),
        metavar="TOKENS",
        help="Simulate the netlist of standard cells on so many vectors of the committed model: compares it with "
        "PyTorch, and bases the power on its activity.",
    ),
    click.option(
        "--clock-ns",
        type=POSITIVE,
        help="Clock period that standard cells are made for; without it, least area.",
    ),
)
@bundle(
    "sweep",
    Sweep,
    click.option("--all", "everything", is_flag=True, help="Every engine on every target, as a page."),
    click.option("--size", "sizes", multiple=True, type=click.Choice(SIZES), help="With --all: only this; repeatable."),
    click.option(
        "-o",
        "--output",
        type=Output(folder=True),
        default=FOLDER,
        show_default=True,
        help="With --all: the folder.",
    ),
    click.option("--workers", type=Integer(1), help="With --all: processes; as many as there are cores by default."),
    click.option("--scheduler", metavar="ADDRESS", help="With --all: a Dask scheduler whose workers build."),
)
@json_option
def command(subject: Subject, pnr: bool, once: bool, cells: CellOptions, sweep: Sweep, as_json: bool) -> None:
    """Synthesise ENGINE for a target and report its resources; with --pnr also its clock frequency.

    With --all: every engine, or ENGINE, on every target, or one, each beside an INT8 array of the same throughput.
    """
    if sweep.everything:
        if subject.portable or subject.settings or pnr or once:
            raise InputError("--all goes with none of --portable, --set, --pnr and --once; it chooses them itself")
        refuse_given(("layer",), "goes without --all only, which takes layers of its own")
        _report_all(subject, sweep, cells, as_json)
        return
    engine, target = subject.engine, subject.target
    for name, given in (("ENGINE", engine), ("--target", target)):
        if given is None:
            raise InputError(f"{name} is missing; name one, or give --all")
    assert engine is not None and target is not None
    if sweep.sizes or sweep.workers or sweep.scheduler:
        raise InputError("--size, --workers and --scheduler go with --all only")
    refuse_given(("output",), "goes with --all only; the figures of one engine are printed")
    if (target == CELLS) != bool(cells.liberties):
        raise InputError(
            "target 'cells' needs --liberty FILE, a library of standard cells"
            if target == CELLS
            else f"--liberty goes with target 'cells' only; the target is '{target}'"
        )
    if cells.tokens and target != CELLS:
        raise InputError(f"--simulate goes with target 'cells' only; the target is '{target}'")
    if cells.clock_ns is not None and target != CELLS:
        raise InputError(f"--clock-ns goes with target 'cells' only; the target is '{target}'")
    if once and (pnr or target == CELLS):
        raise InputError("--once goes neither with --pnr, which needs a flat netlist, nor with target 'cells'")
    engine, settings, form = choose_variant(engine, subject.settings)
    arithmetic = "portable" if subject.portable or target not in ARITHMETIC else target
    config = configure(engine, settings, arithmetic)
    if pnr:
        check_routable(target)
    n_out, n_in = parse_layer(subject.layer)
    core = find_core(engine)
    job = reported_job(core, config, n_out, n_in)
    work = Work.of(config, job)
    with status(f"elaborating {engine}") as say:
        made = Elaborated(convert(core.gateware.component(config), engine), engine, dataclasses.asdict(config), work)
        if target == CELLS:
            found = report_cells(made, config, cells, say)
        else:
            result = report(made, target, pnr=pnr, once=once, progress=say)
    shape = {"job": job} | ({"layer": {"n_out": job["n_out"], "n_in": job["n_in"]}} if core.multiplies else {}) | form
    if target == CELLS:
        if as_json:
            libraries = [each.as_json() for each in found]
            several = {"engine": engine, "target": CELLS, **shape, "libraries": libraries}
            print_json(libraries[0] | shape if len(libraries) == 1 else several)
        else:
            for each in found:
                stdout.print(cell_table(each))
        return
    if as_json:
        print_json(result.as_json() | shape)
        return
    stdout.print(table_of(result))
    if result.timing is not None and (path := result.timing.critical_path) is not None:
        where = f"slowest path: {path.logic_ns:g} ns in cells and {path.routing_ns:g} ns in wires,"
        stdout.print(f"{where} {path.start} to {path.end}", markup=False, highlight=False)
