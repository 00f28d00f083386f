"""A mapped netlist as a graph of gates that timing repair can change, and its structural Verilog.

Nets are the bit numbers of Yosys' JSON. Memory macros are cut out: their outputs become inputs of the netlist and their
inputs outputs of it, so that timing analysis needs no model of them.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

from nomul.asic.cell_mapping import Mapped
from nomul.asic.liberty import Cell, Library

Net = int | str
"""A net's number, or one of the constants "0", "1", "x"."""


@dataclass
class Gate:
    """An instance: its cell and the net at each pin."""

    cell: Cell
    pins: dict[str, Net]


@dataclass
class Gates:
    """A netlist of library cells.

    `gates` are by name; `inputs` and `outputs` the ports' nets by bit name, `macro_inputs` and `macro_outputs` those at
    memory macros, as the netlist sees them (`macro_inputs` are driven by macros). `names` are the designer's names of
    nets, where there are any.
    """

    top: str
    library: Library
    gates: dict[str, Gate]
    inputs: dict[str, Net]
    outputs: dict[str, Net]
    macro_inputs: dict[str, Net]
    macro_outputs: dict[str, Net]
    clock: Net | None
    names: dict[Net, str]
    ports: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Direction and width of each port of the design."""
    macros: list[dict[str, list[str]]] = field(default_factory=list)
    """For each memory macro, what its ports' bits are: ports of the netlist, or the constants 0 and 1."""
    drivers: dict[Net, tuple[str, str]] = field(default_factory=dict)
    readers: dict[Net, list[tuple[str, str]]] = field(default_factory=dict)
    last: int = 0

    def __post_init__(self) -> None:
        for name, gate in self.gates.items():
            self._link(name, gate)
        nets = (*self.drivers, *self.readers, *self.inputs.values(), *self.macro_inputs.values())
        self.last = max((net for net in nets if isinstance(net, int)), default=1)

    def _link(self, name: str, gate: Gate) -> None:
        for pin, net in gate.pins.items():
            if pin in gate.cell.outputs:
                self.drivers[net] = (name, pin)
            else:
                self.readers.setdefault(net, []).append((name, pin))

    @property
    def cells(self) -> Counter[str]:
        """The number of cells of each type."""
        return Counter(gate.cell.name for gate in self.gates.values())

    @property
    def area(self) -> float:
        """The area of all cells, in the library's unit."""
        return sum(gate.cell.area for gate in self.gates.values())

    def load(self, net: Net) -> float:
        """Return the capacitance of the pins that a net drives and of its wires, in the library's unit."""
        readers = self.readers.get(net, ())
        wires = self.library.wires.load(len(readers)) if self.library.wires and readers else 0.0
        return sum(self.gates[name].cell.loads.get(pin, 0.0) for name, pin in readers) + wires

    def clock_nets(self) -> set[Net]:
        """Return the nets that carry the clock: its port's, and the outputs of clock gates."""
        gated = {
            gate.pins[pin]
            for gate in self.gates.values()
            if gate.cell.kind == "clock gate"
            for pin in gate.cell.outputs
            if pin in gate.pins
        }
        return gated if self.clock is None else gated | {self.clock}

    def buffer(self, net: Net, sinks: list[tuple[str, str]], cell: Cell) -> str:
        """Move readers of a net behind a new buffer; return its name."""
        self.last += 1
        new = self.last
        name = f"fanout{new}"
        for sink, pin in sinks:
            self.gates[sink].pins[pin] = new
        moved = set(sinks)
        self.readers[net] = [sink for sink in self.readers[net] if sink not in moved]
        self.gates[name] = Gate(cell, {cell.inputs[0]: net, cell.outputs[0]: new})
        self._link(name, self.gates[name])
        self.readers[new] = list(sinks)
        return name

    def copy(self) -> "Gates":
        """Return a netlist that changes independently of this one."""
        gates = {name: Gate(gate.cell, dict(gate.pins)) for name, gate in self.gates.items()}
        return replace(self, gates=gates, drivers={}, readers={})

    def verilog(self) -> str:
        """Return the netlist as structural Verilog; gates are called g0, g1 ... in the order of `gates`."""
        inputs, outputs = self.inputs | self.macro_inputs, self.outputs | self.macro_outputs
        ports = [*inputs, *outputs]
        lines = [f"module {self.top} ({', '.join(ports)});"]
        lines += [f"  input {name};" for name in inputs] + [f"  output {name};" for name in outputs]
        nets = dict.fromkeys(net for gate in self.gates.values() for net in gate.pins.values() if isinstance(net, int))
        nets |= dict.fromkeys(net for net in (*inputs.values(), *outputs.values()) if isinstance(net, int))
        lines += [f"  wire n{net};" for net in nets]
        lines += [f"  assign n{net} = {name};" for name, net in inputs.items() if isinstance(net, int)]
        lines += [f"  assign {name} = {_text(net)};" for name, net in outputs.items()]
        for index, gate in enumerate(self.gates.values()):
            pins = ", ".join(f".{pin}({_text(net)})" for pin, net in gate.pins.items())
            lines.append(f"  {gate.cell.name} g{index} ({pins});")
        return "\n".join([*lines, "endmodule", ""])


