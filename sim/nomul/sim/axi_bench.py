"""The cocotb bench of a core behind AXI: the cases of `nomul.sim.bench`, driven through `nomul.bus.axi`.

It takes the same case and writes the same result, with pins in place of bare streams. The register map is typed here
again, as its users would from the manual.
"""

import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, SimTimeoutError, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamSink, AxiStreamSource

from nomul.sim.bench import Case, Transfers
from nomul.sim.drive import PERIOD_NS

__all__ = ["AxiBench", "simulate"]

ID, VERSION, ENGINE, CONFIG = 0x00, 0x04, 0x08, 0x0C
N_IN, N_OUT, TOKENS, START = 0x10, 0x14, 0x18, 0x1C
STATUS, CONTROL, CYCLES, RESULTS, MODE = 0x20, 0x24, 0x28, 0x2C, 0x30
FIELDS = (N_IN, N_OUT, TOKENS, 0x34)
"""Where the fields of a job lie, in their order, but for a mode."""

BUSY, PENDING, DONE, FAULT, REFUSED = 1, 2, 4, 8, 16


class AxiBench:
    """Drives a core's AXI ports.

    With a stall probability p, every source, every sink and every channel of the registers waits in each cycle with
    probability p, independently.
    """

    def __init__(self, dut: Any, case: Case) -> None:
        self.dut, self.case, self.transfers = dut, case, Transfers(case)
        self.random = random.Random(case.seed)
        clock = {"clock": dut.aclk, "reset": dut.aresetn, "reset_active_level": False}
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), **clock)
        self.sources = {
            name: AxiStreamSource(AxiStreamBus.from_prefix(dut, f"s_axis_{name}"), **clock, byte_lanes=1)
            for name in case.inputs
        }
        self.sinks = {
            name: AxiStreamSink(AxiStreamBus.from_prefix(dut, f"m_axis_{name}"), **clock, byte_lanes=1)
            for name in case.outputs
        }
        self.sink = self.sinks["results"]
        if case.stall:
            write, read = self.registers.write_if, self.registers.read_if
            channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
            for port in (*channels, *self.sources.values(), *self.sinks.values()):
                port.set_pause_generator(self._pauses(case.stall))

    def _pauses(self, stall: float) -> Iterator[bool]:
        own = random.Random(self.random.random())
        return (own.random() < stall for _ in itertools.count())

    def _contain(self, name: str, payload: int) -> int:
        """Spread a core's transfer over its containers, with noise in the bits to be ignored."""
        port = self.case.ports[name]
        width, container = port["width"], port["container"]
        mask, contained = (1 << width) - 1, 0
        for lane in range(port["lanes"]):
            noise = self.random.getrandbits(container) & ~mask
            contained |= (payload >> lane * width & mask | noise) << lane * container
        return contained

    def _payload(self, name: str, transfer: int, last: bool) -> int:
        """Turn a transfer of the bus into the core's own, with a wrong `last` if a container is not extended."""
        port = self.case.ports[name]
        lanes, width, container = port["lanes"], port["width"], port["container"]
        payload = int(last) << (width * lanes)
        for lane in range(lanes):
            value = transfer >> lane * container & (1 << container) - 1
            negative = port["signed"] and value >> (width - 1) & 1
            if value >> width != ((1 << (container - width)) - 1 if negative else 0):
                payload |= 2 << (width * lanes)
            payload |= (value & (1 << width) - 1) << (lane * width)
        return payload

    async def reset(self) -> None:
        """Hold reset for four cycles and forget everything that was to be sent."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 4)
        for stream in (*self.sources.values(), *self.sinks.values()):
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
        places = dict(zip((name for name in job if name != "mode"), FIELDS, strict=False)) | {"mode": MODE}
        for name, value in job.items():
            await self.write(places[name], value)
        while await self.read(STATUS) & PENDING:
            pass
        await self.write(START, 1)

    def send(self) -> None:
        """Queue all inputs of the case, each as one packet."""
        for name, source in self.sources.items():
            source.send_nowait([self._contain(name, payload) for payload in self.transfers.integers(name)])

    async def start_all(self) -> None:
        """Give all jobs of the case."""
        for job in self.case.given:
            await self.start(job)

    async def receive(self, name: str) -> list[int]:
        """Wait for all transfers of an output; fewer come back after `timeout` cycles without one."""
        payloads: list[int] = []
        while len(payloads) < len(self.transfers.expected[name]):
            try:
                frame = await with_timeout(self.sinks[name].recv(), self.case.timeout * PERIOD_NS, "ns")
            except SimTimeoutError:
                break
            payloads += [self._payload(name, item, i == len(frame) - 1) for i, item in enumerate(frame)]
        return payloads

    async def outcome(self) -> dict[str, Any]:
        """Wait for all outputs; return the result of the comparison."""
        tasks = {name: cocotb.start_soon(self.receive(name)) for name in self.sinks}
        return self.transfers.compare({name: await task for name, task in tasks.items()})

    async def run(self) -> dict[str, Any]:
        """Run all jobs and return the result of the comparison, with the registers that tell of it."""
        self.send()
        jobs = cocotb.start_soon(self.start_all())
        found = await self.outcome()
        try:
            await with_timeout(jobs, self.case.timeout * PERIOD_NS, "ns")
        except SimTimeoutError:
            jobs.cancel()
        # A surplus result would come now.
        await ClockCycles(self.dut.aclk, 8)
        found["surplus"] += sum(len(frame) for sink in self.sinks.values() for frame in sink.queue._queue)
        return found | {
            "cycles": await self.read(CYCLES),
            "fault": int(bool(await self.read(STATUS) & FAULT)),
            "vectors": await self.read(RESULTS),
        }


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
