"""The job that costs most: standard cells with power from a simulation of the netlist on a committed model."""

from pathlib import Path
from typing import Any

from nomul.asic.asic_flow import Implementation
from nomul.asic.liberty import Library
from nomul.commands.operands import Vectors, choose_operands
from nomul.jobs.pool import ToolJob
from nomul.model import checkpoints
from nomul.report.measure import cells
from nomul.sim.activity import simulate_netlist
from nomul.sim.product import Product

__all__ = ["simulated_cells", "simulated_job"]


def simulated_cells(
    engine: str, config: dict[str, Any], liberty: str, clock_ns: float | None, tokens: int
) -> dict[str, Any]:
    """Return what `nomul.report.measure.cells` does, power on the activity of `tokens` vectors of the committed model.

    `simulated_utilization` is products of the simulated job / (its cycles x products a cycle).
    """
    work = []

    def simulate(made: Any, found: Implementation, library: Library) -> dict[str, float]:
        chosen = choose_operands(engine, made, checkpoints.path(), vectors=Vectors(tokens=tokens))
        (n_out, n_in), mode = chosen.weight.shape, made.modes[chosen.mode]
        cycles = made.cycles(n_in, n_out, tokens, chosen.mode)
        work.append(n_in * n_out * tokens / (cycles * mode.macs_per_cycle))
        product = Product(chosen.weight, chosen.activations, chosen.mode)
        return simulate_netlist(engine, made, found, library, product)

    return cells(engine, config, liberty, clock_ns, simulate) | {"simulated_utilization": work[0] if work else None}


def simulated_job(
    engine: str, config: dict[str, Any], liberty: Path, clock_ns: float | None, weight: float, tokens: int
) -> ToolJob:
    """Return the job of `simulated_cells`."""
    file = str(liberty.resolve())
    arguments = {"engine": engine, "config": config, "liberty": file, "clock_ns": clock_ns, "tokens": tokens}
    label = f"{engine} in {liberty.name}, simulated"
    return ToolJob("nomul.commands.simulated:simulated_cells", arguments, label, weight, (file,))
