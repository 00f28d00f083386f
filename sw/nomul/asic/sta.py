"""Static timing of a netlist of library cells with OpenSTA, and the path that limits the clock.

Assumptions, the same for every design: an ideal clock (no skew, no insertion delay, sharp edges); wires as the
library's default wire-load model has them, and none if it has no such model; a memory macro's outputs come
`MACRO_SHARE` of a clock period after the edge and its inputs must be there as long before it;
an input of the design comes with the clock edge from the library's smallest buffer, and an output may take the whole
period to reach another. The critical path is the slowest from register to register, macros counted as registers, with
the clock-to-output and set-up times of both; paths from inputs and to outputs are repaired but not counted in it.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nomul.asic.netlist import Gates, Net
from nomul.errors import ToolError
from nomul.jobs.tools import program

MACRO_SHARE = 0.2
"""Clock-to-output and set-up time of a memory macro, as a share of the clock period."""

REPORT = "report_checks -path_delay max -fields {capacitance slew input_pins} -digits 5 -format full"
LINE = re.compile(r"^((?:\s+-?[\d.]+)+) ([v^/\\]) (g\d+)/(\S+) \((\S+)\)$")
SLACK = re.compile(r"^\s+(-?[\d.]+)\s+slack \((?:MET|VIOLATED)\)$")


@dataclass(frozen=True)
class PathStep:
    """A gate on a path: its name, the pin, the delay up to it from the gate's input (ns), load and slew there."""

    gate: str
    pin: str
    delay: float
    load: float
    slew: float
    output: bool


@dataclass(frozen=True)
class TimedPath:
    """A path between registers with its slack in ns; ports of macros are named as such."""

    start: str
    end: str
    slack: float
    steps: tuple[PathStep, ...]


def sta_version() -> str | None:
    """Return the name and release of OpenSTA, or None if it is not installed."""
    found = program("sta", "-version")()
    return f"OpenSTA {found}" if found else None


def worst_paths(gates: Gates, clock_ns: float, count: int = 1) -> tuple[TimedPath | None, list[TimedPath]]:
    """Return the critical path, and the slowest path of all kinds to each of the `count` slowest endpoints.

    Paths come slowest first; without a clock there are none.

    Raises
    ------
    ToolError
        If OpenSTA is missing or stops.

    """
    if gates.clock is None:
        return None, []
    with tempfile.TemporaryDirectory(prefix="nomul-sta-") as name:
        folder = Path(name)
        (folder / "cells.lib").write_text(gates.library.text)
        (folder / "netlist.v").write_text(gates.verilog())
        commands = [
            *constraints(gates, clock_ns),
            f"{REPORT} -from clk -to clk",
            "puts #",
            f"{REPORT} -group_count {count}",
        ]
        (folder / "sta.tcl").write_text("\n".join([*commands, "exit", ""]))
        inner, _, every = run_sta(folder).partition("#\n")
    return next(iter(_paths(inner, gates)), None), _paths(every, gates)


def constraints(gates: Gates, clock_ns: float) -> list[str]:
    """Return the Tcl commands that read cells.lib and netlist.v and constrain the netlist as this module says."""
    unit = clock_ns * 1e-9 / gates.library.time_second
    clock = next(name for name, net in gates.inputs.items() if net == gates.clock)
    buffer = gates.library.buffers[0] if gates.library.buffers else None
    lines = [
        "read_liberty cells.lib",
        "read_verilog netlist.v",
        f"link_design {gates.top}",
        f"create_clock -name clk -period {unit:.6g} [get_ports {clock}]",
        f"create_clock -name outside -period {unit:.6g}",
    ]
    if buffer is not None:
        data = " ".join(name for name in gates.inputs if name != clock)
        if data:
            lines.append(f"set_input_delay 0 -clock outside [get_ports {{{data}}}]")
            lines.append(f"set_driving_cell -lib_cell {buffer.name} -pin {buffer.outputs[0]} [get_ports {{{data}}}]")
        ports = " ".join((*gates.outputs, *gates.macro_outputs))
        if ports:
            lines.append(f"set_load {buffer.loads[buffer.inputs[0]]:.6g} [get_ports {{{ports}}}]")
    if gates.outputs:
        lines.append(f"set_output_delay 0 -clock outside [get_ports {{{' '.join(gates.outputs)}}}]")
    for command, ports_of in (("set_input_delay", gates.macro_inputs), ("set_output_delay", gates.macro_outputs)):
        if ports_of:
            lines.append(f"{command} {unit * MACRO_SHARE:.6g} -clock clk [get_ports {{{' '.join(ports_of)}}}]")
    return lines


def run_sta(folder: Path, timeout: float = 600) -> str:
    """Run sta.tcl in a folder with OpenSTA and return what it prints; ToolError if it is missing or stops."""
    try:
        done = subprocess.run(
            ["sta", "-no_splash", "-exit", "sta.tcl"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except OSError:
        raise ToolError("OpenSTA (sta) is not there, or cannot be run; see `nomul doctor`") from None
    except subprocess.TimeoutExpired:
        raise ToolError(f"OpenSTA did not finish within {timeout:g} seconds") from None
    error = next((line for line in done.stdout.splitlines() if line.startswith("Error")), "")
    if error or done.returncode:
        raise ToolError(f"OpenSTA stopped: {error or f'exit code {done.returncode}'}")
    return done.stdout


def _paths(log: str, gates: Gates) -> list[TimedPath]:
    names = list(gates.gates)
    scale = gates.library.time_second / 1e-9
    found: list[TimedPath] = []
    steps: list[PathStep] = []
    ends: list[str] = []
    for line in log.splitlines():
        if line.startswith("Startpoint:"):
            steps, ends = [], [line.split()[1]]
        elif line.startswith("Endpoint:"):
            ends.append(line.split()[1])
        elif match := LINE.match(line):
            numbers = [float(number) for number in match[1].split()]
            if len(ends) < 2 or len(numbers) < 3:
                continue
            gate = names[int(match[3][1:])]
            output = match[4] in gates.gates[gate].cell.outputs
            load = numbers[0] if output and len(numbers) == 4 else 0.0
            steps.append(PathStep(gate, match[4], numbers[-2] * scale, load, numbers[-3] * scale, output))
        elif (match := SLACK.match(line)) and ends:
            start, end = (_point(name, gates, names) for name in ends)
            found.append(TimedPath(start, end, float(match[1]) * scale, tuple(steps)))
            ends = []
    return sorted(found, key=lambda path: path.slack)


def _point(name: str, gates: Gates, names: list[str]) -> str:
    """Return a register's name as the designer knows it: that of its output, or its own."""
    if not re.fullmatch(r"g\d+", name):
        return name
    gate = gates.gates[names[int(name[1:])]]
    nets: list[Net] = [gate.pins[pin] for pin in gate.cell.outputs if pin in gate.pins]
    return next((gates.names[net] for net in nets if net in gates.names), names[int(name[1:])])
