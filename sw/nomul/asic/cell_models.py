"""Verilog that simulates a netlist of standard cells: its cells' functions, its memory macros, its ports as vectors.

Zero delay: what is checked is function, and what is counted is the toggles that a settled netlist makes; glitches are
not in it. A clock gate is a latch that is open while the clock is low, and an and.
"""

from nomul.asic.asic_flow import Implementation
from nomul.asic.cell_mapping import MemoryMacro
from nomul.asic.liberty import Cell, Library, as_verilog, parse_function
from nomul.errors import ToolError

__all__ = ["INSTANCE", "gate_model"]

NETLIST = "netlist"
"""Name of the netlist's module inside the model."""

INSTANCE = "gates"
"""Name of its instance."""


def gate_model(found: Implementation, library: Library, top: str) -> str:
    """Return Verilog whose module `top` has the design's ports and is made of the netlist and its cells.

    Raises
    ------
    ToolError
        If a cell or a macro is of a kind that the model does not cover.
    """
    used = [library.cells[name] for name in found.cells]
    netlist = found.verilog.replace(f"module {top} (", f"module {NETLIST} (", 1)
    return "\n".join([_top(found, top), netlist, *(_cell(cell) for cell in used)])


def _cell(cell: Cell) -> str:
    """Return the module of a cell."""
    lines = [f"module {cell.name} ({', '.join((*cell.inputs, *cell.outputs))});"]
    lines += [f"  input {pin};" for pin in cell.inputs] + [f"  output {pin};" for pin in cell.outputs]
    if cell.kind == "logic":
        lines += [f"  assign {pin} = {as_verilog(cell.functions[pin])};" for pin in cell.outputs]
    elif cell.kind == "flip-flop":
        iq, iqn = cell.state["iq"], cell.state["iqn"]
        clock = cell.state["clocked_on"].strip()
        edge = (
            f"negedge {clock.strip(chr(33) + chr(39))}" if clock[0] == "!" or clock[-1] == "'" else f"posedge {clock}"
        )
        lines += [f"  reg {iq};", f"  wire {iqn} = ~{iq};"] if iqn else [f"  reg {iq};"]
        resets = [(name, value) for name, value in (("clear", 0), ("preset", 1)) if name in cell.state]
        lines += [f"  wire {name} = {as_verilog(parse_function(cell.state[name]))};" for name, _ in resets]
        edges = " or ".join([edge, *(f"posedge {name}" for name, _ in resets)])
        chain = "".join(f"if ({name}) {iq} <= 1'b{value}; else " for name, value in resets)
        lines.append(f"  always @({edges}) {chain}{iq} <= {as_verilog(parse_function(cell.state['next_state']))};")
        lines += [f"  assign {pin} = {as_verilog(cell.functions[pin])};" for pin in cell.outputs]
    elif cell.kind == "clock gate":
        clock, enable = cell.state["clock"], cell.state["enable"]
        (output,) = cell.outputs
        others = [pin for pin in cell.inputs if pin not in (clock, enable)]
        enables = " | ".join([enable, *others])
        lines += ["  reg open;", f"  always @* if (~{clock}) open = {enables};", f"  assign {output} = {clock} & open;"]
    else:
        raise ToolError(f"cell {cell.name} ({cell.kind}) has no model to simulate it by")
    return "\n".join([*lines, "endmodule", ""])


def _top(found: Implementation, top: str) -> str:
    """Return the module that joins the netlist and the macros."""
    lines = [f"module {top} ({', '.join(found.ports)});"]
    links: list[str] = []
    for name, (direction, width) in found.ports.items():
        lines.append(f"  {direction} {f'[{width - 1}:0] ' if width > 1 else ''}{name};")
        links += [f".{name}({name})" if width == 1 else f".{name}_{index}_({name}[{index}])" for index in range(width)]
    pins = dict.fromkeys(bit for macro in found.macros for bits in macro.values() for bit in bits if len(bit) > 1)
    lines += [f"  wire {pin};" for pin in pins]
    links += [f".{pin}({pin})" for pin in pins]
    for number, (macro, memory) in enumerate(zip(found.macros, found.memories, strict=True)):
        lines += _memory(f"memory{number}", macro, memory)
    return "\n".join([*lines, f"  {NETLIST} {INSTANCE} ({', '.join(links)});", "endmodule", ""])


def _memory(name: str, macro: dict[str, list[str]], memory: MemoryMacro) -> list[str]:
    """Return the behaviour of a macro; a read in the cycle of a write to the same word gives the old one."""

    def vector(port: str, index: int, count: int) -> list[str]:
        bits = macro[port]
        size = len(bits) // count
        return bits[index * size : (index + 1) * size]

    def value(bits: list[str]) -> str:
        return "{" + ", ".join(bit if len(bit) > 1 else f"1'b{bit if bit in '01' else 0}" for bit in bits[::-1]) + "}"

    lines = [f"  reg [{memory.width - 1}:0] {name} [0:{memory.words - 1}];"]
    for index in range(memory.reads):
        address = value(vector("RD_ADDR", index, memory.reads))
        data = value(vector("RD_DATA", index, memory.reads))
        if memory.asynchronous:
            lines.append(f"  assign {data} = {name}[{address}];")
            continue
        enable = value(vector("RD_EN", index, memory.reads))
        lines += [
            f"  reg [{memory.width - 1}:0] {name}_q{index};",
            f"  always @(posedge clk) if ({enable}) {name}_q{index} <= {name}[{address}];",
            f"  assign {data} = {name}_q{index};",
        ]
    for index in range(memory.writes):
        address = value(vector("WR_ADDR", index, memory.writes))
        data, mask = (value(vector(port, index, memory.writes)) for port in ("WR_DATA", "WR_EN"))
        word = f"{name}[{address}]"
        lines.append(f"  always @(posedge clk) if (|{mask}) {word} <= ({data} & {mask}) | ({word} & ~{mask});")
    return lines
