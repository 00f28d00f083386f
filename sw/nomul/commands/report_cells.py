"""What `nomul report` says of standard cells, beside the INT8 array of the same size."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from nomul.asic.asic_flow import Implementation
from nomul.asic.liberty import Library, read_liberty
from nomul.commands.grouped import grouped_product
from nomul.commands.operands import Vectors, choose_operands
from nomul.cores.discover import find_core, reference_core
from nomul.errors import InputError
from nomul.export.rtlil import convert
from nomul.model import checkpoints
from nomul.report.cell_figures import CellReport, cell_report
from nomul.report.figures import Elaborated, Work
from nomul.sim.activity import simulate_netlist
from nomul.sim.product import Product

__all__ = ["cell_table", "report_cells"]

LANES_LEAST = 4
"""Fewest lanes of the INT8 array in standard cells."""


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
        (f"{work.name} per cycle", f"{work.per_cycle:,}", f"used to {100 * work.utilization:.2f} %"),
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


def baseline_core(config: Any, target: str, utilization: float) -> Elaborated:
    """Return the INT8 array of the size of an engine's configuration.

    It has the engine's `lanes_in` and `rows`, where the engine has those fields, and otherwise eight rows (fewer for a
    smaller engine) and the lanes that come nearest to the engine's products in a cycle; never fewer than four lanes.
    """
    array = reference_core()
    spec = array.gateware
    names = {field.name for field in dataclasses.fields(spec.config)}
    rows = config.rows if hasattr(config, "lanes_in") else min(8, config.macs_per_cycle)
    lanes = max(LANES_LEAST, getattr(config, "lanes_in", None) or round(config.macs_per_cycle / rows))
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
    text = convert(spec.component(reference), array.name)
    return Elaborated(text, array.name, dataclasses.asdict(reference), Work(reference.macs_per_cycle, utilization))


@dataclasses.dataclass(frozen=True)
class CellOptions:
    """What standard cells go with."""

    liberties: Sequence[Path]
    """Libraries; without one, `--all` takes the generic library."""

    tokens: int
    """Vectors that netlists are simulated on, for their power; with `--all` the smallest ones."""

    clock_ns: float | None
    """Clock period that they are made for."""


def report_cells(core: Elaborated, config: Any, options: CellOptions, say: Callable[[str], None]) -> list[CellReport]:
    """Report a core of an engine's configuration in each of several libraries.

    A core with a packed weight stream is set against the INT8 array of its size. With `options.tokens` the netlists are
    simulated on so many vectors of the committed model, and power stands on that.

    Raises
    ------
    InputError
        If a file is no library, or a core that is to be simulated has other streams than those of
        `nomul.engines.matmul`.
    """
    found_core = find_core(core.engine)
    if options.tokens and not found_core.streams_products:
        raise InputError(f"--simulate takes cores with packed weight streams; {core.engine} has none")
    for file in options.liberties:
        if not file.is_file():
            raise InputError(f"liberty file {file} does not exist")
    baseline = baseline_core(config, config.target, core.work.utilization) if found_core.streams_products else None
    libraries = [read_liberty(file) for file in options.liberties]
    reports = []
    for library in libraries:

        def simulate(core: Elaborated, found: Implementation, library: Library = library) -> dict[str, float]:
            say(f"simulating the netlist of {core.engine} in {library.name}")
            made = find_core(core.engine).gateware.config(**core.config)
            if getattr(config, "weight", None) == "int4":
                product = grouped_product(config, options.tokens, whole=bool(find_core(core.engine).reference))
            else:
                chosen = choose_operands(core.engine, made, checkpoints.path(), vectors=Vectors(tokens=options.tokens))
                product = Product(chosen.weight, chosen.activations, chosen.mode)
            return simulate_netlist(core.engine, made, found, library, product)

        reports.append(
            cell_report(
                core,
                library,
                options.clock_ns,
                baseline=baseline,
                simulate=simulate if options.tokens else None,
                progress=say,
            )
        )
    return reports
