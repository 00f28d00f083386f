"""What a driver may do to an engine behind AXI, right and wrong: one cocotb test for each story.

Each writes what it saw as JSON; `sim.test_axi` says what it should have seen.
"""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout

from nomul.sim.axi_bench import CONTROL, DONE, FAULT, N_IN, N_OUT, REFUSED, RESULTS, START, STATUS, TOKENS, AxiBench
from nomul.sim.bench import Case
from nomul.sim.drive import PERIOD_NS

__all__ = ["channel_order", "illegal_jobs", "interrupts", "pending_jobs", "register_access"]


async def _tell(dut: Any, story: Callable[[AxiBench], Awaitable[dict[str, Any]]]) -> None:
    """Reset the engine, run the story within the case's time, and write what it returns."""
    case = Case(**json.loads(Path(os.environ["NOMUL_CASE"]).read_text()))
    Clock(dut.aclk, PERIOD_NS, unit="ns").start(start_high=False)
    bench = AxiBench(dut, case)
    await bench.reset()
    seen = await with_timeout(cocotb.start_soon(story(bench)), case.timeout * PERIOD_NS, "ns")
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(seen))


async def _started(bench: AxiBench, n_in: int, n_out: int, tokens: int) -> int:
    """Write a job and start it at once; return the status after a while."""
    for address, value in ((N_IN, n_in), (N_OUT, n_out), (TOKENS, tokens), (START, 1)):
        await bench.write(address, value)
    await ClockCycles(bench.dut.aclk, 20)
    return await bench.read(STATUS)


@cocotb.test()
async def register_access(dut: Any) -> None:
    """Read every word; write where it is allowed, byte by byte, and where it is not."""

    async def story(bench: AxiBench) -> dict[str, Any]:
        registers = bench.registers
        await bench.write(N_IN, 0x11223344)
        await registers.write(N_IN + 1, b"\xab")
        await registers.write(N_IN + 2, b"\xcd\xef")
        await bench.write(CONTROL, 0xFFFFFFFE)
        await bench.write(START, 0)
        await registers.write(START + 1, b"\x01")
        words = {}
        for address in range(0, 256, 4):
            answer = await registers.read(address, 4)
            words[address] = (int.from_bytes(answer.data, "little"), int(answer.resp))
        writes = {}
        for address in (0x00, CONTROL, RESULTS, 0x34, 0x80, 0xFC):
            writes[address] = int((await registers.write(address, bytes(4))).resp)
        return {"words": words, "writes": writes, "after": await bench.read(CONTROL)}

    await _tell(dut, story)


@cocotb.test()
async def channel_order(dut: Any) -> None:
    """Write with the data long before the address, the address long before the data, and a slow response."""

    async def story(bench: AxiBench) -> dict[str, Any]:
        write = bench.registers.write_if
        seen = []
        for number, slow in enumerate((write.aw_channel, write.w_channel, write.b_channel)):
            slow.pause = True
            tasks = [
                cocotb.start_soon(bench.write(address, 100 * number + address)) for address in (N_IN, N_OUT, TOKENS)
            ]
            await ClockCycles(bench.dut.aclk, 20)
            slow.pause = False
            for task in tasks:
                await task
            seen.append([await bench.read(address) - address for address in (N_IN, N_OUT, TOKENS)])
        return {"seen": seen}

    await _tell(dut, story)


@cocotb.test()
async def illegal_jobs(dut: Any) -> None:
    """Give jobs that the engine must refuse, clear the fault each time, then run the case."""

    async def story(bench: AxiBench) -> dict[str, Any]:
        statuses = []
        for n_in, n_out, tokens in (
            (0, 5, 1), (5, 0, 1), (5, 5, 0), (65, 5, 1), (5, 65, 1),
            (5, 5, 65536 + 1), (128 + 5, 5, 1), (1 << 31, 5, 1),
        ):  # fmt: skip
            before = await _started(bench, n_in, n_out, tokens)
            await bench.write(STATUS, DONE | REFUSED)
            kept = await bench.read(STATUS)
            await bench.write(STATUS, FAULT)
            statuses.append([before, kept, await bench.read(STATUS)])
        return {"statuses": statuses} | await bench.run()

    await _tell(dut, story)


@cocotb.test()
async def pending_jobs(dut: Any) -> None:
    """Start two jobs and try a third before any data has come, then send the data of the case's two jobs."""

    async def story(bench: AxiBench) -> dict[str, Any]:
        first, second = bench.case.jobs
        statuses = [
            await _started(bench, job["n_in"], job["n_out"], job["tokens"])
            for job in (first, second, first | {"n_in": 1})
        ]
        await bench.write(STATUS, REFUSED)
        statuses.append(await bench.read(STATUS))
        bench.send()
        found = await bench.outcome()
        await ClockCycles(bench.dut.aclk, 500)
        statuses.append(await bench.read(STATUS))
        return found | {"statuses": statuses, "vectors": await bench.read(RESULTS), "left": bench.sink.count()}

    await _tell(dut, story)


@cocotb.test()
async def interrupts(dut: Any) -> None:
    """Answer an interrupt for each job of the case, whose results are held up at first; then one for a fault."""

    async def story(bench: AxiBench) -> dict[str, Any]:
        await bench.write(CONTROL, 1)
        bench.sink.pause = True
        bench.send()
        jobs = cocotb.start_soon(bench.start_all())
        await ClockCycles(dut.aclk, 2000)
        held = [int(dut.irq.value), await bench.read(STATUS) & DONE]
        bench.sink.pause = False
        tokens = []
        for _ in bench.case.jobs:
            if not int(dut.irq.value):
                await RisingEdge(dut.irq)
            # What comes after this job waits, so that the count is that of the interrupt.
            bench.sink.pause = True
            tokens.append(await bench.read(RESULTS))
            await bench.write(STATUS, DONE)
            await ClockCycles(dut.aclk, 2)
            bench.sink.pause = False
        await jobs
        await ClockCycles(dut.aclk, 100)
        quiet = [int(dut.irq.value)]
        await _started(bench, 0, 1, 1)
        quiet.append(int(dut.irq.value))
        await bench.write(CONTROL, 2)
        await ClockCycles(dut.aclk, 4)
        raised = int(dut.irq.value)
        await bench.write(STATUS, FAULT)
        await ClockCycles(dut.aclk, 4)
        quiet.append(int(dut.irq.value))
        return {"held": held, "tokens": tokens, "quiet": quiet, "raised": raised}

    await _tell(dut, story)
