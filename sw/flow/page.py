"""The report as one self-contained page, and as Markdown."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sw.flow.plots import PLOTS, draw
from sw.flow.survey import SEEDS, Figure

__all__ = ["markdown", "page"]

FOLDER = Path(__file__).parent

COLUMNS: tuple[tuple[str, str], ...] = (
    ("engine", "text"), ("size", "text"), ("MAC/cycle", "number"), ("LUT", "number"), ("FF", "number"),
    ("BRAM", "number"), ("LUT/MAC", "number"), ("INT8 LUT/MAC", "number"), ("ratio", "number"), ("Fmax MHz", "number"),
    ("bits/weight", "number"), ("used", "number"),
)  # fmt: skip
"""Heading and kind of each column of an FPGA's table."""

CELL_COLUMNS: tuple[tuple[str, str], ...] = (
    ("engine", "text"), ("size", "text"), ("MAC/cycle", "number"), ("area", "number"), ("memory bits", "number"),
    ("area/MAC", "number"), ("INT8 area/MAC", "number"), ("ratio", "number"), ("path ns", "number"),
    ("pJ/MAC", "number"), ("bits/weight", "number"), ("used", "number"),
)  # fmt: skip
"""The same of a library's."""


def columns(figure: Figure) -> tuple[tuple[str, str], ...]:
    """Return the columns of the table that a figure belongs to."""
    generic = figure.build.target == "cells" and figure.build.liberty is None
    if not generic:
        return CELL_COLUMNS if figure.build.target == "cells" else COLUMNS
    return tuple((name.replace("path ns", "path FO4"), kind) for name, kind in CELL_COLUMNS)


def values(figure: Figure) -> list[str | float | None]:
    """Return the row of a figure, without the note."""
    found: Mapping[str, Any] = figure.value or {}
    build = figure.build
    head = [build.engine, build.size, build.config.macs_per_cycle]
    if build.target == "cells":
        middle = [found.get("area"), found.get("memory_bits")]
        speed = [found.get("critical_path_ns"), figure.picojoules_per_mac]
    else:
        middle = [found.get("lut"), found.get("ff"), found.get("bram")]
        speed = [figure.fmax_mhz]
    costs = [figure.per_mac, figure.baseline_per_mac, figure.ratio]
    return [*head, *middle, *costs, *speed, figure.bits_per_weight, figure.utilization]


def shown(value: str | float | None) -> str:
    """Return a cell's text, four digits of a number."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def notes(figure: Figure) -> list[str]:
    """Return what the reader of a row has to know."""
    found = [figure.missing] if figure.missing else []
    found += figure.notes
    if figure.build.target == "cells" and figure.value is not None:
        found.append(f"timing: {figure.value['timing_source']}")
        if figure.value["power_mw"] is not None:
            found.append(f"power: {figure.value['power_source']}")
    if figure.routed is not None:
        found.append(f"Fmax: {figure.routed['device']}, estimate, seed {', '.join(map(str, SEEDS))}")
    return found


def tools(figures: Sequence[Figure]) -> list[str]:
    """Return the tools behind the figures."""
    parts = [part for figure in figures for part in (figure.value, figure.baseline, figure.routed) if part]
    return sorted({tool for part in parts for tool in part["tools"]})


def groups(figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    """Return the figures of each target or library."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(figure.build.library, []).append(figure)
    return found


ABOUT = (
    "Every row is beside the plain INT8 array (engine baseline) that forms as many products in a cycle, in the first "
    "mode of the engine, built in the same run by the same flow; ratio is cost per product over that array's. "
    "LUT counts are Yosys' after synthesis without multipliers, a repeated module mapped once; areas are before "
    "layout. Fmax, energy, and all of the generic library's figures are estimates. 'used' is the share of the "
    "products of a layer of 1536 x 1536 and one token over those that its cycles have room for, from the exact cost "
    "model."
)


def page(figures: Sequence[Figure], command: str) -> str:
    """Return the whole page; it needs no other file and no network."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        "<title>Nomul: what the engines cost</title>",
        f"<style>{(FOLDER / 'page.css').read_text()}</style></head><body>",
        "<header><h1>What the engines cost</h1>",
        f"<p>{html.escape(ABOUT)}</p>",
        f'<p class="quiet">Made by <code>{html.escape(command)}</code> with {html.escape(", ".join(tools(figures)))}. '
        "Each row says the command that makes its figures by itself.</p></header><main>",
        '<h2>Plots</h2><div class="plots">',
        *(_plot(name, figures) for name in PLOTS),
        "</div>",
        *(_table(name, found) for name, found in groups(figures).items()),
        f"</main><script>{(FOLDER / 'page.js').read_text()}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _plot(name: str, figures: Sequence[Figure]) -> str:
    title, _, _, about = PLOTS[name]
    svg = draw(name, figures)
    if svg is None:
        library = "It needs a library: give --liberty FILE."
        needs = library if name == "energy-per-mac" else "Nothing of it was built."
        svg = f'<p class="absent">{needs}</p>'
    return (
        f'<figure id="{name}"><h3>{html.escape(title)}</h3>{svg}<figcaption>{html.escape(about)} '
        "Commands, configurations and tools: the tables below.</figcaption></figure>"
    )


def _table(name: str, figures: Sequence[Figure]) -> str:
    build = figures[0].build
    heads = columns(figures[0])
    title = f"Standard cells: {name}" if build.target == "cells" else name
    rows = [
        "".join(f'<th data-kind="{kind}" class="{kind}"><button>{head}</button></th>' for head, kind in heads)
        + '<th class="text">what is behind it</th>'
    ]
    for figure in figures:
        cells = "".join(
            f'<td class="{kind}" data-value="{"" if value is None else html.escape(str(value))}">{shown(value)}</td>'
            for value, (_, kind) in zip(values(figure), heads, strict=True)
        )
        rows.append(f'{cells}<td class="note">{_behind(figure)}</td>')
    body = "".join(f"<tr>{row}</tr>" for row in rows[1:])
    return (
        f'<h2>{html.escape(title)}</h2><div class="scroll"><table class="sortable" id="table-{html.escape(name)}">'
        f"<thead><tr>{rows[0]}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _behind(figure: Figure) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in figure.as_json()["config"].items() if value is not None)
    lines = [
        f"<code>{html.escape(figure.build.command)}</code>",
        f"INT8 array: <code>{html.escape(figure.baseline_build.command)}</code>",
        html.escape(f"configuration: {fields}"),
        html.escape(f"tools: {', '.join(tools([figure])) or 'none'}"),
    ]
    said = "".join(f"<div>{html.escape(note)}</div>" for note in notes(figure))
    return f"{said}<details><summary>command, configuration, tools</summary>{'<br>'.join(lines)}</details>"


def markdown(figures: Sequence[Figure], command: str) -> str:
    """Return the tables as Markdown."""
    lines = ["# What the engines cost", "", ABOUT, "", f"Made by `{command}` with {', '.join(tools(figures))}.", ""]
    for name, found in groups(figures).items():
        heads = [head for head, _ in columns(found[0])]
        lines += [f"## {name}", "", f"| {' | '.join([*heads, 'notes', 'command'])} |"]
        lines.append("|" + "|".join("---" if kind == "text" else "---:" for _, kind in columns(found[0])) + "|---|---|")
        for figure in found:
            row = [shown(value) for value in values(figure)]
            lines.append(f"| {' | '.join([*row, '; '.join(notes(figure)), f'`{figure.build.command}`'])} |")
        lines.append("")
    return "\n".join(lines)
