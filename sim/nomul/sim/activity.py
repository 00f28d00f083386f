"""Simulates the netlist of an engine in standard cells: proof that it is the engine, and the activity of its nets."""

import re
import tempfile
from pathlib import Path
from typing import Any

from nomul.asic.asic_flow import Implementation
from nomul.asic.cell_models import INSTANCE, gate_model
from nomul.asic.liberty import Library
from nomul.errors import ToolError
from nomul.sim.check import Run, bench_core, build_netlist
from nomul.sim.product import Product

__all__ = ["simulate_netlist"]

_LINE = re.compile(r"\(INSTANCE (\S+)|\((\w+) \(T0 .*\(TC (\d+)\)\)")
_INPUT = re.compile(r"^  input (\w+);", re.MULTILINE)
_GATE = re.compile(r"^  (\w+) (g\d+) \(", re.MULTILINE)


def simulate_netlist(
    engine: str, config: Any, found: Implementation, library: Library, product: Product
) -> dict[str, float]:
    """Multiply on the netlist, compare with plain PyTorch, and count what toggles.

    Parameters
    ----------
    engine, config
        The engine that the netlist was made from.
    found, library
        The netlist.
    product
        The operands; take real ones, for activity depends on them.

    Returns
    -------
    dict
        Toggles in a clock period of each gate's outputs, by "gate/pin" as `found.verilog` names them, and of the
        netlist's inputs, by name.

    Raises
    ------
    ToolError
        If a result differs.
    """
    simulator = build_netlist(gate_model(found, library, engine), engine, config)
    with tempfile.TemporaryDirectory(prefix="nomul-activity-") as folder:
        file = Path(folder) / "activity.saif"
        (said,) = bench_core(simulator, engine, config, [Run([product])], activity=file)
        text = file.read_text()
    if said["mismatches"] or said["surplus"]:
        raise ToolError(f"the netlist of {engine} differs from PyTorch: {said['first_mismatch']}")
    toggles: dict[str, int] = {}
    instance = ""
    for name, pin, count in _LINE.findall(text):
        instance = name or instance
        toggles.setdefault(f"{instance}/{pin}", int(count or 0))
    cycles = toggles["$rootio/clk"] / 2
    inputs = [name for name in _INPUT.findall(found.verilog) if name != "clk" and f"{INSTANCE}/{name}" in toggles]
    return {name: toggles[f"{INSTANCE}/{name}"] / cycles for name in inputs} | {
        f"{gate}/{pin}": toggles[f"{gate}/{pin}"] / cycles
        for cell, gate in _GATE.findall(found.verilog)
        for pin in library.cells[cell].outputs
        if f"{gate}/{pin}" in toggles
    }
