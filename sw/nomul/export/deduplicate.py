"""Merges the modules of Amaranth's RTLIL that are equal up to names, and names what is left.

Amaranth emits one module per instance: thirty tables of sixteen rows become five hundred modules that differ only in
their names. Here modules that are equal up to names are merged, from the leaves up, so that the text shrinks to what a
person would have written: a simulator compiles it faster and a reader can follow it. Two instances stay apart when
Amaranth itself made them differ, for example by moving a constant input of one of them inside. A module that was
elaborated by itself (`nomul.shared_module`) loses the inputs that it does nothing with, and those that are one
constant for all its instances move inside.

Names follow from names alone, never from the machine, the folder or the order of a dictionary:

* a module is `TOP__LEAF`, where LEAF is its instance's name without its number (`tlmm.table_3.row_11` becomes
  `tlmm__row`), so that designs of different names share none; modules of that name that are not identical are
  numbered `tlmm__row_1`, `tlmm__row_2`;
* wires, memories and instances get valid Verilog identifiers; ports of the top module keep their names;
* `src` and other bookkeeping attributes go, attributes that mean something to a tool (`keep`, `ram_style`) stay;
* aliases (a named wire that nothing reads) go, and so does the mark of a signed wire: what an operator does with its
  operands is written at the operator.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["merge"]

TOKEN = re.compile(r"(?<!\S)[\\$][^\s]+")
MODULE = re.compile(r"module (\S+)")
WIRE = re.compile(r"  wire width (\d+) (?:(input|output|inout) \d+ +)?(?:signed )?(\S+)")
CELL = re.compile(r"  cell (\S+) (\S+)")
NAMED = re.compile(r"  (?:cell \S+|memory width \d+ size \d+|process) (\S+)")
MEMID = re.compile(r'    parameter \\MEMID "\\(\\\S+)"')
PORT = re.compile(r"    connect (\S+) (.*)")
CONSTANT_BITS = re.compile(r"\d+'[01]+")
ALIAS = re.compile(r"connect (\S+) (.*)")
IGNORED = re.compile(r"\s*attribute \\(src|generator|enum_\S*|amaranth\.\S*) ")


@dataclass(frozen=True)
class Wire:
    """A wire as declared: its width, its direction (None for an inner wire) and its attribute lines."""

    width: int
    direction: str | None
    attributes: list[str]


@dataclass
class Module:
    """A module as Amaranth printed it: the wires by name, and every other line in order."""

    name: str
    attributes: list[str]
    wires: dict[str, Wire] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        """The type of each cell."""
        return [found[1] for line in self.lines if (found := CELL.fullmatch(line))]

    @property
    def names(self) -> list[str]:
        """The names of all wires, then of all cells, memories and processes: one name space in RTLIL as in Verilog."""
        return [*self.wires, *(found[1] for line in self.lines if (found := NAMED.fullmatch(line)))]


@dataclass(frozen=True)
class Link:
    """What an instance of a module becomes: the merged module's name, and its ports by their original names."""

    name: str
    ports: dict[str, str]


