"""A design in cells of a library: mapped, repaired and timed, in one cached step."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from nomul.asic.cell_mapping import MemoryMacro, abc_delay, check_library, map_cells
from nomul.asic.liberty import Library
from nomul.asic.netlist import Gates, gates_of
from nomul.asic.sta import MACRO_SHARE, constraints, sta_version, worst_paths
from nomul.asic.timing_repair import ROUNDS, SHARE, repair
from nomul.fpga.yosys import SOURCE, yosys_version
from nomul.jobs.cache import DEFAULT, Cache, digest

REVISION = "3"
"""Changes when the repair does, so that no older result is taken for a new one."""


@dataclass(frozen=True)
class Implementation:
    """What came of a design in a library.

    Areas are in the library's unit (square micrometres in most); `critical_path_ns` is the least clock period, None if
    there is no path between registers. `verilog` is the netlist and `tcl` what reads and constrains it, for power;
    `ports` and `macros` are those of `nomul.asic.netlist.Gates`, for a simulation of it.
    """

    library: str
    cells: dict[str, int]
    area: float
    mapped_area: float
    critical_path_ns: float | None
    path: list[str]
    timing_source: str
    memories: tuple[MemoryMacro, ...]
    stronger: int
    buffers: int
    rounds: int
    verilog: str
    ports: dict[str, tuple[str, int]]
    macros: list[dict[str, list[str]]]
    tcl: list[str]
    seconds: float
    tools: list[str]

    @property
    def memory_bits(self) -> int:
        """Bits in memory macros, which are in no area."""
        return sum(memory.words * memory.width for memory in self.memories)


def implement(
    text: str,
    top: str,
    library: Library,
    clock_ns: float | None = None,
    *,
    gating: bool = True,
    cache: Path | None = DEFAULT,
    progress: Callable[[str], None] = lambda step: None,
) -> Implementation:
    """Map a design, repair its loads, make it as fast as a clock asks, and time it.

    Parameters
    ----------
    text, top, library, gating, cache
        As in `nomul.asic.cell_mapping.map_cells`.
    clock_ns
        Clock period to reach; None asks for the least area, and the critical path is what comes of it.
    progress
        Called with each step, in words.

    Raises
    ------
    InputError, ToolError
        As `nomul.asic.cell_mapping.map_cells` and `nomul.asic.sta.worst_paths` do.

    """
    check_library(library, clock_ns)
    sta = sta_version()
    tools = [yosys_version(), *([sta] if sta else [])]
    settings = f"{clock_ns} {gating} {SHARE} {ROUNDS} {MACRO_SHARE} {REVISION}"
    store = Cache(None if cache is None else cache / "implementation")
    key = digest(SOURCE.sub("", text), top, library.text, settings, *tools)
    kept = store.get(key)
    if kept is None:
        start = time.monotonic()
        progress(f"mapping to {library.name}")
        mapped = map_cells(text, top, library, clock_ns, gating=gating, cache=cache)
        gates = gates_of(mapped, library)
        done = repair(gates, clock_ns or 1000.0, timing=sta is not None, progress=progress)
        critical, path = None, []
        if sta is not None and done.critical is not None:
            period = clock_ns or 1000.0
            critical = period - done.critical.slack
            path = [done.critical.start, done.critical.end]
            if clock_ns is None and (done.gates.macro_inputs or done.gates.macro_outputs):
                critical = _settle(done.gates)
        elif sta is None:
            critical = abc_delay(text, top, library)
        wires = f"wire load {library.wires.name}" if library.wires else "without wires"
        kept = {
            "library": library.name,
            "cells": dict(sorted(done.gates.cells.items())),
            "area": round(done.gates.area, 4),
            "mapped_area": round(gates.area, 4),
            "critical_path_ns": None if critical is None else round(critical, 4),
            "path": path,
            "timing_source": f"{sta}, {wires}"
            if sta
            else f"ABC in {yosys_version()}: combinational delay of plain logic, without flip-flops",
            "memories": [asdict(memory) for memory in mapped.memories],
            "stronger": done.stronger,
            "buffers": done.buffers,
            "rounds": done.rounds,
            "verilog": done.gates.verilog(),
            "ports": {name: list(port) for name, port in gates.ports.items()},
            "macros": gates.macros,
            "tcl": constraints(done.gates, clock_ns or critical or 1000.0) if gates.clock is not None else [],
            "seconds": round(time.monotonic() - start, 3),
            "tools": tools,
        }
        store.put(key, kept)
    memories = tuple(MemoryMacro(**memory) for memory in kept["memories"])
    return Implementation(**{name: value for name, value in kept.items() if name != "memories"}, memories=memories)


def _settle(gates: Gates) -> float | None:
    """Return the least clock period of a netlist with macros, whose own times are shares of the period."""
    period: float | None = 4.0
    for _ in range(8):
        if not period:
            break
        critical, _ = worst_paths(gates, period)
        before, period = period, None if critical is None else period - critical.slack
        if period is None or abs(before - period) < 1e-3:
            break
    return period


def groups(cells: dict[str, int], library: Library) -> dict[str, float]:
    """Return the area by kind of cell: flip-flops, adders, clock gates, buffers and inverters, other logic."""
    areas: dict[str, float] = {}
    for name, count in cells.items():
        cell = library.cells[name]
        if cell.kind == "flip-flop":
            kind = "flip-flops"
        elif cell.kind == "clock gate":
            kind = "clock gates"
        elif len(cell.outputs) == 2:
            kind = "adders"
        elif len(cell.inputs) == 1:
            kind = "buffers and inverters"
        else:
            kind = "other logic"
        areas[kind] = areas.get(kind, 0.0) + cell.area * count
    return areas
