"""Maps a design to a library of standard cells with Yosys.

What is counted and what is not:

* Generic cells (`nomul.arith.cells`) become the library's smallest cells of the same function and stay as they are; ABC
  maps the rest around them. A generic cell that the library does not have is mapped as logic from its model.
* A memory of more than `MACRO_BITS` bits is a macro: it is left out of the area and reported as `memory_bits`. A
  smaller one becomes flip-flops and multiplexers.
* Enabled flip-flops that share an enable are clocked through a clock gate, if the library has one and at least
  `GATED` of them share it; the others get multiplexers.
* There is no clock tree, no filler, and a constant input costs nothing. Initial values are dropped: a chip
  starts by its reset.
"""

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nomul.arith.cells import GENERIC_CELLS, MODELS, cell_models
from nomul.asic.liberty import Library
from nomul.cores.api import MACRO_BITS
from nomul.errors import InputError, ToolError
from nomul.fpga.yosys import SOURCE, is_rtlil, yosys_version
from nomul.jobs.cache import DEFAULT, Cache, digest
from nomul.jobs.yosys_run import run_yosys

GATED = 4
"""Fewest flip-flops behind a clock gate."""

MEMORY = re.compile(r"^  cell \$mem_v2 (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
PARAMETER = re.compile(r"parameter (?:signed )?\\(\w+) (.*)")

FUNCTIONS: dict[str, tuple[int, tuple[Callable[..., int], ...]]] = {
    "NOMUL_FA": (3, (lambda a, b, c: a ^ b ^ c, lambda a, b, c: (a & b) | (c & (a | b)))),
    "NOMUL_HA": (2, (lambda a, b: a ^ b, lambda a, b: a & b)),
    "NOMUL_AOI22": (4, (lambda a, b, c, d: 1 ^ (a & b | c & d),)),
    "NOMUL_AOI222": (6, (lambda a, b, c, d, e, f: 1 ^ (a & b | c & d | e & f),)),
    "NOMUL_OAI22": (4, (lambda a, b, c, d: 1 ^ ((a | b) & (c | d)),)),
    "NOMUL_OAI222": (6, (lambda a, b, c, d, e, f: 1 ^ ((a | b) & (c | d) & (e | f)),)),
    "NOMUL_BUF": (1, (lambda a: a,)),
}
"""Inputs of each generic cell, and its functions in the order of its outputs."""


@dataclass(frozen=True)
class MemoryMacro:
    """A memory that is left to a macro: words of `width` bits, its ports, and whether a read is asynchronous."""

    name: str
    words: int
    width: int
    reads: int
    writes: int
    asynchronous: bool


@dataclass(frozen=True)
class Mapped:
    """A design in a library's cells: `module` is its top in Yosys' JSON, memory macros among its cells as `$mem_v2`."""

    top: str
    module: dict[str, Any]
    memories: tuple[MemoryMacro, ...]
    seconds: float
    tool: str

    @property
    def cells(self) -> Counter[str]:
        """The number of cells of each type, macros left out."""
        return Counter(cell["type"] for cell in self.module["cells"].values() if not cell["type"].startswith("$mem"))

    @property
    def memory_bits(self) -> int:
        """Bits in macros."""
        return sum(memory.words * memory.width for memory in self.memories)


def area(cells: Counter[str], library: Library) -> float:
    """Return the area of cells by type, in the library's unit."""
    return sum(library.cells[name].area * count for name, count in cells.items())


def map_cells(
    text: str, top: str, library: Library, clock_ns: float | None, *, gating: bool = True, cache: Path | None = DEFAULT
) -> Mapped:
    """Map module `top` of an RTLIL or Verilog text to a library.

    Parameters
    ----------
    text
        The whole design; generic cells need no models.
    top
        Name of the top module.
    library
        The cells.
    clock_ns
        Clock period that ABC aims at, in nanoseconds; None maps for area alone.
    gating
        Whether to use the library's clock gates.
    cache
        Folder of earlier results, or None.

    Raises
    ------
    InputError
        If the period is not positive, or the library has no flip-flop or no inverting gate.
    ToolError
        If Yosys fails, or the result has a latch, a cell that the library does not have, a wire with two drivers, or
        nothing at all.

    """
    check_library(library, clock_ns)
    coarse = _coarse_script(top, is_rtlil(text))
    fine = _fine_script(library, clock_ns, gating)
    store = Cache(None if cache is None else cache / "cells")
    key = digest(
        SOURCE.sub("", text), coarse, fine, cell_map(library), MODELS.read_text(), library.text, yosys_version()
    )
    kept = store.get(key)
    if kept is None:
        start = time.monotonic()
        first = run_yosys(coarse, {"design": text, "cells.v": MODELS.read_text()}, ["coarse.il"]).files["coarse.il"]
        macros, small = memories(first)
        script = _with_small(fine, top, small)
        inputs = {
            "coarse.il": first,
            "cells.lib": library.text,
            "map.v": cell_map(library),
            "enables.v": _enable_map(),
            "cells.v": MODELS.read_text(),
        }
        netlist = run_yosys(script, inputs, ["netlist.json"]).files["netlist.json"]
        module = _compact(json.loads(netlist)["modules"][top])
        kept = {
            "module": module,
            "memories": [asdict(macro) for macro in macros],
            "seconds": round(time.monotonic() - start, 3),
        }
        _check(module, top, library)
        store.put(key, kept)
    macros_kept = tuple(MemoryMacro(**macro) for macro in kept["memories"])
    return Mapped(top, kept["module"], macros_kept, kept["seconds"], yosys_version())


def abc_delay(text: str, top: str, library: Library) -> float | None:
    """Return ABC's own estimate of the longest combinational path in ns; None if there is none.

    Everything, generic cells too, is mapped from logic for it, and sized by ABC. Flip-flops are not in it.
    """
    check_library(library, None)
    coarse = _coarse_script(top, is_rtlil(text))
    first = run_yosys(coarse, {"design": text, "cells.v": MODELS.read_text()}, ["coarse.il"]).files["coarse.il"]
    script = _fine_script(library, None, gating=False).replace("abc -liberty", "abc -constr drive -liberty")
    _, small = memories(first)
    inputs = {
        "coarse.il": first,
        "cells.lib": library.text,
        "map.v": MODELS.read_text(),
        "enables.v": _enable_map(),
        "cells.v": MODELS.read_text(),
        "drive": f"set_driving_cell {library.buffers[0].name}\nset_load 1\n" if library.buffers else "set_load 1\n",
    }
    log = run_yosys(_with_small(script, top, small), inputs, ["netlist.json"]).log
    delays = [float(number) for number in re.findall(r"Delay = *([\d.]+) ps", log)]
    return max(delays) / 1000 if delays else None


def _with_small(script: str, top: str, small: list[str]) -> str:
    return script.replace("@small@", f"memory_map {' '.join(f'{top}/{name}' for name in small)}" if small else "")


def check_library(library: Library, clock_ns: float | None) -> None:
    """Refuse a clock period that is not positive, and a library that cannot hold a design."""
    if clock_ns is not None and not 0 < clock_ns < float("inf"):
        raise InputError(f"clock period {clock_ns:g} ns is not possible; allowed: above 0")
    if not library.kind("flip-flop"):
        raise InputError(f"liberty file {library.path} has no flip-flop, so it holds no design with registers")
    if library.matching(7, inputs=2) is None and library.matching(1, inputs=2) is None:
        raise InputError(f"liberty file {library.path} has neither a NAND nor a NOR of two inputs")
    if library.matching(1, inputs=1) is None:
        raise InputError(f"liberty file {library.path} has no inverter")


def cell_map(library: Library) -> str:
    """Return the Verilog that turns each generic cell into the library's, or into logic if it has none."""
    modules = []
    for name, (inputs, functions) in FUNCTIONS.items():
        tables = [
            sum(function(*(index >> place & 1 for place in range(inputs))) << index for index in range(1 << inputs))
            for function in functions
        ]
        found = library.matching(*tables, inputs=inputs)
        if name == "NOMUL_BUF" and library.buffers:
            found = (library.buffers[0], library.buffers[0].inputs, library.buffers[0].outputs)
        if found is None:
            modules.append(cell_models(name))
            continue
        cell, pins, outputs = found
        ports = GENERIC_CELLS[name]
        links = ", ".join(f".{pin}({port})" for pin, port in zip((*pins, *outputs), ports, strict=True))
        declared = ", ".join(f"{'input' if index < inputs else 'output'} {port}" for index, port in enumerate(ports))
        modules.append(f"module {name} ({declared});\n  {cell.name} _TECHMAP_REPLACE_ ({links});\nendmodule\n")
    return "\n".join(modules)


def _enable_map() -> str:
    """Return the Verilog that turns enabled flip-flops with synchronous reset into enabled ones without.

    Those of one enable and reset then share a clock gate; a bit costs one AND or OR for its reset.
    """
    modules = []
    for kind, reset, value, enable in itertools.product(("SDFFE", "SDFFCE"), "PN", "01", "PN"):
        on, clear = ("E" if enable == "P" else "~E"), ("R" if reset == "P" else "~R")
        either = on if kind == "SDFFCE" else f"({on}) | ({clear})"
        modules.append(
            f"module \\$_{kind}_P{reset}{value}{enable}_ (input D, input C, input R, input E, output Q);\n"
            f"  \\$_DFFE_PP_ _TECHMAP_REPLACE_ (.D({clear} ? 1'b{value} : D), .C(C), .E({either}), .Q(Q));\n"
            "endmodule\n"
        )
    return "\n".join(modules)


def memories(text: str) -> tuple[list[MemoryMacro], list[str]]:
    """Return the memories of an RTLIL text that are macros, and the names of those that are not."""
    macros, small = [], []
    for name, body in MEMORY.findall(text):
        values = dict(PARAMETER.findall(body))
        words, width, reads, writes = (int(values[key]) for key in ("SIZE", "WIDTH", "RD_PORTS", "WR_PORTS"))
        if words * width > MACRO_BITS and writes:
            clocked = values["RD_CLK_ENABLE"].partition("'")[2]
            macros.append(MemoryMacro(name.lstrip("\\$"), words, width, reads, writes, "0" in clocked))
        else:
            small.append(name)
    return macros, small


def _coarse_script(top: str, rtlil: bool) -> str:
    return "\n".join(
        [
            "read_rtlil design" if rtlil else "read_verilog -sv design",
            "read_verilog -lib -overwrite cells.v",
            f"hierarchy -check -top {top}",
            "proc",
            "flatten",
            "opt_clean",
            "check -nolatches -force-detailed-loop-check -assert",
            "synth -flatten -run coarse:fine",
            "delete =A:blackbox",
            "write_rtlil coarse.il",
            "",
        ]
    )


def _fine_script(library: Library, clock_ns: float | None, gating: bool) -> str:
    """Return the second script; `@small@` stands for the memories that become flip-flops."""
    unusable = [cell.name for cell in library.cells.values() if not cell.usable]
    enabled = [
        cell.name
        for cell in library.kind("flip-flop")
        if not re.fullmatch(r"[!(\s]*\w+[)'\s]*", cell.state.get("next_state", ""))
    ]
    avoid = " ".join(f"-dont_use {name}" for name in (*unusable, *enabled))
    gates = gating and bool(library.kind("clock gate"))
    return "\n".join(
        [
            "read_rtlil coarse.il",
            "read_verilog -lib -overwrite cells.v",
            "read_liberty -lib -ignore_miss_func cells.lib",
            "opt -fast -full",
            "@small@",
            "setattr -unset init w:*",
            "opt -undriven -fine",
            "techmap -map map.v",
            "techmap",
            "opt",
            "techmap -map enables.v",
            "simplemap",
            "dfflegalize -cell $_DFF_P_ x -cell $_DFFE_PP_ x -cell $_DFF_PP?_ x -cell $_DFF_PN?_ x",
            "opt -nodffe -nosdff",
            *([f"clockgate -liberty cells.lib -min_net_size {GATED} {avoid}"] if gates else []),
            f"dfflibmap -liberty cells.lib {avoid}",
            "opt -fast -nodffe -nosdff",
            f"abc -liberty cells.lib {avoid}" + (f" -D {max(1, round(clock_ns * 1000))}" if clock_ns else ""),
            "opt_clean -purge",
            "check -nolatches -assert",
            "write_json netlist.json",
            "",
        ]
    )


def _check(module: dict[str, Any], top: str, library: Library) -> None:
    types = Counter(cell["type"] for cell in module["cells"].values())
    latches = sorted(
        name
        for name in types
        if "DLATCH" in name.upper() or (name in library.cells and library.cells[name].kind == "latch")
    )
    if latches:
        raise ToolError(f"mapping of {top} to {library.name} left latches ({', '.join(latches)}); make them registers")
    unknown = sorted(name for name in types if name not in library.cells and not name.startswith("$mem"))
    if unknown:
        raise ToolError(f"mapping of {top} left cells that {library.name} does not have: {', '.join(unknown)}")
    if not types:
        raise ToolError(
            f"mapping of {top} to {library.name} left no cells at all; its outputs are constants or its own inputs"
        )


def _compact(module: dict[str, Any]) -> dict[str, Any]:
    """Return a module of Yosys' JSON without attributes, scope marks and what is not connectivity."""
    return {
        "ports": module["ports"],
        "cells": {
            name: {"type": cell["type"], "connections": cell["connections"]}
            | ({"directions": cell["port_directions"]} if cell["type"].startswith("$") else {})
            for name, cell in module["cells"].items()
            if cell["type"] != "$scopeinfo"
        },
        "names": {name: net["bits"] for name, net in module["netnames"].items() if not net.get("hide_name")},
    }
