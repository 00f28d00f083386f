"""Runs a Nomul machine on a board with PYNQ: from the folder that `nomul export kv260` wrote, after Vivado.

    from pynq_machine import PynqMachine
    machine = PynqMachine(".")          # loads the bitstream and the weights, waits until it is ready
    for token in machine.generate([1, 2, 3], tokens=20):
        print(token)
    machine.close()

Everything else is of `machine_driver.Machine`. Copy the folder's manifest.json, nomul.bit, nomul.hwh, the files
port*.bin if there are any, machine_driver.py and this file to the board.
"""

import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nomul.host.machine_driver import Machine, MachineError

__all__ = ["PynqMachine"]

REACH = 1 << 31
"""Bytes of memory, from address 0 on, that the block design lets a machine reach."""


class PynqMachine(Machine):
    """A machine in the fabric of a Zynq, with its image in the memory of the processors.

    Parameters
    ----------
    folder : str or Path
        Where the bitstream, the manifest and the image are.
    pynq : module
        PYNQ (`Overlay`, `MMIO`, `allocate`); imported if absent.
    sleep : function of seconds
        As of `Machine`.

    Attributes
    ----------
    overlay : pynq.Overlay
    buffers : list of pynq.buffer
        The memory of each AXI4 port.

    Raises
    ------
    MachineError
        If the folder has no image, or the hardware is not the one of the manifest.
    """

    def __init__(self, folder: str | Path = ".", pynq: Any = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self.folder = Path(folder)
        manifest = json.loads((self.folder / "manifest.json").read_text())
        board, memory = manifest["kv260"], manifest["memory"]
        files = [self.folder / file for file in memory["files"]] if memory["kind"] == "axi" else []
        for file in files:
            if not file.exists():
                raise MachineError(f"{file.name} is not in the folder; export the machine with weights")
        pynq = pynq or importlib.import_module("pynq")
        self.overlay = pynq.Overlay(str(self.folder / board["bitstream"]))
        cell = self.overlay.ip_dict[board["cell"]]
        super().__init__(pynq.MMIO(cell["phys_addr"], cell["addr_range"]), manifest, sleep)
        # No master may be at work in memory that is about to be given back or filled.
        self.write("RESET", 1)
        self.buffers: list[Any] = []
        for file in files:
            image = file.read_bytes()
            buffer = pynq.allocate(shape=(memory["bytes_per_port"],), dtype="u1")
            self.buffers.append(buffer)
            memoryview(buffer)[: len(image)] = image
            buffer.flush()
        self.begin()

    def begin(self, bases: Sequence[int] = (), timeout: float = 1.0) -> None:
        """Reset the machine and wait until it is ready; its memory is that of `buffers`, if no `bases` are given."""
        bases = bases or [buffer.physical_address for buffer in self.buffers]
        for base, buffer in zip(bases, self.buffers, strict=False):
            if base + buffer.nbytes > REACH:
                raise MachineError(f"a buffer at 0x{base:x} is beyond the 2 GiB that the machine reaches")
        super().begin(bases, timeout)

    def close(self) -> None:
        """Stop the machine, and give its memory back."""
        self.write("RESET", 1)
        for buffer in self.buffers:
            buffer.freebuffer()
        self.buffers = []

    def __enter__(self) -> "PynqMachine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
