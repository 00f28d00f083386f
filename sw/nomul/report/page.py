"""The report as one self-contained page, and as Markdown."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nomul.report.answers import Answer, answers, worse
from nomul.report.plots import PLOTS, draw
from nomul.report.sweep import SEEDS, Figure

__all__ = ["markdown", "page"]

FOLDER = Path(__file__).parent

COLUMNS: tuple[tuple[str, str], ...] = (
    ("engine", "text"), ("size", "text"), ("product", "text"), ("MAC/cycle", "number"), ("LUT", "number"),
    ("FF", "number"), ("BRAM", "number"), ("LUT/MAC", "number"), ("plain LUT/MAC", "number"), ("ratio", "number"),
    ("Fmax MHz", "number"), ("bits/weight", "number"), ("used", "number"),
)  # fmt: skip
"""Heading and kind of each column of an FPGA's table."""

CELL_COLUMNS: tuple[tuple[str, str], ...] = (
    ("engine", "text"), ("size", "text"), ("product", "text"), ("MAC/cycle", "number"), ("area", "number"),
    ("memory bits", "number"), ("area/MAC", "number"), ("plain area/MAC", "number"), ("ratio", "number"),
    ("path ns", "number"), ("pJ/MAC", "number"), ("bits/weight", "number"), ("used", "number"),
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
    head: list[str | float | None] = [build.engine, build.size, figure.product, figure.macs_per_cycle]
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
    "Every row is beside the plain array that forms as many products in a cycle as the engine does in its first mode: "
    "INT8's (engine baseline), or FP16's (engine fp16) where activations are FP16; built in the same run by the same "
    "flow. Ratio is cost per product over that array's; an engine with several modes has a row for each. "
    "LUT counts are Yosys' after synthesis without multipliers, a repeated module mapped once; areas are before "
    "layout. Fmax, energy, and all of the generic library's figures are estimates. 'used' is the share of the "
    "products of a layer of 1536 x 1536 and one token over those that its cycles have room for, from the exact cost "
    "model."
)

ANSWERED = (
    "Of everything built here, the core that forms most of these products on the whole device, copied as often as it "
    "fits: in a second where clocks are known (estimates by place and route of an engine's small size, or critical "
    "paths), otherwise in a cycle. Where no device is named, the least LUTs or area for a product decide. The last "
    "column is its rate over that of the plain array which can do the same. A whole design needs room for more than "
    "this."
)

ANSWER_COLUMNS: tuple[tuple[str, str], ...] = (
    ("device", "text"), ("product", "text"), ("best core", "text"), ("size", "text"), ("fits", "number"),
    ("products/cycle", "number"), ("MHz", "number"), ("10^9 products/s", "number"), ("cost of one", "number"),
    ("over plain", "number"),
)  # fmt: skip
"""Heading and kind of each column of the first table."""


def answer_values(answer: Answer) -> list[str | float | None]:
    """Return the row of an answer."""
    build = answer.figure.build
    head: list[str | float | None] = [answer.device, answer.product, build.engine, build.size]
    counts: list[str | float | None] = [answer.copies, answer.products, answer.clock_mhz, answer.rate]
    return [*head, *counts, answer.figure.per_mac, answer.over_plain]


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
        f'<p class="quiet">Made by <code>{html.escape(command)}</code> with {html.escape(", ".join(tools(figures)))}. '
        "Each row says the command that makes its figures by itself.</p></header><main>",
        *_first(figures),
        f"<h2>Everything that was built</h2><p>{html.escape(ABOUT)}</p>",
        '<div class="plots">',
        *(_plot(name, svg) for name in PLOTS if (svg := draw(name, figures)) is not None),
        "</div>",
        *(_table(name, found) for name, found in groups(figures).items()),
        f"</main><script>{(FOLDER / 'page.js').read_text()}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _first(figures: Sequence[Figure]) -> list[str]:
    """Return the answers, and where a core is worse than a plain array."""
    found, bad = answers(figures), worse(figures)
    parts = []
    if found:
        rows = [(answer_values(answer), "") for answer in found]
        parts += ["<h2>The best core</h2>", _sortable("answers", ANSWER_COLUMNS, rows)]
        parts.append(f'<p class="quiet">{html.escape(ANSWERED)}</p>')
    if bad:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in bad)
        parts.append(f'<h2>Worse than a plain array</h2><ul id="worse">{lines}</ul>')
    return parts


