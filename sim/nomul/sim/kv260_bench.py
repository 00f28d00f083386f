"""The cocotb bench of an exported KV260 folder: its own driver runs its own RTL, on a stand-in for PYNQ.

The registers are behind an AXI4-Lite master, and each port of the machine before an AXI4 memory; all of them wait at
random. The memory holds what the driver has flushed into its buffers, and nothing else.
"""

import importlib
import itertools
import json
import mmap
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

PERIOD_NS = 4
CONTROL = 0xA0000000
FIRST = 0x10_0000
"""Physical address of the first buffer."""

SIZE = 1 << 23
"""Bytes of memory."""


def pauses(seed: int, probability: float, count: Counter[str]) -> Iterator[bool]:
    """Yield whether a channel waits, cycle by cycle; count the cycles in which it does."""
    generator = random.Random(seed)
    while True:
        paused = generator.random() < probability
        count["paused"] += paused
        yield paused


class Buffer(np.ndarray):
    """What `pynq.allocate` returns: an array that the device sees after `flush`."""

    physical_address: int
    memory: mmap.mmap
    freed: list[int]

    def flush(self) -> None:
        """Let the device see it."""
        self.memory[self.physical_address : self.physical_address + self.nbytes] = self.tobytes()

    def freebuffer(self) -> None:
        """Give it back."""
        self.freed.append(self.physical_address)


class Pynq:
    """PYNQ as a module: an overlay that has been loaded, registers and memory of a simulation."""

    def __init__(self, dut: Any, ports: int, stall: float) -> None:
        self.dut = dut
        self.memory = mmap.mmap(-1, SIZE)
        self.loaded: list[str] = []
        self.next = FIRST
        self.freed: list[int] = []
        self.count: Counter[str] = Counter()
        seeds = itertools.count()
        reset = {"reset_active_level": False}
        self._master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, **reset)
        self._memories = [
            AxiRam(AxiBus.from_prefix(dut, f"m_axi{port}"), dut.aclk, dut.aresetn, mem=self.memory, **reset)
            for port in range(ports)
        ]
        for bus in (self._master, *self._memories):
            for side, channels in ((bus.write_if, ("aw", "w", "b")), (bus.read_if, ("ar", "r"))):
                for channel in channels:
                    getattr(side, f"{channel}_channel").set_pause_generator(pauses(next(seeds), stall, self.count))

    def Overlay(self, file: str) -> Any:
        """Load a bitstream; return what is known of it."""
        self.loaded.append(Path(file).name)
        cells = {"machine": {"phys_addr": CONTROL, "addr_range": 65536}}
        return type("Overlay", (), {"ip_dict": cells})()

    def MMIO(self, address: int, length: int) -> "Pynq":
        """Return registers."""
        assert (address, length) == (CONTROL, 65536)
        return self

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """Return memory that begins at a page."""
        buffer = np.zeros(shape, dtype).view(Buffer)
        buffer.physical_address, buffer.memory, buffer.freed = self.next, self.memory, self.freed
        self.next += -(-buffer.nbytes // 4096) * 4096 + 4096
        assert self.next <= SIZE
        return buffer

    @resume
    async def read(self, offset: int) -> int:
        """Read a register."""
        return int(await self._master.read_dword(offset))

    @resume
    async def write(self, offset: int, value: int) -> None:
        """Write a register."""
        await self._master.write_dword(offset, value)

    @resume
    async def sleep(self, seconds: float) -> None:
        """Wait; a second is 10**6 cycles."""
        await ClockCycles(self.dut.aclk, max(1, int(seconds * 1e6)))


def work(pynq: Pynq, case: dict[str, Any]) -> dict[str, Any]:
    """Play a program on the board."""
    sys.path.insert(0, case["folder"])
    driver = importlib.import_module("pynq_machine")
    assert Path(driver.__file__ or "").parent == Path(case["folder"])
    said: dict[str, Any] = {}
    with driver.PynqMachine(case["folder"], pynq, pynq.sleep) as machine:
        said["loaded"] = pynq.loaded
        said["ready"] = machine.status()["ready"]
        said["tokens"] = list(machine.generate(case["prompt"], case["tokens"]))
        machine.begin()
        said["again"] = list(machine.generate(case["prompt"], 2))
        said["more"] = list(machine.generate([said["again"][-1], *case["more"]], 2, position=len(case["prompt"]) + 1))
        for token in machine.generate(case["prompt"], case["tokens"]):
            said["left"] = [token]
            break
        said["ready_again"] = machine.status()["ready"]
        said["after_left"] = list(machine.generate(case["prompt"], 2))
        if machine.buffers:
            machine.buffers[0].physical_address = (1 << 31) - 4096
            try:
                machine.begin()
            except driver.MachineError as error:
                said["beyond"] = str(error)
        held = [buffer.physical_address for buffer in machine.buffers]
    said["freed"] = pynq.freed == held
    said["reset"] = machine.read("RESET")
    said["paused"] = pynq.count["paused"]
    return said


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Reset the machine, then let the program run."""
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    dut.aresetn.value = 0
    Clock(dut.aclk, PERIOD_NS, unit="ns").start(start_high=False)
    pynq = Pynq(dut, case["ports"], case["stall"])
    await ClockCycles(dut.aclk, 4)
    dut.aresetn.value = 1
    await ClockCycles(dut.aclk, 2)
    said = await bridge(work)(pynq, case)
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(said))
