"""Models of FPGAs' primitives for simulation: those of Yosys' library that a design needs, in one text.

The library's own files do not read everywhere: ECP5's include two files twice, and one of its modules has an
elaboration task that Icarus takes as SystemVerilog only.
"""

import re
from pathlib import Path

__all__ = ["primitives"]

LIBRARIES = {"xcup": "xilinx", "xc7": "xilinx", "ecp5": "ecp5", "ice40": "ice40"}
"""Folder of each target's library."""

INCLUDE = re.compile(r'^`include "(\S+)"$', re.MULTILINE)
MODULE = re.compile(r"^module\s+(\w+).*?\bendmodule\b", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"^`(?:timescale|ifn?def|else|endif|define)\b.*$", re.MULTILINE)


def primitives(target: str, verilog: str) -> str:
    """Return the models of the primitives that a design instantiates, and of those that they are made of."""
    if target not in LIBRARIES:
        return ""
    import pyosys

    library = Path(pyosys.__file__).parent / "share" / LIBRARIES[target] / "cells_sim.v"
    text = _included(library)
    modules: dict[str, str] = {}
    for found in MODULE.finditer(text):
        modules.setdefault(found[1], found[0])
    needed: dict[str, str] = {}
    waiting = [verilog]
    while waiting:
        for name in sorted(set(re.findall(r"\w+", waiting.pop())) & modules.keys() - needed.keys()):
            needed[name] = modules[name]
            waiting.append(modules[name])
    # What the text begins with defines the macros that its modules use.
    head = DIRECTIVE.findall(text[: next(MODULE.finditer(text)).start()])
    return "\n".join([*head, *(needed[name] for name in sorted(needed)), ""])


def _included(file: Path) -> str:
    return INCLUDE.sub(lambda found: _included(file.with_name(found[1])), file.read_text())
