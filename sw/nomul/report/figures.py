"""What an engine costs on a target: synthesis, place and route, and both set against the work that it does."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nomul.contract import CoreConfig
from nomul.errors import InputError
from nomul.fpga.nextpnr import DEFAULT_DEVICE, Timing, find_device, place_and_route
from nomul.fpga.targets import find_target
from nomul.fpga.yosys import Synthesis, synthesise
from nomul.jobs.cache import DEFAULT


@dataclass(frozen=True)
class Work:
    """What a core computes: products or values a cycle at full use, and the share of them that a job really gets.

    `utilization` is the work of a job / (its cycles x `per_cycle`), with weights always ready.
    """

    per_cycle: int
    utilization: float

    unit: str = "mac"
    """'mac' or 'value', as `CoreConfig.work_unit`."""

    @classmethod
    def of(cls, config: CoreConfig, job: Mapping[str, int]) -> "Work":
        """Return what a core does for a job alone."""
        peak = config.work_per_cycle
        return cls(peak, config.work(**job) / (config.cycles(**job) * peak), config.work_unit)

    @property
    def name(self) -> str:
        """The unit as a heading says it."""
        return "MAC" if self.unit == "mac" else self.unit

    def __post_init__(self) -> None:
        if self.per_cycle < 1:
            raise ValueError(f"per_cycle is {self.per_cycle}; allowed: 1 or more")
        if not 0 < self.utilization <= 1:
            raise ValueError(f"utilization is {self.utilization}; allowed: above 0, at most 1")


@dataclass(frozen=True)
class Elaborated:
    """A design to be reported: its RTLIL (`nomul.export.rtlil.convert`) or Verilog, and what it computes."""

    text: str
    engine: str
    """Its name, and that of the top module."""

    config: Mapping[str, Any]
    """Its fields, for the report."""

    work: Work


@dataclass(frozen=True)
class Report:
    """The figures of one core on one target; `as_json` has what `nomul report --json` prints."""

    engine: str
    config: Mapping[str, Any]
    work: Work
    synthesis: Synthesis
    timing: Timing | None

    @property
    def lut_per_work(self) -> float:
        """LUTs for each product or value that the core can do in a cycle."""
        return self.synthesis.lut / self.work.per_cycle

    @property
    def lut_per_sustained_work(self) -> float:
        """LUTs for each that it does do in a cycle, on average over a job."""
        return self.lut_per_work / self.work.utilization

    @property
    def cells_per_work(self) -> float | None:
        """Logic cells after packing for each of them; None without place and route."""
        return self.timing.logic_cells / self.work.per_cycle if self.timing else None

    @property
    def seconds(self) -> float:
        """Seconds that synthesis and place and route took, when they were done."""
        return round(self.synthesis.seconds + (self.timing.seconds if self.timing else 0), 2)

    @property
    def tool_versions(self) -> list[str]:
        """Names and releases of the tools behind the figures."""
        return [self.synthesis.tool] + ([self.timing.tool] if self.timing else [])

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object."""
        found, unit = self.synthesis, self.work.unit
        return {
            "engine": self.engine,
            "config": dict(self.config),
            "target": found.target,
            "lut": found.lut,
            "lutram_as_lut": found.lutram_as_lut,
            "ff": found.ff,
            "carry": found.carry,
            "dsp": found.dsp,
            "bram": found.bram,
            "uram": found.uram,
            f"{unit}s_per_cycle": self.work.per_cycle,
            "utilization": round(self.work.utilization, 5),
            f"lut_per_{unit}": round(self.lut_per_work, 4),
            f"lut_per_sustained_{unit}": round(self.lut_per_sustained_work, 4),
            "fmax_mhz": self.timing.fmax_mhz if self.timing else None,
            "tool_versions": self.tool_versions,
            "seconds": self.seconds,
            "cells": found.cells,
            "place_and_route": None
            if self.timing is None
            else asdict(self.timing) | {f"cells_per_{unit}": round(self.cells_per_work or 0, 4)},
        }


def report(
    core: Elaborated,
    target: str,
    *,
    pnr: bool = False,
    dsp: bool = False,
    once: bool = False,
    cache: Path | None = DEFAULT,
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Synthesise a core, place and route it if asked to, and return the figures.

    Parameters
    ----------
    core
        The design.
    target
        A name of `nomul.fpga.targets.TARGETS`. The core's own arithmetic must be that target's, or portable.
    pnr
        Whether to place and route, for `fmax_mhz` and the cells after packing.
    dsp
        Whether Yosys may use the target's multipliers.
    once
        Whether a module that occurs several times is mapped once (`nomul.fpga.yosys.synthesise`); not with `pnr`.
    cache
        Folder of earlier results, or None.
    progress
        Called with each step, in words.

    Raises
    ------
    InputError
        If the target is unknown, or nextpnr is wanted and does not support it.
    ToolError
        If a tool fails or gives a result that hardware cannot be made of.

    """
    family = find_target(target)
    if pnr:
        check_routable(target)
    progress(f"synthesising for {family.description}")
    found = synthesise(core.text, core.engine, target, dsp=dsp, netlist=pnr, once=once, cache=cache)
    timing = None
    if found.netlist is not None:
        progress(f"placing and routing on {find_device(target).name}, three seeds")
        timing = place_and_route(found.netlist, core.engine, target, cache=cache)
    return Report(core.engine, core.config, core.work, found, timing)


def check_routable(target: str) -> None:
    """Refuse a target that nextpnr does not support."""
    if target not in DEFAULT_DEVICE:
        allowed = ", ".join(DEFAULT_DEVICE)
        raise InputError(f"--pnr is not possible for target '{target}'; nextpnr supports {allowed}")
