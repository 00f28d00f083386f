"""The cocotb bench of a whole board: its serial line becomes a pseudo-terminal, which any host program opens.

The simulation stands still while nothing is sent and nothing happens, and ends when the file `stop` is there.
"""

import json
import os
import pty
import select
import tty
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, First, Timer
from cocotb.utils import get_sim_time

__all__ = ["serve"]

PERIOD = 20
"""Nanoseconds of a cycle."""

PATIENCE = 0.02
"""Seconds that an idle simulation waits for octets before it goes on for the time of one."""


async def _receive(dut: Any, bit: int, line: int, counts: dict[str, int]) -> None:
    """Write the octets of the board's line to the terminal."""
    while True:
        await FallingEdge(dut.tx)
        await Timer(bit // 2, unit="ns")
        octet = 0
        for place in range(8):
            await Timer(bit, unit="ns")
            octet |= int(dut.tx.value) << place
        await Timer(bit, unit="ns")
        counts["broken"] += not int(dut.tx.value)
        counts["sent"] += 1
        counts["last"] = int(get_sim_time("ns"))
        counts["first"] = counts["first"] or counts["last"]
        os.write(line, bytes([octet]))


async def _send(dut: Any, bit: int, octet: int) -> None:
    for level in (0, *(octet >> place & 1 for place in range(8)), 1):
        dut.rx.value = level
        await Timer(bit, unit="ns")


@cocotb.test()
async def serve(dut: Any) -> None:
    """Join the line with a pseudo-terminal; press the button when the file `press` is there."""
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    folder = Path(case["folder"])
    bit = case["divisor"] * PERIOD
    line, slave = pty.openpty()
    tty.setraw(slave)
    dut.rx.value = 1
    dut.button.value = 0
    if "terminal" in case:
        dut.terminal.value = case["terminal"]
    Clock(dut.clock, PERIOD, unit="ns", impl="gpi").start(start_high=False)
    counts = {"received": 0, "sent": 0, "broken": 0, "first": 0, "last": 0}
    cocotb.start_soon(_receive(dut, bit, line, counts))
    await Timer((case["reset"] + 20) * PERIOD, unit="ns")
    (folder / "port.new").write_text(os.ttyname(slave))
    (folder / "port.new").rename(folder / "port")
    waiting = bytearray()
    while not (folder / "stop").exists():
        working = int(dut.lights.value) >> 1 & 1
        quiet = int(get_sim_time("ns")) > counts["last"] + 30 * bit
        if not waiting and select.select([line], [], [], 0 if working or not quiet else PATIENCE)[0]:
            waiting += os.read(line, 4096)
        if (folder / "press").exists():
            dut.button.value = 1
            await Timer(10 * PERIOD, unit="ns")
            dut.button.value = 0
            await Timer((case["reset"] + 20) * PERIOD, unit="ns")
            (folder / "press").unlink()
        if waiting:
            await _send(dut, bit, waiting.pop(0))
            counts["received"] += 1
            counts["first"] = 0
        elif working:
            await First(FallingEdge(dut.tx), Timer(10 * bit, unit="ns"))
        else:
            await Timer(10 * bit, unit="ns")
    result = counts | {"cycles": int(get_sim_time("ns")) // PERIOD}
    # Cycles from the first to the last octet of the last answer.
    result["answer_cycles"] = (counts["last"] - counts["first"]) // PERIOD
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(result))