def _text(net: Net) -> str:
    return f"n{net}" if isinstance(net, int) else f"1'b{'1' if net == '1' else '0'}"


def gates_of(mapped: Mapped, library: Library) -> Gates:
    """Return the netlist of a mapped design."""
    module = mapped.module
    inputs: dict[str, Net] = {}
    outputs: dict[str, Net] = {}
    for port, entry in module["ports"].items():
        bits = entry["bits"]
        side = inputs if entry["direction"] == "input" else outputs
        for index, bit in enumerate(bits):
            side[port if len(bits) == 1 else f"{port}_{index}_"] = bit
    gates: dict[str, Gate] = {}
    macro_inputs: dict[str, Net] = {}
    macro_outputs: dict[str, Net] = {}
    macros: list[dict[str, list[str]]] = []
    for name, cell in module["cells"].items():
        if cell["type"] in library.cells:
            kind = library.cells[cell["type"]]
            pins = {pin: bits[0] for pin, bits in cell["connections"].items() if bits}
            gates[name] = Gate(kind, pins)
            continue
        number = len(macro_inputs) + len(macro_outputs)
        macros.append({})
        for port, bits in cell["connections"].items():
            if "CLK" in port:
                continue
            macros[-1][port] = [f"macro{number}_{port}_{bit}" if isinstance(bit, int) else str(bit) for bit in bits]
            for bit in dict.fromkeys(bit for bit in bits if isinstance(bit, int)):
                side = macro_inputs if cell["directions"].get(port) == "output" else macro_outputs
                side[f"macro{number}_{port}_{bit}"] = bit
    names = {
        bit: f"{name}[{index}]" if len(bits) > 1 else name
        for name, bits in module["names"].items()
        for index, bit in enumerate(bits)
    }
    clocks = Counter(
        gate.pins[pin]
        for gate in gates.values()
        for pin in gate.cell.inputs
        if gate.cell.kind in ("flip-flop", "clock gate") and pin == _clock_pin(gate.cell)
    )
    roots = [net for net in clocks if net in inputs.values()]
    clock = max(roots, key=lambda net: clocks[net]) if roots else None
    ports = {port: (entry["direction"], len(entry["bits"])) for port, entry in module["ports"].items()}
    return Gates(mapped.top, library, gates, inputs, outputs, macro_inputs, macro_outputs, clock, names, ports, macros)


def _clock_pin(cell: Cell) -> str:
    if cell.kind == "clock gate":
        return cell.state.get("clock", "")
    return cell.state.get("clocked_on", "").strip("!'() ")
