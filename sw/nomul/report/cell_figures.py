"""What an engine costs in standard cells, beside the plain INT8 array of the same size."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nomul.asic.asic_flow import Implementation, groups, implement
from nomul.asic.liberty import Library
from nomul.asic.power import power_mw
from nomul.jobs.cache import DEFAULT
from nomul.report.figures import Elaborated


@dataclass(frozen=True)
class CellReport:
    """The figures of one core in one library; `as_json` has what `nomul report --target cells --json` prints."""

    core: Elaborated
    library: Library
    clock_ns: float | None
    found: Implementation
    power_mw: float | None
    power_source: str
    baseline: Implementation | None
    baseline_core: Elaborated | None
    baseline_power_mw: float | None

    @property
    def area_per_mac(self) -> float:
        """Area for each product that the core can form in a cycle, memory macros left out."""
        return self.found.area / self.core.work.per_cycle

    @property
    def baseline_area_per_mac(self) -> float | None:
        """The same of the INT8 array; None where there is none."""
        if self.baseline is None or self.baseline_core is None:
            return None
        return self.baseline.area / self.baseline_core.work.per_cycle

    @property
    def area_ratio(self) -> float | None:
        """Area for a product over that of the INT8 array."""
        reference = self.baseline_area_per_mac
        return None if reference is None else self.area_per_mac / reference

    @property
    def area_power_gain(self) -> float | None:
        """(Area x power) for a product a clock of the INT8 array over the same of this core, at the same clock.

        None where there is no array, or where the two powers do not stand on simulations.
        """
        reference = self.baseline_area_per_mac
        if reference is None or self.baseline_core is None or self.baseline_power_mw is None or not self.power_mw:
            return None
        power = self.power_mw / self.core.work.per_cycle
        baseline_power = self.baseline_power_mw / self.baseline_core.work.per_cycle
        return reference * baseline_power / (self.area_per_mac * power)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object."""
        found, work, reference = self.found, self.core.work, self.baseline_area_per_mac
        return {
            "engine": self.core.engine,
            "config": dict(self.core.config),
            "target": "cells",
            "library": found.library,
            "clock_ns": self.clock_ns,
            "area": found.area,
            f"{work.unit}s_per_cycle": work.per_cycle,
            "utilization": round(work.utilization, 5),
            "area_per_mac": round(self.area_per_mac, 4),
            "baseline_area_per_mac": None if reference is None else round(reference, 4),
            "area_ratio": None if self.area_ratio is None else round(self.area_ratio, 5),
            "critical_path_ns": found.critical_path_ns,
            "critical_path": found.path,
            "timing_source": found.timing_source,
            "power_mw": None if self.power_mw is None else round(self.power_mw, 6),
            "power_source": self.power_source,
            "area_power_gain": None if self.area_power_gain is None else round(self.area_power_gain, 4),
            "memory_bits": found.memory_bits,
            "memories": [asdict(memory) for memory in found.memories],
            "area_by_kind": {name: round(value, 4) for name, value in groups(found.cells, self.library).items()},
            "mapped_area": found.mapped_area,
            "stronger_cells": found.stronger,
            "added_buffers": found.buffers,
            "tool_versions": found.tools,
            "seconds": found.seconds,
            "cells": found.cells,
            "baseline": None
            if self.baseline is None or self.baseline_core is None
            else {
                "config": dict(self.baseline_core.config),
                "area": self.baseline.area,
                "macs_per_cycle": self.baseline_core.work.per_cycle,
                "critical_path_ns": self.baseline.critical_path_ns,
                "memory_bits": self.baseline.memory_bits,
                "power_mw": self.baseline_power_mw,
            },
        }


def cell_report(
    core: Elaborated,
    library: Library,
    clock_ns: float | None = None,
    *,
    baseline: Elaborated | None = None,
    simulate: Callable[[Elaborated, Implementation], Mapping[str, float]] | None = None,
    cache: Path | None = DEFAULT,
    progress: Callable[[str], None] = lambda step: None,
) -> CellReport:
    """Implement a core, and the baseline if there is one, in a library and return the figures.

    Parameters
    ----------
    core
        The design.
    library
        The cells.
    clock_ns
        Clock period that both are made for; None asks for the least area.
    baseline
        The INT8 array that `area_ratio` stands on.
    simulate
        Simulates a core's netlist, proves it, and returns its activity as `nomul.asic.power.power_mw` takes it; without
        it power stands on an assumption, which `power_source` says.
    cache
        Folder of earlier results, or None.
    progress
        Called with each step, in words.

    Raises
    ------
    InputError
        If the library cannot hold a design, or the clock period is not positive.
    ToolError
        If a tool fails or gives a result that hardware cannot be made of.

    """
    found = implement(core.text, core.engine, library, clock_ns, cache=cache, progress=progress)
    reference = None
    if baseline is not None:
        reference = found
        if (baseline.engine, baseline.text) != (core.engine, core.text):
            progress(f"the INT8 array in {library.name}")
            reference = implement(baseline.text, baseline.engine, library, clock_ns, cache=cache, progress=progress)
    progress("power")
    power, source = power_mw(found, library, simulate(core, found) if simulate else None)
    baseline_power = None
    if simulate and baseline is not None and reference is not None:
        baseline_power, _ = power_mw(reference, library, simulate(baseline, reference))
    return CellReport(core, library, clock_ns, found, power, source, reference, baseline, baseline_power)
