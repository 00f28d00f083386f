"""Runs a machine in a simulator, and compares every value that it makes with the integer model's."""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hw.accelerators.config import AcceleratorConfig
from hw.accelerators.machine import Machine
from sim.accelerator_trace import Difference, compare
from sim.runner import Simulator, build
from sw.accelerators import write_images
from sw.errors import ToolError
from sw.flow.rtlil import verilog
from sw.model.integer import IntegerModel

__all__ = ["Generation", "build_machine", "generate"]

TOP = "machine"


@dataclasses.dataclass
class Generation:
    """What a simulated machine did with a prompt."""

    tokens: list[int] = dataclasses.field(default_factory=list)
    cycles: list[int] = dataclasses.field(default_factory=list)
    """Cycles from the job to each token."""
    seconds: float = 0.0
    """Of the simulation."""
    difference: Difference | None = None
    """Where it began to differ from the integer model, if it was traced and did."""


def build_machine(config: AcceleratorConfig) -> Simulator:
    """Generate a machine and build a simulator of it; its parameters come later, from files."""
    return build(verilog(Machine(config), TOP), TOP, target=config.engine_config.target)


def run_jobs(
    simulator: Simulator,
    model: IntegerModel,
    config: AcceleratorConfig,
    jobs: Sequence[dict[str, Any]],
    folder: Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Run jobs in a simulator, in a folder to which the parameters and the traces are written."""
    write_images(model, config, folder)
    case = {"jobs": list(jobs), "tokens_file": str(folder / "tokens.txt"), "seed": seed}
    return simulator.run("sim.accelerator_bench", case, folder=folder)


def generate(
    simulator: Simulator, model: IntegerModel, config: AcceleratorConfig, prompt: Tensor, tokens: int
) -> Iterator[tuple[int, int]]:
    """Yield each token and its cycle as the simulated machine makes it.

    Raises
    ------
    ToolError
        If the simulator stops, or, with `config.trace`, if a value differs from the integer model's; the message says
        which is the first.
    """
    with tempfile.TemporaryDirectory(prefix="nomul-machine-") as name:
        folder = Path(name)
        job = {"prompt": prompt.tolist(), "tokens": tokens, "timeout": 20_000_000}
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                outcome.update(run_jobs(simulator, model, config, [job], folder))
            except BaseException as error:
                outcome["raised"] = error

        worker = threading.Thread(target=work)
        worker.start()
        seen, file = 0, folder / "tokens.txt"
        while True:
            alive = worker.is_alive()
            lines = file.read_text().splitlines(keepends=True) if file.exists() else []
            for line in lines[seen:]:
                if line.endswith("\n"):
                    seen += 1
                    token, cycle = line.split()
                    yield int(token), int(cycle)
            if not alive:
                break
            time.sleep(0.02)
        if "raised" in outcome:
            raise outcome["raised"]
        (said,) = outcome["jobs"]
        if config.trace:
            difference = compare(model, config, prompt, said["tokens"], folder)
            if difference is not None:
                raise ToolError(str(difference))
        if said["error"] or said["fault"]:
            raise ToolError(f"the machine stopped after {len(said['tokens'])} tokens: {said['error'] or 'fault'}")
