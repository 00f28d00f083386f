"""Synthesis of a large design whose parts are counted apart: each module of a list is kept whole."""

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomul.fpga.targets import find_target
from nomul.fpga.yosys import SOURCE, Synthesis, compact, tally, yosys_version
from nomul.jobs.cache import DEFAULT, Cache, digest
from nomul.jobs.yosys_run import run_yosys

__all__ = ["Parts", "children", "synthesise_parts"]

MODULE = re.compile(r"^module \\(\S+)$", re.MULTILINE)
CELL = re.compile(r"^  cell \\(\S+) \\?(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Parts:
    """What each part takes, by the name of its module, the top's own logic under its name; and all together."""

    parts: dict[str, Synthesis]
    total: Synthesis


def children(text: str, module: str) -> dict[str, str]:
    """Return the instances in a module of an RTLIL text, each with its module's name."""
    bodies = MODULE.split(text)
    names, texts = bodies[1::2], bodies[2::2]
    body = texts[names.index(module)]
    return {instance: kind for kind, instance in CELL.findall(body) if kind in names}


def synthesise_parts(
    text: str,
    top: str,
    target: str,
    kept: Sequence[str],
    *,
    files: Mapping[str, str] | None = None,
    netlist: bool = False,
    cache: Path | None = DEFAULT,
) -> Parts:
    """Synthesise an RTLIL text for an FPGA target, multipliers allowed, and count the modules `kept` apart.

    Parameters
    ----------
    text, top, target
        As in `nomul.fpga.yosys.synthesise`.
    kept
        Names of modules; a module that is none of them is part of the one around it. Nothing is optimised across
        their boundaries.
    files
        Further files by name: Verilog, which is read, and what memories are filled from.
    netlist
        Whether the total gets the whole netlist, for nextpnr.
    cache
        Folder of earlier results.

    Raises
    ------
    InputError, ToolError
        As in `nomul.fpga.yosys.synthesise`.
    """
    family, files = find_target(target), dict(files or {})
    command = family.command(top, dsp=True)
    script = "\n".join(
        [
            "read_rtlil design",
            *(f"read_verilog -sv -defer {name}" for name in files if name.endswith(".v")),
            *([f"setattr -mod -set keep_hierarchy 1 {' '.join(kept)}"] if kept else []),
            f"{command} -run begin:{family.second_step}",
            f"{command} -run {family.second_step}:",
            "check -nolatches -assert",
            "tee -q -o stat.json stat -json",
            *(["setattr -mod -unset keep_hierarchy *", "flatten", "opt_clean -purge", "write_json netlist.json"]
              if netlist else []),
            "",
        ]
    )  # fmt: skip
    store = Cache(None if cache is None else cache / "parts")
    key = digest(SOURCE.sub("", text), script, json.dumps(files, sort_keys=True), yosys_version())
    entry, flat = store.get(key), None
    if entry is None:
        start = time.monotonic()
        run = run_yosys(script, {"design": text, **files}, ["stat.json", *(["netlist.json"] if netlist else [])])
        found = json.loads(run.files["stat.json"])["modules"]
        entry = {
            "cells": {name.removeprefix("\\"): module["num_cells_by_type"] for name, module in found.items()},
            "seconds": round(time.monotonic() - start, 3),
        }
        flat = compact(run.files["netlist.json"], top) if netlist else None
        store.put(key, entry, {".mapped": flat} if flat else None)
    elif netlist:
        flat = store.path(key, ".mapped").read_text()

    modules = {name: dict(cells) for name, cells in entry["cells"].items()}
    own = {name: {kind: n for kind, n in cells.items() if kind not in modules} for name, cells in modules.items()}
    counted: Counter[str] = Counter()

    def count(name: str, times: int) -> None:
        counted[name] += times
        for kind, each in modules[name].items():
            if kind in modules:
                count(kind, times * each)

    count(top, 1)
    whole: Counter[str] = Counter()
    parts = {}
    for name, times in counted.items():
        cells = {kind: n * times for kind, n in own[name].items()}
        whole.update(cells)
        if any(kind in family.costs for kind in cells):
            parts[name] = tally(cells, family, name, check=False)
    return Parts(parts, tally(dict(whole), family, top, entry["seconds"], flat))
