"""Every engine in several sizes on every target, each beside the plain array of its kind, of equal peak throughput."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nomul.asic.gate_library import GENERIC
from nomul.cores.discover import find_core, reference_core
from nomul.engines.matmul import Mode
from nomul.errors import InputError
from nomul.fpga.nextpnr import DEFAULT_DEVICE
from nomul.fpga.targets import TARGETS
from nomul.jobs.pool import JobOutcome, ToolJob
from nomul.report.cost import arithmetic, cost_model, modelled
from nomul.report.measure import cells_job, fpga_job, routed_job
from nomul.report.shapes import DEVICES

__all__ = ["SIZES", "Build", "Figure", "builds", "figures"]

SIZES = ("default", "small", "medium", "large")

REFERENCE = 1536
"""Inputs and outputs of the layer that bits per weight and utilisation are reckoned for."""

MARGIN = 1.15
"""What a prediction must exceed a board's resources by for a build not to be tried: the cost models' own error."""

BOARDS = {device.target: device for device in reversed(DEVICES.values())}
"""The first named device of each target."""

SLOW = {"xcup": 3.0, "xc7": 2.0, "ice40": 0.6}
"""Time of a synthesis over ECP5's. Targets that share an elaboration differ, so that one of them finds it made."""

SEEDS = [1]
"""Of place and route."""


@dataclasses.dataclass(frozen=True)
class Build:
    """One configuration of an engine on one target, or in one library."""

    engine: str
    size: str
    target: str
    settings: tuple[tuple[str, int], ...]
    liberty: Path | None = None

    @property
    def config(self) -> Any:
        """Its configuration."""
        return find_core(self.engine).gateware.config(**dict(self.settings), target=arithmetic(self.target))

    @property
    def library(self) -> str:
        """What stands for the target in the tables."""
        if self.target != "cells":
            return self.target
        return GENERIC if self.liberty is None else self.liberty.name.partition(".")[0]

    @property
    def command(self) -> str:
        """The command that makes the same figures by itself."""
        words = ["nomul", "report", self.engine, "--target", self.target]
        words += [word for name, value in self.settings for word in ("--set", f"{name}={value}")]
        if self.target != "cells":
            words += [*(["--portable"] if arithmetic(self.target) == "portable" else []), "--once"]
        elif self.liberty is not None:
            words += ["--liberty", self.liberty.name]
        return shlex.join(words)

    def baseline(self) -> "Build":
        """Return the plain array that forms as many products in a cycle, in the first mode: INT8's or FP16's."""
        array = reference_core(self.config.modes[0].activation_format)
        assert array.sized is not None
        settings = array.sized(self.config.macs_per_cycle, self.target)
        return Build(array.name, self.size, self.target, tuple(settings.items()), self.liberty)