def merge(
    text: str, port_order: Sequence[str] = (), port_attributes: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Merge the modules of Amaranth's RTLIL `text` that are equal up to names; see the module's docstring for names.

    Two modules are equal when their text is, after every wire has been replaced by the number of its declaration and
    every instance by one of the module that its own was merged into. The ports of the top module come in `port_order`,
    those that it does not name last; `clk` and `rst` come first in every module. Ports of the top module get the texts
    among their `port_attributes`: Amaranth gives all ports of one value, such as a constant, those of the last.
    """
    modules = {module.name: module for module in _parse(text)}
    top = next(iter(modules))
    _set_attributes(modules[top], port_attributes or {})
    names_of_modules = _module_names(modules, top)
    _move_constants(modules)
    links: dict[str, Link] = {}
    kept: dict[str, Link] = {}  # by canonical text; the ports are those of the module that was kept
    written: list[str] = []
    taken = Counter([_identifier(top)])

    def visit(module: Module) -> None:
        for child in module.cells:
            if child in modules and child not in links:
                visit(modules[child])
        _drop_connections(module, links)
        _drop_aliases(module)
        unused = _unused_inputs(module)
        if module.name == top:
            # Ports of the signature stay. One clock is there for instances that turned out to need none.
            unused = {"\\clk", "\\rst"} - {"\\" + port for port in port_order} if "\\clk" in unused else set()
        module.wires = {name: wire for name, wire in module.wires.items() if name not in unused}
        numbers = {name: f"%{number}" for number, name in enumerate(module.names)}
        canonical = "\n".join(_render(module, numbers, links, list(module.wires)))
        if canonical not in kept:
            is_top = module.name == top
            name = _identifier(top) if is_top else _unique(names_of_modules[module.name], taken)
            names = _identifiers(module)
            first = ["\\clk", "\\rst", *("\\" + port for port in port_order if is_top)]
            order = sorted(module.wires, key=lambda wire: first.index(wire) if wire in first else len(first))
            body = _render(module, names, links, order)
            attributes = [line for line in module.attributes if is_top or line != "attribute \\top 1"]
            written.append("\n".join([*attributes, f"module \\{name}", *body, "end\n"]))
            kept[canonical] = Link(name, {numbers[wire]: names[wire] for wire in module.wires})
        survivor = kept[canonical]
        ports = [wire for wire, declared in module.wires.items() if declared.direction]
        links[module.name] = Link(survivor.name, {wire: survivor.ports[numbers[wire]] for wire in ports})

    visit(modules[top])
    return "\n".join(reversed(written))


def _parse(text: str) -> list[Module]:
    """Split RTLIL text into modules, without the attributes that only say where something came from."""
    modules: list[Module] = []
    pending: list[str] = []  # attributes of whatever comes next
    module: Module | None = None
    for line in text.splitlines():
        if not line or IGNORED.match(line):
            continue
        if line.lstrip().startswith("attribute "):
            pending.append(line)
            continue
        if module is None:
            if found := MODULE.match(line):
                module = Module(found[1], pending)
                modules.append(module)
        elif line == "end":
            module = None
        elif found := WIRE.fullmatch(line):
            module.wires[found[3]] = Wire(int(found[1]), found[2], pending)
        else:
            module.lines += [*pending, line]
        pending = []
    return modules


def _set_attributes(module: Module, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the attributes of ports whose values are texts."""
    texts = {
        port: {name: value for name, value in given.items() if isinstance(value, str)}
        for port, given in attributes.items()
    }
    names = {name for given in texts.values() for name in given}
    for port, given in texts.items():
        if wire := module.wires.get(f"\\{port}"):
            kept = [line for line in wire.attributes if line.split()[1].removeprefix("\\") not in names]
            quoted = [f"  attribute \\{name} {json.dumps(text)}" for name, text in given.items()]
            module.wires[f"\\{port}"] = replace(wire, attributes=[*kept, *quoted])


def _move_constants(modules: Mapping[str, Module]) -> None:
    """Move inputs that are the same constant for all instances of a module inside, as Amaranth does for one instance.

    A module that is mapped by itself would have logic for them.
    """
    given: dict[tuple[str, str], set[str]] = {}
    for module in modules.values():
        cell = ""
        for line in module.lines:
            if found := CELL.fullmatch(line):
                cell = found[1]
            elif cell in modules and (found := PORT.fullmatch(line)):
                given.setdefault((cell, found[1]), set()).add(found[2])
    for (name, port), values in given.items():
        wire = modules[name].wires.get(port)  # none for the clock of a module without registers
        if wire and len(values) == 1 and wire.direction == "input" and CONSTANT_BITS.fullmatch(value := values.pop()):
            modules[name].wires[port] = replace(wire, direction=None)
            modules[name].lines.append(f"  connect {port} {value}")


def _drop_connections(module: Module, links: Mapping[str, Link]) -> None:
    """Remove the connections of instances to ports that their module has lost."""
    kept = []
    link: Link | None = None
    for line in module.lines:
        if found := CELL.fullmatch(line):
            link = links.get(found[1])
        elif link and (found := PORT.fullmatch(line)) and found[1] not in link.ports:
            continue
        kept.append(line)
    module.lines = kept


def _unused_inputs(module: Module) -> set[str]:
    """Return the inputs that a module does nothing with; Amaranth gives such to a module that it takes for a top."""
    used = {token for line in module.lines for token in TOKEN.findall(PORT.sub(r"\2", line))}
    return {name for name, wire in module.wires.items() if wire.direction == "input" and name not in used}


def _drop_aliases(module: Module) -> None:
    """Remove the inner wires that nothing reads, and the connections that drive them."""
    uses = Counter[str]()
    aliases: dict[str, str] = {}  # alias -> what drives it
    for line in module.lines:
        if found := ALIAS.fullmatch(line):
            aliases[found[1]] = found[2]
        uses.update(TOKEN.findall(found[2] if (found := found or PORT.fullmatch(line)) else line))

    def removable(name: str) -> bool:
        wire = module.wires[name]
        kept = any("\\keep " in line for line in wire.attributes)
        return wire.direction is None and not kept and not uses[name]

    waiting = [name for name in module.wires if removable(name)]
    dropped = set()
    while waiting:
        name = waiting.pop()
        dropped.add(name)
        for source in TOKEN.findall(aliases.get(name, "")):
            uses[source] -= 1
            if source in module.wires and source not in dropped and removable(source):
                waiting.append(source)
    for name in dropped:
        del module.wires[name]
    module.lines = [line for line in module.lines if not ((found := ALIAS.fullmatch(line)) and found[1] in dropped)]


def _render(module: Module, names: dict[str, str], links: dict[str, Link], order: Sequence[str]) -> Iterator[str]:
    """Print a module's inside with its wires renamed, its instances linked, and its wires declared in `order`."""
    port = 0
    for name in order:
        wire = module.wires[name]
        yield from wire.attributes
        port += wire.direction is not None
        direction = f"{wire.direction} {port} " if wire.direction else ""
        yield f"  wire width {wire.width} {direction}{names[name]}"

    def renamed(found: re.Match[str]) -> str:
        return names.get(found[0], found[0])

    link: Link | None = None
    for line in module.lines:
        if found := CELL.fullmatch(line):
            link = links.get(found[1])
            yield f"  cell {chr(92) + link.name if link else found[1]} {names[found[2]]}"
        elif found := PORT.fullmatch(line):
            yield f"    connect {link.ports[found[1]] if link else found[1]} {TOKEN.sub(renamed, found[2])}"
        elif found := MEMID.fullmatch(line):
            yield f'    parameter \\MEMID "\\{names[found[1]]}"'
        elif line.startswith("    parameter "):
            yield line
        else:
            yield TOKEN.sub(renamed, line)


def _identifiers(module: Module) -> dict[str, str]:
    """Give every name of a module that a person chose a Verilog identifier, and the others a number."""
    taken = Counter[str]()
    ports = [name for name, wire in module.wires.items() if wire.direction]
    names = {}
    for index, name in enumerate(dict.fromkeys([*ports, *module.names])):
        names[name] = f"${index}" if name.startswith("$") else "\\" + _unique(_identifier(name), taken)
    return names


def _module_names(modules: Mapping[str, Module], top: str) -> dict[str, str]:
    """Turn the names of modules' first instances into their own: that of `table_3.row_11` in `tlmm` is `tlmm__row`.

    A number without `_` before it goes only where there are several of its kind: `row0` and `row1`, but not `int8`.
    """
    called: dict[str, str] = {}
    leaves = set()
    for module in modules.values():
        for line in module.lines:
            if (found := CELL.fullmatch(line)) and found[1] in modules:
                called.setdefault(found[1], found[2])
                leaves.add(found[2])
    kinds = Counter(leaf.rstrip("0123456789") for leaf in leaves)
    names = {}
    for path, leaf in called.items():
        stem = leaf.rstrip("0123456789")
        if stem != leaf and (stem[-1] in "_$" or kinds[stem] > 1):
            leaf = stem.rstrip("_$") if len(stem.rstrip("_$")) > 1 else leaf
        names[path] = f"{_identifier(top)}__{_identifier(leaf)}"
    return names


def _identifier(name: str) -> str:
    """Turn an RTLIL name into a Verilog identifier: `\\payload$3[1].a` becomes `payload_3_1_a`."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name.removeprefix("\\").rstrip("]"))
    return plain if not plain[:1].isdigit() else f"_{plain}"


def _unique(name: str, taken: Counter[str]) -> str:
    """Return `name`, numbered if it has been given out before."""
    candidate = name
    while taken[candidate]:
        candidate = f"{name}_{taken[name]}"
        taken[name] += 1
    taken[candidate] += 1
    return candidate