def _plot(name: str, svg: str) -> str:
    title, _, _, about = PLOTS[name]
    return (
        f'<figure id="{name}"><h3>{html.escape(title)}</h3>{svg}<figcaption>{html.escape(about)} '
        "Commands, configurations and tools: the tables below.</figcaption></figure>"
    )


def _sortable(
    name: str, heads: Sequence[tuple[str, str]], rows: Sequence[tuple[Sequence[str | float | None], str]]
) -> str:
    """Return a table that sorts by its headings, which stay in sight; each row has values, and cells that follow."""
    head = "".join(f'<th data-kind="{kind}" class="{kind}"><button>{text}</button></th>' for text, kind in heads)
    if any(rest for _, rest in rows):
        head += '<th class="text">what is behind it</th>'
    body = ""
    for row, rest in rows:
        cells = "".join(
            f'<td class="{kind}" data-value="{"" if value is None else html.escape(str(value))}">'
            f"{html.escape(shown(value))}</td>"
            for value, (_, kind) in zip(row, heads, strict=True)
        )
        body += f"<tr>{cells}{rest}</tr>"
    return (
        f'<div class="scroll"><table class="sortable" id="table-{html.escape(name)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _table(name: str, figures: Sequence[Figure]) -> str:
    build = figures[0].build
    title = f"Standard cells: {name}" if build.target == "cells" else name
    rows = [(values(figure), f'<td class="note">{_behind(figure)}</td>') for figure in figures]
    return f"<h2>{html.escape(title)}</h2>{_sortable(name, columns(figures[0]), rows)}"


def _behind(figure: Figure) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in figure.as_json()["config"].items() if value is not None)
    lines = [
        f"<code>{html.escape(figure.build.command)}</code>",
        f"plain array: <code>{html.escape(figure.baseline_build.command)}</code>",
        html.escape(f"configuration: {fields}"),
        html.escape(f"tools: {', '.join(tools([figure])) or 'none'}"),
    ]
    said = "".join(f"<div>{html.escape(note)}</div>" for note in notes(figure))
    return f"{said}<details><summary>command, configuration, tools</summary>{'<br>'.join(lines)}</details>"


def markdown(figures: Sequence[Figure], command: str) -> str:
    """Return the tables as Markdown."""
    lines = ["# What the engines cost", "", f"Made by `{command}` with {', '.join(tools(figures))}.", ""]
    found_answers, bad = answers(figures), worse(figures)
    if found_answers:
        lines += ["## The best core", "", ANSWERED, "", *_heads(ANSWER_COLUMNS)]
        lines += [f"| {' | '.join(map(shown, answer_values(answer)))} |" for answer in found_answers] + [""]
    if bad:
        lines += ["## Worse than a plain array", "", *(f"* {line}" for line in bad), ""]
    lines += [ABOUT, ""]
    for name, found in groups(figures).items():
        lines += [f"## {name}", "", *_heads((*columns(found[0]), ("notes", "text"), ("command", "text")))]
        for figure in found:
            row = [shown(value) for value in values(figure)]
            lines.append(f"| {' | '.join([*row, '; '.join(notes(figure)), f'`{figure.build.command}`'])} |")
        lines.append("")
    return "\n".join(lines)


def _heads(columns: Sequence[tuple[str, str]]) -> list[str]:
    """Return the first two lines of a table in Markdown."""
    kinds = "|".join("---" if kind == "text" else "---:" for _, kind in columns)
    return [f"| {' | '.join(head for head, _ in columns)} |", f"|{kinds}|"]
