"""The head of a Verilog file that is given to a user: what it is, how it was made, and what its ports mean.

It says nothing of the day, the folder or the machine, so that the same command writes the same file. Verilator is told
there which of its warnings are not meant for generated text; all others find nothing (tests/test_lint.py).
"""

import re
import shlex
import textwrap
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import click

from nomul.errors import InputError

__all__ = ["LINT_OFF", "check_name", "command_line", "with_heading"]

LINT_OFF = {
    "DECLFILENAME": "a file holds a design, of several modules",
    "PROCASSINIT": "registers have a value before the first reset, as in an FPGA",
    "UNUSEDSIGNAL": "of a sum or a port, not every bit is of use everywhere",
    "CMPCONST": "a limit may be the largest number that its field can hold",
    "VARHIDDEN": "an instance may be called what a signal inside is called",
}
"""What Verilator is not to look for in printed Verilog, and why."""

PRIMITIVES_LINT_OFF = {"PINMISSING": "of a primitive, pins that are not needed are left open"}
"""The same, for text that instantiates such primitives: carry chains of ECP5, distributed memory of AMD parts."""

PRIMITIVES = re.compile(r"\b(?:CCU2C|RAM32M|RAM32M16)\b")

SIDE_OPTIONS = ("output", "as_json", "bench", "schema", "vendor", "library", "ip_version")
"""Parameters of commands that change nothing in the Verilog."""

KEYWORDS = (
    "always and assign automatic begin bit buf bufif0 bufif1 byte case casex casez cell class cmos config const "
    "deassign default defparam design disable do edge else end endcase endconfig endfunction endgenerate endmodule "
    "endprimitive endspecify endtable endtask enum event export extern final for force forever fork function generate "
    "genvar highz0 highz1 if ifnone import incdir include initial inout input instance int integer interface join "
    "large liblist library localparam logic longint macromodule medium modport module nand negedge new nmos nor "
    "noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority "
    "program property pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg "
    "release repeat return rnmos rpmos rtran rtranif0 rtranif1 scalared sequence shortint shortreal showcancelled "
    "signed small specify specparam static string strong0 strong1 struct super supply0 supply1 table task this time "
    "tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union unique unsigned use var vectored "
    "virtual void wait wand weak0 weak1 while wire with wor xnor xor"
)
"""Words of Verilog and SystemVerilog that no module can be called."""


def check_name(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """Return the name that a user gives to a top module; refuse what is none, or could be that of an inner module."""
    if name is not None and (
        not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "__" in name or name in KEYWORDS.split()
    ):
        raise InputError(f"--name is {name!r}; allowed: letters, digits and '_', no digit first, no '__', no keyword")
    return name


def command_line() -> str:
    """Return the command that is running, without what changes nothing in its files; nothing if there is none.

    Files are named without their folders.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return ""
    words = ["nomul", *context.command_path.split()[1:]]
    given = click.core.ParameterSource.COMMANDLINE
    options: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in SIDE_OPTIONS or context.get_parameter_source(name) is not given:
            continue
        value = context.params.get(name)
        values = value if isinstance(value, tuple) else (value,)
        for word in (getattr(value, "name", str(value)) for value in values):
            options += [] if isinstance(parameter, click.Argument) else [parameter.opts[0]]
            options += [] if value is True else [word]
    return shlex.join([*words, *options])


def with_heading(text: str, manifest: Mapping[str, Any]) -> str:
    """Return a design's Verilog with a comment before it that says what its manifest says."""
    versions = {"Nomul": "nomul", "Amaranth": "amaranth", "Yosys": "pyosys"}
    made = ", ".join(f"{name} {version(package)}" for name, package in versions.items())
    command = command_line()
    lines = [
        f"{manifest['top']}: {manifest['summary']}",
        "",
        "SPDX-License-Identifier: Apache-2.0",
        f"Generator: {made}",
        *(_wrapped("Command: ", command) if command else []),
        *_wrapped("Configuration: ", ", ".join(f"{name}={value}" for name, value in _flat(manifest["config"]))),
        "",
        "Ports:",
    ]
    widest = max(len(name) for name in manifest["ports"])
    for name, port in manifest["ports"].items():
        size = f"[{port['width'] - 1}:0]" if port["width"] > 1 else ""
        lines.append(f"  {port['direction']:6} {size:>9} {name:{widest}}  {port['meaning']}")
    off = LINT_OFF | (PRIMITIVES_LINT_OFF if PRIMITIVES.search(text) else {})
    lint = [f"/* verilator lint_off {name} */  // {reason}" for name, reason in off.items()]
    comment = [f"// {line}".rstrip() for line in lines]
    return "\n".join([*comment, "", "/* verilator lint_save */", *lint, "", text, "/* verilator lint_restore */", ""])


def _flat(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the fields of a configuration, those of one inside another with its name before theirs."""
    fields: list[tuple[str, Any]] = []
    for name, value in config.items():
        inside = _flat(value) if isinstance(value, Mapping) else []
        fields += [(f"{name}.{field}", inner) for field, inner in inside] or [(name, value)]
    return fields


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