@dataclasses.dataclass(frozen=True)
class Figure:
    """What was measured of a build, and of its plain array; `missing` says in a sentence why there is nothing.

    A build has a figure for each of its modes: what it takes is the same, what it computes is not.
    """

    build: Build
    value: Mapping[str, Any] | None
    baseline: Mapping[str, Any] | None
    baseline_build: Build
    routed: Mapping[str, Any] | None
    missing: str = ""
    notes: tuple[str, ...] = ()
    mode: int = 0

    @property
    def kind(self) -> Mode:
        """The mode."""
        found: Mode = self.build.config.modes[self.mode]
        return found

    @property
    def macs_per_cycle(self) -> int:
        """Products of a cycle in this mode."""
        return self.kind.macs_per_cycle

    @property
    def product(self) -> str:
        """What is multiplied, weights first: 'ternary x int8'."""
        mode = self.kind
        weights = _operand(mode.weights, mode.weight_step, mode.weight_format)
        return f"{weights} x {_operand(mode.activations, mode.activation_step, mode.activation_format)}"

    @property
    def resource(self) -> str:
        """'lut', or 'area' for standard cells."""
        return "area" if self.build.target == "cells" else "lut"

    @property
    def per_mac(self) -> float | None:
        """LUTs, or area, for each product of a cycle."""
        return None if self.value is None else self.value[self.resource] / self.macs_per_cycle

    @property
    def baseline_per_mac(self) -> float | None:
        """The same of the plain array."""
        if self.baseline is None:
            return None
        return float(self.baseline[self.resource] / self.baseline_build.config.macs_per_cycle)

    @property
    def ratio(self) -> float | None:
        """Cost of a product over that of the plain array."""
        mine, other = self.per_mac, self.baseline_per_mac
        return None if mine is None or other is None else mine / other

    @property
    def fmax_mhz(self) -> float | None:
        """Clock by place and route, or by the critical path; None in the generic library, which has no nanoseconds."""
        if self.build.target == "cells":
            path = None if self.value is None or self.build.liberty is None else self.value["critical_path_ns"]
            return 1000 / path if path else None
        return None if self.routed is None else self.routed["fmax_mhz"]

    @property
    def bits_per_weight(self) -> float:
        """Bits of the weight stream for each weight of a layer of `REFERENCE` x `REFERENCE`."""
        config = self.build.config
        size = min(REFERENCE, config.n_in_max)
        return float(config.weight_stream_bits(size, size, self.mode) / size**2)

    @property
    def utilization(self) -> float:
        """Products of that layer, of as many tokens as the core takes together, over those that its cycles allow."""
        config = self.build.config
        size = min(REFERENCE, config.n_in_max)
        tokens = config.tokens_together
        return float(size * size * tokens / (config.cycles(size, size, tokens, self.mode) * self.macs_per_cycle))

    @property
    def picojoules_per_mac(self) -> float | None:
        """Energy of a product: power x period x cycles / products. Of the simulated job if there was one."""
        value = self.value
        # Activity was simulated, or assumed, for the first mode.
        if (
            self.mode
            or self.build.target != "cells"
            or value is None
            or not value.get("power_mw")
            or not value.get("clock_ns")
        ):
            return None
        used = value.get("simulated_utilization") or self.utilization
        return float(value["power_mw"] * value["clock_ns"] / (self.macs_per_cycle * used))

    def as_json(self) -> dict[str, Any]:
        """Return it as an entry of report.json."""
        config = self.build.config
        return {
            "engine": self.build.engine,
            "size": self.build.size,
            "mode": self.kind.name,
            "product": self.product,
            "target": self.build.target,
            "library": self.build.library,
            "command": self.build.command,
            "config": dataclasses.asdict(config),
            "macs_per_cycle": self.macs_per_cycle,
            "per_mac": self.per_mac,
            "baseline_per_mac": self.baseline_per_mac,
            "ratio": self.ratio,
            "fmax_mhz": self.fmax_mhz,
            "bits_per_weight": self.bits_per_weight,
            "utilization": self.utilization,
            "picojoules_per_mac": self.picojoules_per_mac,
            "figures": None if self.value is None else dict(self.value),
            "place_and_route": None if self.routed is None else dict(self.routed),
            "baseline": {
                "engine": self.baseline_build.engine,
                "command": self.baseline_build.command,
                "config": dataclasses.asdict(self.baseline_build.config),
                "figures": None if self.baseline is None else dict(self.baseline),
            },
            "missing": self.missing,
            "notes": list(self.notes),
        }


def _operand(values: tuple[int, int], step: int, form: str) -> str:
    """Name a kind of operand: fp16, binary, ternary, int4 ..."""
    if form == "fp16":
        return form
    if values == (-1, 1):
        return "binary" if step == 2 else "ternary"
    return f"int{(values[1] - values[0]).bit_length()}"


def builds(
    engines: Sequence[str], sizes: Sequence[str], targets: Sequence[str], liberties: Sequence[Path]
) -> list[Build]:
    """Return what is to be built; with several libraries each is a target of its own."""
    files: list[Path | None] = list(liberties) or [None]
    return [
        Build(engine, size, target, tuple(_settings(engine, size).items()), liberty)
        for engine in engines
        for size in sizes
        for target in targets
        for liberty in (files if target == "cells" else [None])
    ]


def _settings(engine: str, size: str) -> Mapping[str, int]:
    if size == "default":
        return {}
    found = find_core(engine).sizes
    if size not in found:
        raise InputError(
            f"core {engine} has no size {size!r}: field sizes of its Core has {', '.join(found) or 'none'}"
        )
    return found[size]


