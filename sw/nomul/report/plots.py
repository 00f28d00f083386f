"""The plots of the report, as SVG that takes the page's colours."""

import io
from collections.abc import Callable, Sequence

import matplotlib
from matplotlib.figure import Figure as Canvas

from nomul.cores.discover import find_core
from nomul.report.answers import default_of
from nomul.report.sweep import Figure

__all__ = ["PLOTS", "draw"]

matplotlib.use("svg")

INK = "#010203"
"""Stands for the colour of the page's text, and is replaced by it."""

COLOURS = ("#2a78c5", "#d9730d", "#3a9d5d", "#b5449a", "#8a6bd1", "#9a8500", "#c0392b", "#4f8f9f")
"""Of targets; legible on white and on black."""

MARKERS = "osD^vP*X"

Styles = dict[str, tuple[str, str]]
"""Colour and mark by target or library."""

Point = tuple[str, str, float]
"""Row, target or library, value."""


def label(figure: Figure) -> str:
    """Return a figure's row in a plot: rows of one product stand together."""
    return f"{figure.product}: {figure.build.engine}"


def lut_per_mac(figures: Sequence[Figure]) -> list[Point]:
    """LUTs for each product."""
    found = default_of([figure for figure in figures if figure.resource == "lut"])
    return [(label(f), f.build.library, f.per_mac) for f in found if f.per_mac]


def area_per_mac(figures: Sequence[Figure]) -> list[Point]:
    """Area for each product."""
    found = default_of([figure for figure in figures if figure.resource == "area"])
    return [(label(f), f.build.library, f.per_mac) for f in found if f.per_mac]


def fmax(figures: Sequence[Figure]) -> list[Point]:
    """Clock of what was placed and routed, or timed in a library."""
    return [
        (f.build.engine, f.build.library, f.fmax_mhz)
        for f in figures
        if f.fmax_mhz and f.build.size == "small" and f.mode == 0
    ]  # fmt: skip


def rate_per_lut(figures: Sequence[Figure]) -> list[Point]:
    """Millions of products a second for each LUT, at the clock of place and route."""
    return [
        (label(f), f.build.library, f.fmax_mhz / f.per_mac)
        for f in figures
        if f.resource == "lut" and f.fmax_mhz and f.per_mac
    ]


def energy(figures: Sequence[Figure]) -> list[Point]:
    """Energy of a product in picojoules."""
    return [
        (label(f), f.build.library, f.picojoules_per_mac)
        for f in figures
        if f.picojoules_per_mac and f.build.size == "small"
    ]


def bits_against_area(figures: Sequence[Figure]) -> list[tuple[str, str, float, float]]:
    """Bits of the weight stream for each weight, and cost of a product over the plain array's."""
    return [
        (label(f), f.build.library, f.bits_per_weight, f.ratio)
        for f in default_of(figures)
        if f.ratio and not find_core(f.build.engine).reference
    ]


PLOTS: dict[str, tuple[str, str, Callable[[Sequence[Figure]], list[Point]] | None, str]] = {
    "lut-per-mac": (
        "LUT per MAC", "LUT for each product of a cycle", lut_per_mac,
        "Yosys' count after synthesis: a LUT of four inputs on ice40, ecp5 and gowin, of six on xc7 and xcup. Each "
        "engine's default, or the largest size that was built.",
    ),
    "area-per-mac": (
        "Area per MAC", "area for each product of a cycle", area_per_mac,
        "Before layout, memories of more than 512 bits left out. Square micrometres in a library; in the generic "
        "library gate equivalents, which are an estimate.",
    ),
    "fmax": (
        "Fmax", "MHz", fmax,
        "The small size. On an FPGA an estimate by nextpnr's timing model with one seed (there is none for xc7 and "
        "xcup); in a library static timing before layout.",
    ),
    "rate-per-lut": (
        "MAC per second per LUT", "10^6 products/s for each LUT", rate_per_lut,
        "The small size, at the clock of place and route: an estimate as far as the clock is one.",
    ),
    "energy-per-mac": (
        "Energy per MAC", "pJ for each product", energy,
        "The small size. An estimate before layout. Activity of a simulation on real data where the table says so, "
        "otherwise an assumed one.",
    ),
    "bits-against-area": (
        "Bits per weight against area", "bits of the weight stream for each weight", None,
        "Cost of a product over that of the plain array on the same target, in the same run: of INT8, or for FP16 "
        "activations of FP16. Each engine's default, or the largest size that was built.",
    ),
}  # fmt: skip
"""By name: title, axis, what is drawn (None for the scatter), and what to know about it."""


