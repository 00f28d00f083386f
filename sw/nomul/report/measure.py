"""The jobs of reports and searches: what one configuration costs on one target, as figures that JSON can say."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nomul.asic.asic_flow import Implementation, groups, implement
from nomul.asic.gate_library import GENERIC, generic_library
from nomul.asic.liberty import Library, read_liberty
from nomul.asic.power import power_mw
from nomul.cores.discover import find_core
from nomul.export.rtlil import convert
from nomul.fpga.nextpnr import place_and_route
from nomul.fpga.yosys import synthesise
from nomul.jobs.cache import DEFAULT, Cache, digest
from nomul.jobs.pool import ToolJob, fingerprint

__all__ = ["cells", "cells_job", "fpga", "fpga_job", "modules_of", "routed", "routed_job"]


def _text(engine: str, config: dict[str, Any]) -> tuple[Any, str]:
    """Return an engine's configuration and its RTLIL, which several targets and tools share."""
    gateware = find_core(engine).gateware
    made = gateware.config(**config)
    store = Cache(DEFAULT / "rtlil")
    key = digest(engine, json.dumps(config, sort_keys=True), fingerprint(__name__, *modules_of(engine)))
    if store.get(key) is None:
        store.put(key, {"engine": engine}, {".il": convert(gateware.component(made), engine)})
    return made, store.path(key, ".il").read_text()


def modules_of(engine: str) -> tuple[str, ...]:
    """Return the modules of a core's configuration and component."""
    gateware = find_core(engine).gateware
    return gateware.config.__module__, gateware.component.__module__


def fpga(engine: str, config: dict[str, Any], target: str, dsp: bool = False) -> dict[str, Any]:
    """Synthesise an engine for an FPGA, a repeated module once, and return what it takes.

    Parameters
    ----------
    engine
        A name of `nomul.cores.discover.cores`.
    config
        Fields of its configuration.
    target
        A name of `nomul.fpga.targets.TARGETS`.
    dsp
        Whether Yosys may use the target's multipliers.
    """
    _, text = _text(engine, config)
    found = synthesise(text, engine, target, dsp=dsp, once=True)
    names = ("lut", "lutram_as_lut", "ff", "carry", "dsp", "bram", "uram", "seconds")
    return {name: getattr(found, name) for name in names} | {"tools": [found.tool]}


def routed(engine: str, config: dict[str, Any], target: str, seeds: list[int]) -> dict[str, Any]:
    """Synthesise, place and route an engine, flat, and return its clock: the median over the seeds."""
    _, text = _text(engine, config)
    found = synthesise(text, engine, target, netlist=True)
    timing = place_and_route(found.netlist or "", engine, target, seeds=tuple(seeds))
    clocks = [value for value in timing.fmax_by_seed.values() if value is not None]
    return {
        "fmax_mhz": statistics.median(clocks) if clocks else None,
        "device": timing.device,
        "logic_cells": timing.logic_cells,
        "logic_available": timing.logic_available,
        "seeds": seeds,
        "tools": [found.tool, timing.tool],
    }


def cells(
    engine: str,
    config: dict[str, Any],
    liberty: str | None,
    clock_ns: float | None,
    simulate: Callable[[Any, Implementation, Library], Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Map an engine to standard cells, and return area, critical path and power.

    Parameters
    ----------
    engine, config
        As in `fpga`.
    liberty
        File of a library; None is `nomul.asic.gate_library`, whose areas are gate equivalents, and which has no power.
    clock_ns
        Clock period to reach, or None for the least area.
    simulate
        Simulates the netlist of a configuration, and returns its activity as `nomul.asic.power.power_mw` takes it.
    """
    made, text = _text(engine, config)
    library = generic_library() if liberty is None else read_liberty(Path(liberty))
    found = implement(text, engine, library, clock_ns)
    power: float | None = None
    source = "none: the generic library has no power"
    if liberty is not None:
        power, source = power_mw(found, library, simulate(made, found, library) if simulate else None)
    return {
        "library": found.library,
        "area": found.area,
        "area_by_kind": {name: round(value, 4) for name, value in groups(found.cells, library).items()},
        "critical_path_ns": found.critical_path_ns,
        "timing_source": found.timing_source,
        "clock_ns": clock_ns or found.critical_path_ns,
        "memory_bits": found.memory_bits,
        "power_mw": power,
        "power_source": source,
        "simulated": bool(simulate and power is not None),
        "seconds": found.seconds,
        "tools": found.tools,
    }


def fpga_job(engine: str, config: dict[str, Any], target: str, weight: float = 1.0, dsp: bool = False) -> ToolJob:
    """Return the job of `fpga`."""
    arguments = {"engine": engine, "config": config, "target": target, "dsp": dsp}
    return ToolJob("nomul.report.measure:fpga", arguments, f"{engine} on {target}", weight, modules=modules_of(engine))


def routed_job(engine: str, config: dict[str, Any], target: str, seeds: list[int], weight: float = 1.0) -> ToolJob:
    """Return the job of `routed`."""
    arguments = {"engine": engine, "config": config, "target": target, "seeds": seeds}
    return ToolJob(
        "nomul.report.measure:routed", arguments, f"{engine} routed on {target}", weight, modules=modules_of(engine)
    )


def cells_job(
    engine: str,
    config: dict[str, Any],
    liberty: Path | None,
    clock_ns: float | None,
    weight: float = 1.0,
) -> ToolJob:
    """Return the job of `cells`; it depends on what the library's file holds, not on where it is."""
    file = None if liberty is None else str(liberty.resolve())
    arguments = {"engine": engine, "config": config, "liberty": file, "clock_ns": clock_ns}
    name = GENERIC if liberty is None else liberty.name
    files = () if file is None else (file,)
    return ToolJob("nomul.report.measure:cells", arguments, f"{engine} in {name}", weight, files, modules_of(engine))