def not_tried(build: Build) -> str:
    """Return why a build is not tried, in a sentence; nothing if it is."""
    macs = build.config.macs_per_cycle
    core = find_core(build.engine)
    if lacking := core.lacks(build.target):
        return lacking
    if build.target == "cells" and macs > core.cells_most:
        return f"{macs} products a cycle take too long to map flat here; the command by itself does it."
    if build.target == "ice40" and build.engine in modelled(build.target):
        predicted = cost_model(build.engine, build.target).predict(build.config)
        too_large = _fit(build, {name: round(value) for name, value in predicted.items()}, MARGIN)
        return f"By the cost model it {too_large}." if too_large else ""
    return ""


def wanted(chosen: Sequence[Build], clock_ns: float | None) -> dict[str, ToolJob]:
    """Return the jobs of builds and of their plain arrays, by what they are for."""
    jobs: dict[str, ToolJob] = {}
    for build in chosen:
        if not_tried(build):
            continue
        # An array that fits is set against the plain array even where that does not fit.
        for each in (build, build.baseline()):
            if each is not build and each.target == "cells" and not_tried(each):
                continue
            jobs[name_of(each)] = build_job(each, clock_ns)
            if each is build and each.size == "small" and routable(each):
                weight = 4.0 + each.config.macs_per_cycle / 10
                config = dataclasses.asdict(each.config)
                jobs[f"routed {name_of(each)}"] = routed_job(each.engine, config, each.target, SEEDS, weight)
    return jobs


def routable(build: Build) -> bool:
    """Tell whether a build is placed and routed here."""
    return build.target in DEFAULT_DEVICE and find_core(build.engine).routed


def build_job(build: Build, clock_ns: float | None) -> ToolJob:
    """Return the job that measures a build."""
    config = dataclasses.asdict(build.config)
    if build.target == "cells":
        weight = 2 + config.get("lanes_in", 16) * config["rows"] / 8
        return cells_job(build.engine, config, build.liberty, clock_ns, weight)
    row = config.get("lanes_in", config.get("tables", 4) * 3)
    return fpga_job(build.engine, config, build.target, SLOW.get(build.target, 1) * (1 + row / 8))


def name_of(build: Build) -> str:
    """Return a name that builds with the same configuration share, whatever their size is called."""
    return f"{build.engine} {build.library} {build.liberty} {sorted(dataclasses.asdict(build.config).items())}"


def figures(chosen: Sequence[Build], outcomes: Mapping[str, JobOutcome]) -> list[Figure]:
    """Return what was measured of each build in each of its modes, from the outcomes of the jobs of `wanted`."""
    found = []
    for build in chosen:
        reference = build.baseline()
        notes: list[str] = []
        # What is not tried for itself may be there as another's plain array.
        mine = outcomes.get(name_of(build))
        reason = not_tried(build) if mine is None else ""
        other = outcomes.get(name_of(reference))
        routed = outcomes.get(f"routed {name_of(build)}")
        if mine is not None and mine.value is None:
            reason = mine.error
        if not reason and other is None:
            notes.append("its plain array is too large to map flat here")
        elif other is not None and other.value is None:
            notes.append(f"plain array: {other.error}")
        if routed is not None and routed.value is None:
            notes.append(f"place and route: {routed.error}")
        value = None if mine is None else mine.value
        notes += filter(None, [_fit(build, value)])
        found += [
            Figure(
                build,
                value,
                None if other is None else other.value,
                reference,
                None if routed is None else routed.value,
                reason,
                tuple(notes),
                mode,
            )
            for mode in range(len(build.config.modes))
        ]
    return found


def _fit(build: Build, value: Mapping[str, Any] | None, margin: float = 1.0) -> str:
    """Say whether a build is too large for the board of its target, by more than a margin; nothing if it is not."""
    board = BOARDS.get(build.target)
    if board is None or value is None:
        return ""
    over = [
        f"{value[name]:g} of {most:g} {name.upper()}"
        for name, most in board.resources.items()
        if value.get(name, 0) > margin * most
    ]
    return f"does not fit {board.name}: {', '.join(over)}" if over else ""


ALL_TARGETS = (*TARGETS, "cells")
"""Every target of the report."""
