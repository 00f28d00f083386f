"""A simulated board with a language model, behind a pseudo-terminal."""

import contextlib
import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nomul.accelerator_image import hex_files
from nomul.accelerators.config import AcceleratorConfig
from nomul.boards.engine_top import EngineTop
from nomul.boards.machine_top import MachineTop
from nomul.errors import ToolError
from nomul.export.rtlil import verilog
from nomul.model.integer import IntegerModel
from nomul.sim.runner import build

__all__ = ["SimulatedBoard", "simulated_board", "simulated_top"]

PRESS_SECONDS = 60
"""How long a press of the button may take in a simulation, in seconds of the host."""


@dataclasses.dataclass
class SimulatedBoard:
    """A board that runs: its serial port, and its button."""

    port: Path
    folder: Path
    result: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the simulation counted, when it has ended."""

    def press(self) -> None:
        """Press the reset button for a moment."""
        file = self.folder / "press"
        file.touch()
        end = time.monotonic() + PRESS_SECONDS
        while file.exists():
            if time.monotonic() > end:
                raise ToolError("the simulated board does not look at its button")
            time.sleep(0.01)


@contextlib.contextmanager
def simulated_board(
    model: IntegerModel,
    config: AcceleratorConfig,
    characters: str,
    number: int,
    clock_hz: float,
    baud: float,
    hold_seconds: float,
    *,
    terminal: bool = False,
) -> Iterator[SimulatedBoard]:
    """Build and run a simulated board while the block runs, for a program or for a person at a terminal.

    Raises
    ------
    ToolError
        If the design does not compile, or the simulation stops.
    """
    top = MachineTop(config, clock_hz, baud, number, characters, hold_seconds)
    with simulated_top(
        top, config.engine_config.target, hex_files(model, config), {"terminal": int(terminal)}
    ) as simulated:
        yield simulated


@contextlib.contextmanager
def simulated_top(
    top: MachineTop | EngineTop,
    target: str,
    images: Mapping[str, str],
    case: Mapping[str, int],
    netlist: str | None = None,
) -> Iterator[SimulatedBoard]:
    """Build and run any board's design, with the contents of its memories, and more for the bench.

    `netlist` is what is simulated in its place: Verilog of the mapped design, whose primitives are those of `target`.
    """
    name = "engine_top" if isinstance(top, EngineTop) else "machine_top"
    simulator = build(netlist or verilog(top, name), name, target=target)
    with tempfile.TemporaryDirectory(prefix="nomul-board-") as path:
        folder = Path(path)
        for image, text in images.items():
            (folder / f"{image}.hex").write_text(text)
        whole = {"folder": path, "divisor": top.divisor, "reset": top.reset, **case}
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                outcome.update(simulator.run("nomul.sim.board_bench", whole, folder=folder))
            except BaseException as error:
                outcome["raised"] = error

        worker = threading.Thread(target=work)
        worker.start()
        board = SimulatedBoard(Path(), folder)
        try:
            while not (folder / "port").exists() and worker.is_alive():
                time.sleep(0.02)
            if worker.is_alive():
                board.port = Path((folder / "port").read_text())
                yield board
        finally:
            (folder / "stop").touch()
            worker.join()
        if "raised" in outcome:
            raise outcome["raised"]
        board.result.update(outcome)
