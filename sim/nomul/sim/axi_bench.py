"""The cocotb bench of an engine behind AXI: the cases of `nomul.sim.bench`, driven through `nomul.bus.axi`.

It takes the same case and writes the same result, with pins in place of bare streams. The case's `widths` must also
hold `activation`, the width of one. The register map is typed here again, as its users would from the manual.
"""

import dataclasses
import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, SimTimeoutError, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamSink, AxiStreamSource

from nomul.sim.bench import Case, compare
from nomul.sim.drive import PERIOD_NS

__all__ = ["AxiBench", "simulate"]

ID, VERSION, ENGINE, CONFIG = 0x00, 0x04, 0x08, 0x0C
N_IN, N_OUT, TOKENS, START = 0x10, 0x14, 0x18, 0x1C
STATUS, CONTROL, CYCLES, RESULTS, MODE = 0x20, 0x24, 0x28, 0x2C, 0x30
BUSY, PENDING, DONE, FAULT, REFUSED = 1, 2, 4, 8, 16


class AxiBench:
    """Drives an engine's AXI ports.

    With a stall probability p, every source, the sink and every channel of the registers waits in each cycle with
    probability p, independently.
    """

    def __init__(self, dut: Any, case: Case) -> None:
        self.dut, self.case = dut, case
        self.random = random.Random(case.seed)
        clock = {"clock": dut.aclk, "reset": dut.aresetn, "reset_active_level": False}
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), **clock)
        self.sources = {
            name: AxiStreamSource(AxiStreamBus.from_prefix(dut, f"s_axis_{name}"), **clock, byte_lanes=1)
            for name in ("activations", "weights")
        }
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis_results"), **clock, byte_lanes=1)
        self.lane_width = case.widths["activation"]
        self.container = 8 if self.lane_width <= 8 else 16
        self.lanes = len(dut.s_axis_activations_tdata) // self.container
        if case.stall:
            write, read = self.registers.write_if, self.registers.read_if
            channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
            for port in (*channels, *self.sources.values(), self.sink):
                port.set_pause_generator(self._pauses(case.stall))

    def _pauses(self, stall: float) -> Iterator[bool]:
        own = random.Random(self.random.random())
        return (own.random() < stall for _ in itertools.count())

    def _contain(self, payload: int) -> int:
        """Spread an engine's transfer of activations over its containers, with noise in the bits to be ignored."""
        mask, contained = (1 << self.lane_width) - 1, 0
        for lane in range(self.lanes):
            noise = self.random.getrandbits(self.container) & ~mask
            contained |= (payload >> lane * self.lane_width & mask | noise) << lane * self.container
        return contained

    def _payload(self, transfer: int, last: bool) -> int:
        """Turn a transfer of results into the engine's own, with a wrong `last` if a container is not sign-extended."""
        width, rows = self.case.total_width, self.case.rows
        container = 32 if width <= 32 else 64
        payload = int(last) << (width * rows)
        for row in range(rows):
            value = transfer >> row * container & (1 << container) - 1
            upper = value >> (width - 1)
            if upper not in (0, (1 << (container - width + 1)) - 1):
                payload |= 2 << (width * rows)
            payload |= (value & (1 << width) - 1) << (row * width)
        return payload

    async def reset(self) -> None:
        """Hold reset for four cycles and forget everything that was to be sent."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 4)
        for stream in (*self.sources.values(), self.sink):
            stream.clear()
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 1)

    async def read(self, address: int) -> int:
        """Read a register."""
        return await self.registers.read_dword(address)

    async def write(self, address: int, value: int) -> None:
        """Write a register."""
        await self.registers.write_dword(address, value)

    async def start(self, job: dict[str, int]) -> None:
        """Wait until the last job has been taken, then give the next."""
        for address, name in ((N_IN, "n_in"), (N_OUT, "n_out"), (TOKENS, "tokens"), (MODE, "mode")):
            await self.write(address, job.get(name, 0))
        while await self.read(STATUS) & PENDING:
            pass
        await self.write(START, 1)

    def send(self) -> None:
        """Queue all activations and weights of the case, each as one packet."""
        activations: list[int] = []
        weights: list[int] = []
        with np.load(self.case.arrays) as arrays:
            for number, job in enumerate(self.case.jobs):
                activations += _integers(arrays[f"activations{number}"])
                weights += _integers(arrays[f"weights{number}"]) * job["tokens"]
        self.sources["activations"].send_nowait([self._contain(payload) for payload in activations])
        self.sources["weights"].send_nowait(weights)

    async def start_all(self) -> None:
        """Give all jobs of the case."""
        case = dataclasses.asdict(self.case)
        first, last = case.get("illegal_first"), case.get("illegal_last")
        for job in [*([first] if first else []), *self.case.jobs, *([last] if last else [])]:
            await self.start(job)

    async def receive(self) -> list[int]:
        """Wait for the results of all tokens, a packet each; fewer come back after `timeout` cycles without one."""
        payloads: list[int] = []
        for _ in range(sum(job["tokens"] for job in self.case.jobs)):
            try:
                frame = await with_timeout(self.sink.recv(), self.case.timeout * PERIOD_NS, "ns")
            except SimTimeoutError:
                break
            payloads += [self._payload(item, i == len(frame) - 1) for i, item in enumerate(frame)]
        return payloads

    async def run(self) -> dict[str, Any]:
        """Run all jobs and return the result of the comparison, with the registers that tell of it."""
        self.send()
        jobs = cocotb.start_soon(self.start_all())
        payloads = await self.receive()
        try:
            await with_timeout(jobs, self.case.timeout * PERIOD_NS, "ns")
        except SimTimeoutError:
            jobs.cancel()
        # A surplus result would come now.
        await ClockCycles(self.dut.aclk, 8)
        outcome = compare(self.case, payloads)
        outcome["surplus"] += sum(len(frame) for frame in self.sink.queue._queue)
        return outcome | {
            "cycles": await self.read(CYCLES),
            "fault": int(bool(await self.read(STATUS) & FAULT)),
            "tokens": await self.read(RESULTS),
        }


def _integers(rows: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Run the one case in the file named by NOMUL_CASE and write its result to the file named by NOMUL_RESULT."""
    (values,) = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())["cases"]
    case = Case(**values)
    Clock(dut.aclk, PERIOD_NS, unit="ns").start(start_high=False)
    bench = AxiBench(dut, case)
    await bench.reset()
    if case.reset_after is not None:
        bench.send()
        jobs = cocotb.start_soon(bench.start_all())
        await ClockCycles(dut.aclk, case.reset_after)
        jobs.cancel()
        await bench.reset()
    started = time.perf_counter()
    outcome = await bench.run() | {"seconds": time.perf_counter() - started, "seed": case.seed}
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps({"results": [outcome]}))
