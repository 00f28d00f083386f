"""Cost models: what a configuration takes of a target, without synthesis, in microseconds.

Cycles need no model here: an engine's configuration has an exact one (`MatmulConfig.cycles`), which its bench asserts.

Look-up tables, flip-flops and gate equivalents are sums over what a core is made of (`features` of its
`nomul.cores.api.Core`), each with a coefficient fitted to syntheses of small configurations (`cost_points.json`,
written by `python -m nomul.report.cost_points`).

The fit is of least squares in relative error, with no coefficient below zero. The points marked `held_out` take no part
in it; a test asserts that they, and one that is synthesised for the test, are within 15 %.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nomul.cores.discover import cores, find_core
from nomul.errors import InputError

__all__ = ["POINTS", "CostModel", "cost_model", "errors", "measured", "modelled"]

POINTS = Path(__file__).with_name("cost_points.json")
"""Synthesised configurations: engine, target, settings, whether held out of the fit, and figures."""


def _features(engine: str) -> Callable[[Any], list[float]]:
    found = find_core(engine).features
    if found is None:
        raise InputError(f"core {engine} has no cost model: its Core names no features")
    return found


@dataclasses.dataclass(frozen=True)
class CostModel:
    """The fitted coefficients of each figure for an engine on a target."""

    engine: str
    target: str
    coefficients: dict[str, tuple[float, ...]]
    """By figure: `lut` and `ff`, or for standard cells `area` in gate equivalents."""

    def predict(self, config: Any) -> dict[str, float]:
        """Return the predicted figures of a configuration."""
        sizes = _features(self.engine)(config)
        return {
            name: sum(size * factor for size, factor in zip(sizes, factors, strict=True))
            for name, factors in self.coefficients.items()
        }


@functools.cache
def measured() -> tuple[dict[str, Any], ...]:
    """Return the points of `POINTS`, and of the files that cores of other distributions bring."""
    files = (core.cost_file for core in cores().values())
    return tuple(point for file in (POINTS, *files) if file and file.exists() for point in json.loads(file.read_text()))


def arithmetic(target: str) -> str:
    """Return the field `target` of the configurations that a target is served with."""
    return target if target in ("xcup", "xc7", "ecp5", "cells") else "portable"


def configuration(point: dict[str, Any]) -> Any:
    """Return the configuration of a point."""
    return find_core(point["engine"]).gateware.config(**point["settings"], target=arithmetic(point["target"]))


@functools.cache
def modelled(target: str) -> tuple[str, ...]:
    """Return the engines that have a model on a target: those with points to fit it to, and others to test it with."""
    points = [point for point in measured() if point["target"] == target]
    fitted, tested = ({p["engine"] for p in points if p["held_out"] == held} for held in (False, True))
    return tuple(sorted(fitted & tested))


@functools.cache
def cost_model(engine: str, target: str) -> CostModel:
    """Return the model of an engine on a target.

    Raises
    ------
    InputError
        If there are no syntheses to fit it to.
    """
    known = modelled(target)
    points = [p for p in measured() if (p["engine"], p["target"]) == (engine, target) and not p["held_out"]]
    if engine not in known:
        raise InputError(
            f"there is no cost model of engine '{engine}' on target '{target}'; "
            f"there is of {', '.join(known) or 'none'}"
        )
    sizes = np.array([_features(engine)(configuration(point)) for point in points], dtype=float)
    names = ("area",) if target == "cells" else ("lut", "ff")
    return CostModel(engine, target, {name: _fit(sizes, [float(point[name]) for point in points]) for name in names})


def _fit(sizes: npt.NDArray[np.float64], values: Sequence[float]) -> tuple[float, ...]:
    """Return the coefficients that are best in relative error; those that would be negative are zero."""
    scaled = sizes / np.array(values)[:, None]
    used = [index for index in range(sizes.shape[1]) if scaled[:, index].any()]
    while True:
        found, *_ = np.linalg.lstsq(scaled[:, used], np.ones(len(values)), rcond=None)
        if (found >= 0).all():
            break
        del used[int(np.argmin(found))]
    factors = np.zeros(sizes.shape[1])
    factors[used] = found
    return tuple(float(factor) for factor in factors)


def errors(engine: str, target: str, held_out: bool = True) -> dict[str, float]:
    """Return the relative error of each held-out point's look-up tables or area, or of each fitted point's."""
    model = cost_model(engine, target)
    name = "area" if target == "cells" else "lut"
    return {
        " ".join(f"{field}={value}" for field, value in point["settings"].items()): (
            model.predict(configuration(point))[name] / point[name] - 1
        )
        for point in measured()
        if (point["engine"], point["target"], point["held_out"]) == (engine, target, held_out)
    }
