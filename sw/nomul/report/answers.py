"""What the report answers first: the best core on each device for each product, and what is worse than a plain array.

A core serves a product when one of its modes takes all operands of it: the INT8 array multiplies ternary weights too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nomul.cores.discover import find_core
from nomul.engines.matmul import Mode
from nomul.report.sweep import BOARDS, Figure

__all__ = ["PRODUCTS", "Answer", "answers", "default_of", "worse"]

BYTE, NIBBLE, TRIT, SIGN, HALF = (-128, 127, 1), (-8, 7, 1), (-1, 1, 1), (-1, 1, 2), None
"""Lowest and highest operand and the step between; None is binary16."""

PRODUCTS: Mapping[str, tuple[Any, Any]] = {
    "ternary x int8": (TRIT, BYTE),
    "binary x ternary": (SIGN, TRIT),
    "int4 x int8": (NIBBLE, BYTE),
    "int4 x fp16": (NIBBLE, HALF),
}
"""Operands of the products that are asked about."""


def serves(mode: Mode, product: str) -> bool:
    """Tell whether a mode multiplies all operands of a product exactly."""
    weights, activations = PRODUCTS[product]
    if (mode.activation_format == "fp16") != (activations is HALF):
        return False
    holds = mode.weight_format == "fp16" or _holds(*mode.weights, mode.weight_step, weights)
    return holds and (activations is HALF or _holds(*mode.activations, mode.activation_step, activations))


def _holds(low: int, high: int, step: int, wanted: tuple[int, int, int]) -> bool:
    return low <= wanted[0] and wanted[1] <= high and wanted[2] % step == 0 and (wanted[0] - low) % step == 0


def default_of(figures: Sequence[Figure]) -> list[Figure]:
    """Return one figure of each engine, mode and target: the default's, or the largest size's that was built."""
    order = ("default", "large", "medium", "small")
    chosen: dict[tuple[str, int, str], Figure] = {}
    for figure in sorted(figures, key=lambda figure: order.index(figure.build.size)):
        if figure.value is not None:
            chosen.setdefault((figure.build.engine, figure.mode, figure.build.library), figure)
    return list(chosen.values())


@dataclasses.dataclass(frozen=True)
class Answer:
    """The core that forms most of a product on a device."""

    library: str
    """Target or library."""
    product: str
    figure: Figure
    copies: int | None
    """How often it fits the device; None where there is no device, and cost and clock of one product decide."""
    clock_mhz: float | None
    """By place and route of the engine's small size, or by the critical path; None where no clock was looked for."""
    over_plain: float | None
    """Its rate over that of the plain array that serves the product best on the device."""

    @property
    def device(self) -> str:
        """The board, or the library where there is none."""
        board = BOARDS.get(self.figure.build.target)
        return self.library if board is None else f"{self.library}: {board.name}"

    @property
    def products(self) -> int | None:
        """Products that the device forms in a cycle."""
        return None if self.copies is None else self.copies * self.figure.macs_per_cycle

    @property
    def rate(self) -> float | None:
        """Billions of products a second on the device."""
        if self.products is None or self.clock_mhz is None:
            return None
        return self.products * self.clock_mhz / 1000

    def as_json(self) -> dict[str, Any]:
        """Return it as an entry of report.json."""
        return {
            "device": self.device,
            "library": self.library,
            "product": self.product,
            "engine": self.figure.build.engine,
            "size": self.figure.build.size,
            "command": self.figure.build.command,
            "fits": self.copies,
            "products_per_cycle": self.products,
            "clock_mhz": self.clock_mhz,
            "gigaproducts_per_second": self.rate,
            "per_product": self.figure.per_mac,
            "over_plain": self.over_plain,
        }


def answers(figures: Sequence[Figure]) -> list[Answer]:
    """Return the best core of each product on each device, for the products that anything built serves."""
    clocks = _clocks(figures)
    found = []
    for library in dict.fromkeys(figure.build.library for figure in figures):
        for product in PRODUCTS:
            able = [
                figure
                for figure in figures
                if figure.build.library == library and figure.per_mac and serves(figure.kind, product)
            ]
            best = _best(able, clocks)
            if best is None:
                continue
            plain = _best([figure for figure in able if find_core(figure.build.engine).reference], clocks)
            timed = any(_clock(figure, clocks) for figure in able)
            over = None if plain is None else _score(best, clocks, timed) / _score(plain, clocks, timed)
            found.append(Answer(library, product, best, _copies(best), _clock(best, clocks), over))
    return found


def worse(figures: Sequence[Figure]) -> list[str]:
    """Say in words where a core costs more for a product than the plain array of its kind: one sentence a core."""
    clocks = _clocks(figures)
    found: dict[tuple[str, str], list[Figure]] = {}
    for figure in default_of(figures):
        if figure.ratio is not None and figure.ratio > 1 and not find_core(figure.build.engine).reference:
            found.setdefault((figure.build.library, figure.build.engine), []).append(figure)
    lines = []
    for (library, engine), several in found.items():
        plain = several[0].baseline_build.engine
        costs = ", ".join(f"{figure.ratio:.2f} times for {figure.product}" for figure in several)
        name = several[0].baseline_build.config.modes[0].name.upper()
        unit = "LUTs" if several[0].resource == "lut" else "area"
        line = f"On {library} {engine} takes more {unit} for a product than the plain {name} array: {costs}"
        mine, other = (clocks.get((name, library)) for name in (engine, plain))
        if mine and other:
            line += f"; its clock is {mine:.0f} MHz, the array's {other:.0f}"
        lines.append(f"{line}.")
    return lines


def _clocks(figures: Sequence[Figure]) -> dict[tuple[str, str], float]:
    """Return the clock of each engine that was placed and routed, by engine and target."""
    return {(f.build.engine, f.build.library): f.fmax_mhz for f in figures if f.routed is not None and f.fmax_mhz}


def _clock(figure: Figure, clocks: Mapping[tuple[str, str], float]) -> float | None:
    """Return the clock of a figure: its own, or that of its engine's small size."""
    return figure.fmax_mhz or clocks.get((figure.build.engine, figure.build.library))


def _copies(figure: Figure) -> int | None:
    """Return how often a core fits the device of its target; None where there is none."""
    board = BOARDS.get(figure.build.target)
    if board is None or figure.value is None:
        return None
    return min(int(most // figure.value[name]) for name, most in board.resources.items() if figure.value.get(name))


def _score(figure: Figure, clocks: Mapping[tuple[str, str], float], timed: bool) -> float:
    """Return products on the device, in a second if clocks are known and in a cycle if not."""
    copies, cost = _copies(figure), figure.per_mac
    assert cost is not None
    products = 1 / cost if copies is None else float(copies * figure.macs_per_cycle)
    return products * (_clock(figure, clocks) or 0.0) if timed else products


def _best(able: Sequence[Figure], clocks: Mapping[tuple[str, str], float]) -> Figure | None:
    """Return the figure of the best score; the smaller in doubt."""
    timed = any(_clock(figure, clocks) for figure in able)
    scored = [(_score(figure, clocks, timed), -figure.macs_per_cycle, index) for index, figure in enumerate(able)]
    top = max((entry for entry in scored if entry[0] > 0), default=None)
    return None if top is None else able[top[2]]
