"""The placed and routed netlist of an iCE40 board's design, as Verilog that a simulator takes.

nextpnr writes the cells that it placed, with the pins' buffers, the global networks and the constants that it made.
Their models are Yosys' (`ICESTORM_LC`, `ICESTORM_RAM`, `SB_IO`, `SB_GB`); the one that is missing is here. A pin that
is left open is what it is on the chip: enables are one, everything else is zero.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyosys

from nomul.jobs.yosys_run import run_yosys

__all__ = ["routed_verilog"]

ENABLES = ("CEN", "RCLKE", "WCLKE", "CLOCK_ENABLE")
"""Inputs that are one when nothing is connected to them (IceStorm documentation, logic tile and RAM tile)."""

MODULES = ("ICESTORM_LC", "ICESTORM_RAM", "ICESTORM_SPRAM", "SB_GB", "SB_IO")


def spram_model() -> str:
    """Return nextpnr's single-port RAM, made of the vendor's: its pins one by one."""
    buses = {"ADDRESS": 14, "DATAIN": 16, "MASKWREN": 4}
    single = ("WREN", "CHIPSELECT", "CLOCK", "STANDBY", "SLEEP", "POWEROFF")

    def bits(name: str, width: int) -> list[str]:
        return [f"{name}_{bit}" for bit in reversed(range(width))]

    inputs = [pin for name, width in buses.items() for pin in bits(name, width)] + list(single)
    joined = [f".{name}({{{', '.join(bits(name, width))}}})" for name, width in (buses | {"DATAOUT": 16}).items()]
    pins = ", ".join([*joined, *(f".{name}({name})" for name in single)])
    return (
        f"module ICESTORM_SPRAM(input {', '.join(inputs)}, output {', '.join(bits('DATAOUT', 16))});\n"
        f"  SB_SPRAM256KA ram({pins});\nendmodule\n"
    )


def cell_model(module: str) -> str:
    """Return Yosys' model of a cell without its care for open pins, which Verilator takes for buses of three states."""
    library = (Path(pyosys.__file__).parent / "share/ice40/cells_sim.v").read_text()
    found = re.search(rf"^module {module} ?\(.*?^endmodule\n", library, re.MULTILINE | re.DOTALL)
    assert found is not None, f"Yosys has no model of {module}"
    plain = re.sub(r"\((\w+) === 1'bz\) \? 1'b[01] : \1", r"\1", found[0])
    return re.sub(r"(\w+) \|\| \1 === 1'bz", r"\1", plain).replace(" `ICE40_DEFAULT_ASSIGNMENT_1", "")


def routed_verilog(netlist: str, top: str, pins: Mapping[str, tuple[str, bool]], wrapper: str) -> str:
    """Return a routed design behind the ports of the design that it was made of.

    Parameters
    ----------
    netlist : str
        What nextpnr wrote with --write: JSON in the form of Yosys.
    top : str
        The module with the board's pins.
    pins : mapping
        By the board's pin: 'input NAME' or 'output NAME' of the wrapper, NAME with a bit if it has several, and whether
        the pin is its inverse.
    wrapper : str
        Head of the wrapper: 'module NAME(...);'.

    Raises
    ------
    ValueError
        If the netlist has a cell of which there is no model.
    """
    design: dict[str, Any] = json.loads(netlist)
    module = design["modules"][top]
    for name, cell in module["cells"].items():
        # The pad of a clock reaches its global network by a wire of its own, which is no net to nextpnr.
        if cell["type"] == "SB_GB" and not cell["connections"]["USER_SIGNAL_TO_GLOBAL_BUFFER"]:
            pad = module["cells"][name.removeprefix("$gbuf_").removesuffix("_io")]
            cell["connections"]["USER_SIGNAL_TO_GLOBAL_BUFFER"] = pad["connections"]["PACKAGE_PIN"]
    for name, cell in module["cells"].items():
        if cell["type"] not in MODULES:
            raise ValueError(f"cell {name} is a {cell['type']}; there are models of {', '.join(MODULES)}")
        for pin, way in cell["port_directions"].items():
            if way == "input" and not cell["connections"].get(pin):
                cell["connections"][pin] = ["1" if pin in ENABLES else "0"]
    design["modules"] = {top: module}
    script = "read_json in.json\ndelete t:$scopeinfo\nwrite_verilog -noattr -noexpr out.v\n"
    text = run_yosys(script, {"in.json": json.dumps(design)}, ["out.v"]).files["out.v"]
    wires, connections = [], []
    for pin, (port, inverse) in pins.items():
        way, name = port.split()
        sign = "~" if inverse else ""
        wires.append(
            f"  wire {pin};\n  assign " + (f"{pin} = {sign}{name};" if way == "input" else f"{name} = {sign}{pin};")
        )
        connections.append(f".{pin}({pin})")
    body = "\n".join([wrapper, *wires, f"  {top} routed({', '.join(connections)});", "endmodule\n"])
    return "\n".join([body, text, spram_model(), *map(cell_model, ("ICESTORM_LC", "ICESTORM_RAM", "SB_IO"))])
