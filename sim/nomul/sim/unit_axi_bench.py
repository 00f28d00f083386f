"""The cocotb bench of a unit behind AXI: the cases of `nomul.sim.unit_bench`, driven through `nomul.bus.axi_unit`.

It takes the same case and writes the same result, with pins in place of bare streams. Addresses and bits of the
registers are those that `nomul.sim.axi_bench` types from the manual.
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

from nomul.sim.axi_bench import CYCLES, FAULT, N_IN, N_OUT, PENDING, RESULTS, START, STATUS, TOKENS
from nomul.sim.drive import PERIOD_NS
from nomul.sim.unit_bench import UnitCase, UnitTransfers

__all__ = ["UnitAxiBench", "simulate"]

FIELDS = (N_IN, N_OUT, TOKENS, 0x34)


class UnitAxiBench:
    """Drives a unit's AXI ports; with a stall probability p every port waits in each cycle with probability p."""

    def __init__(self, dut: Any, case: UnitCase) -> None:
        self.dut, self.case = dut, case
        self.transfers = UnitTransfers(case)
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
        if case.stall:
            write, read = self.registers.write_if, self.registers.read_if
            channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
            for port in (*channels, *self.sources.values(), *self.sinks.values()):
                port.set_pause_generator(self._pauses(case.stall))

    def _pauses(self, stall: float) -> Iterator[bool]:
        own = random.Random(self.random.random())
        return (own.random() < stall for _ in itertools.count())

    def _container(self, name: str) -> tuple[int, int, int]:
        port = self.case.ports[name]
        return port["lanes"], port["width"], next(bits for bits in (8, 16, 32, 64) if bits >= port["width"])

    def _contain(self, name: str, payload: int) -> int:
        """Spread a transfer over containers, with noise in the bits to be ignored."""
        lanes, width, container = self._container(name)
        contained, mask = 0, (1 << width) - 1
        for lane in range(lanes):
            noise = self.random.getrandbits(container) & ~mask
            contained |= (payload >> lane * width & mask | noise) << lane * container
        return contained

    def _payload(self, name: str, transfer: int, last: bool) -> int:
        """Turn a transfer of the bus into the unit's own, with a wrong `last` if a container is not extended."""
        lanes, width, container = self._container(name)
        payload = int(last) << (width * lanes)
        for lane in range(lanes):
            value = transfer >> lane * container & (1 << container) - 1
            negative = self.case.ports[name]["signed"] and value >> (width - 1) & 1
            if value >> width != ((1 << (container - width)) - 1 if negative else 0):
                payload |= 2 << (width * lanes)
            payload |= (value & (1 << width) - 1) << lane * width
        return payload

    async def reset(self) -> None:
        """Hold reset for four cycles and forget everything that was to be sent."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 4)
        for stream in (*self.sources.values(), *self.sinks.values()):
            stream.clear()
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 1)

    def send(self) -> None:
        """Queue all inputs of the case, each as one packet."""
        for name, source in self.sources.items():
            source.send_nowait([self._contain(name, payload) for payload in self.transfers.items[name]])

    async def start_all(self) -> None:
        """Give all jobs of the case, each once the last has been taken."""
        for job in (*self.case.illegal_first, *self.case.jobs, *self.case.illegal_last):
            for address, value in zip(FIELDS, job.values(), strict=False):
                await self.registers.write_dword(address, value)
            while await self.registers.read_dword(STATUS) & PENDING:
                pass
            await self.registers.write_dword(START, 1)

    async def receive(self, name: str) -> list[int]:
        """Wait for all transfers of an output; fewer come back after `timeout` cycles without one."""
        sink, wanted = self.sinks[name], len(self.transfers.expected[name])
        payloads: list[int] = []
        while len(payloads) < wanted:
            try:
                frame = await with_timeout(sink.recv(), self.case.timeout * PERIOD_NS, "ns")
            except SimTimeoutError:
                break
            payloads += [self._payload(name, item, i == len(frame) - 1) for i, item in enumerate(frame)]
        return payloads

    async def run(self) -> dict[str, Any]:
        """Run all jobs and return the result of the comparison, with the registers that tell of it."""
        self.send()
        jobs = cocotb.start_soon(self.start_all())
        tasks = {name: cocotb.start_soon(self.receive(name)) for name in self.sinks}
        got = {name: await task for name, task in tasks.items()}
        try:
            await with_timeout(jobs, self.case.timeout * PERIOD_NS, "ns")
        except SimTimeoutError:
            jobs.cancel()
        # A surplus result would come now.
        await ClockCycles(self.dut.aclk, 8)
        surplus = sum(len(frame) for sink in self.sinks.values() for frame in sink.queue._queue)
        return self.transfers.compare(got) | {
            "surplus": surplus,
            "cycles": await self.registers.read_dword(CYCLES),
            "fault": int(bool(await self.registers.read_dword(STATUS) & FAULT)),
            "vectors": await self.registers.read_dword(RESULTS),
        }


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Run the one case in the file named by NOMUL_CASE and write its result to the file named by NOMUL_RESULT."""
    (values,) = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())["cases"]
    case = UnitCase(**values)
    Clock(dut.aclk, PERIOD_NS, unit="ns").start(start_high=False)
    bench = UnitAxiBench(dut, case)
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
