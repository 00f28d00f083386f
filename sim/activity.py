"""Simulates the netlist of an engine in standard cells: proof that it is the engine, and the activity of its nets."""

import re
import tempfile
from pathlib import Path
from typing import Any

from sim.check import Product, Run, bench_engine
from sim.runner import build
from sw.errors import ToolError
from sw.flow.gate_model import NETLIST, gate_model
from sw.flow.implementation import Implementation
from sw.flow.liberty import Library

__all__ = ["simulate_netlist"]

_NET = re.compile(r"\((n\d+)\s+\(T0 \d+\)\s*\(T1 \d+\)\s*\(TZ \d+\)\s*\(TX \d+\)\s*\(TB \d+\)\s*\(TC (\d+)\)\)")
_GATE = re.compile(r"^  (\w+) (g\d+) \((.*)\);$", re.MULTILINE)
_PIN = re.compile(r"\.(\w+)\(n(\d+)\)")


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
        Toggles in a clock period of each gate's outputs, by "gate/pin" as `found.verilog` names them.

    Raises
    ------
    ToolError
        If a result differs.
    """
    simulator = build(gate_model(found, library, engine), engine, "verilator", trace=True)
    with tempfile.TemporaryDirectory(prefix="nomul-activity-") as folder:
        file = Path(folder) / "activity.saif"
        (said,) = bench_engine(simulator, engine, config, [Run([product])], trace=file)
        text = file.read_text()
    if said["mismatches"] or said["surplus"]:
        raise ToolError(f"the netlist of {engine} differs from PyTorch: {said['first_mismatch']}")
    counts = {name: int(count) for name, count in _NET.findall(text[text.index(f"(INSTANCE {NETLIST}") :])}
    cycles = int(re.search(r"\(DURATION (\d+)\)", text)[1])
    return {
        f"{gate}/{pin}": counts.get(f"n{net}", 0) / cycles
        for cell, gate, pins in _GATE.findall(found.verilog)
        for pin, net in _PIN.findall(pins)
        if pin in library.cells[cell].outputs
    }