def draw(name: str, figures: Sequence[Figure]) -> str | None:
    """Return a plot as an SVG element; None if nothing can be drawn."""
    title, axis, points_of, _ = PLOTS[name]
    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": name,
            "font.size": 10,
            "font.family": "sans-serif",
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        styles = _styles([figure.build.library for figure in figures])
        canvas = _strip(points_of(figures), axis, styles) if points_of else _scatter(figures, axis, styles)
        if canvas is None:
            return None
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _styles(names: Sequence[str]) -> Styles:
    """Return a colour and a mark for each target, the same in every plot."""
    return {
        name: (COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
        for index, name in enumerate(dict.fromkeys(names))
    }


def _strip(points: Sequence[Point], axis: str, styles: Styles) -> Canvas | None:
    """Draw a row for each engine and product, a mark for each target, on a logarithmic axis."""
    if not points:
        return None
    engines = sorted({engine for engine, _, _ in points})
    canvas = Canvas(figsize=(4.9, 1.5 + 0.34 * len(engines)), layout="constrained")
    axes = canvas.add_subplot()
    for target, (colour, marker) in styles.items():
        mine = [(value, engines.index(engine)) for engine, name, value in points if name == target]
        if not mine:
            continue
        axes.scatter([x for x, _ in mine], [y for _, y in mine], c=colour, marker=marker, s=34, label=target, alpha=0.9)
    axes.set_yticks(range(len(engines)), engines)
    axes.set_ylim(len(engines) - 0.5, -0.5)
    _logarithmic(axes, [value for _, _, value in points], axis)
    axes.grid(axis="x", color="#8888", linewidth=0.5)
    canvas.legend(loc="outside upper center", ncols=4, frameon=False, handletextpad=0.1, columnspacing=0.9)
    return canvas


def _logarithmic(axes: object, values: Sequence[float], label: str) -> None:
    """Scale the axis of values by powers of ten, with ticks that read as plain numbers."""
    steps = [mantissa * 10.0**power for power in range(-6, 9) for mantissa in (1, 2, 5)]
    low, high = min(values) / 1.15, max(values) * 1.15
    ticks = [step for step in steps if low <= step <= high]
    while len(ticks) > 6:
        ticks = ticks[::2]
    axes.set_xscale("log")  # type: ignore[attr-defined]
    axes.set_xlim(low, high)  # type: ignore[attr-defined]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])  # type: ignore[attr-defined]
    axes.set_xticks([], minor=True)  # type: ignore[attr-defined]
    axes.set_xlabel(label)  # type: ignore[attr-defined]


def _scatter(figures: Sequence[Figure], axis: str, styles: Styles) -> Canvas | None:
    """Draw cost over bits per weight, a mark's shape for the target and a name beside each engine's cheapest."""
    points = bits_against_area(figures)
    if not points:
        return None
    canvas = Canvas(figsize=(4.9, 4.2), layout="constrained")
    axes = canvas.add_subplot()
    for target, (colour, marker) in styles.items():
        mine = [(bits, ratio) for _, name, bits, ratio in points if name == target]
        if not mine:
            continue
        axes.scatter([x for x, _ in mine], [y for _, y in mine], c=colour, marker=marker, s=34, label=target, alpha=0.9)
    lowest: dict[str, tuple[float, float]] = {}
    for engine, _, bits, ratio in points:
        if engine not in lowest or ratio < lowest[engine][1]:
            lowest[engine] = (bits, ratio)
    widest = max(bits for _, _, bits, _ in points)
    for engine, place in lowest.items():
        # Names of points on the right stand to the left of them, or they would run out of the figure.
        left = place[0] ** 2 > widest * min(bits for _, _, bits, _ in points)
        side = "right" if left else "left"
        offset = (-5 if left else 5, -10)
        axes.annotate(engine, place, textcoords="offset points", xytext=offset, ha=side, fontsize=9, color=INK)
    _logarithmic(axes, [bits for _, _, bits, _ in points], axis)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("cost of a product, plain array = 1")
    axes.grid(color="#8888", linewidth=0.5)
    canvas.legend(loc="outside upper center", ncols=4, frameon=False, handletextpad=0.1, columnspacing=0.9)
    return canvas
