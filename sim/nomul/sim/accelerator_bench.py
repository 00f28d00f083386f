"""The cocotb bench of a machine: give it a prompt, take its tokens, and write each to a file as it comes."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer
from cocotb.utils import get_sim_time

__all__ = ["generate"]

PERIOD = 10
"""Nanoseconds of a cycle."""


async def _edge_or(dut: Any, cycles: int, signal: Any) -> bool:
    """Wait until `signal` rises or the machine is idle, for so many cycles at most; return whether either did."""
    if int(signal.value):
        return True
    await First(RisingEdge(signal), FallingEdge(dut.busy), Timer(cycles * PERIOD + 1, unit="ns"))
    return bool(int(signal.value)) or not int(dut.busy.value)


async def _reset(dut: Any, memory: dict[str, int]) -> None:
    for port in ("jobs__valid", "prompt__valid", "results__ready"):
        getattr(dut, port).value = 0
    for port, value in memory.items():
        getattr(dut, port).value = value
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


async def _job(dut: Any, job: dict[str, Any], dice: random.Random, tokens_file: Path) -> dict[str, Any]:
    """Run one job; return its tokens, the cycles at which they came, and whether the machine refused it."""
    stall = job.get("stall", 0.0)

    async def wait() -> None:
        while stall and dice.random() < stall:
            await FallingEdge(dut.clk)

    await wait()
    size = len(dut.jobs__payload) // 3
    fields = (job.get("prompt_length", len(job["prompt"])), job["tokens"], job.get("position", 0))
    dut.jobs__payload.value = sum(value << size * place for place, value in enumerate(fields))
    dut.jobs__valid.value = 1
    for _ in range(job["timeout"]):
        if int(dut.jobs__ready.value):
            break
        await FallingEdge(dut.clk)
    else:
        dut.jobs__valid.value = 0
        return {"error": "the job is not taken", "tokens": [], "cycles": [], "fault": int(dut.fault.value)}
    await FallingEdge(dut.clk)
    dut.jobs__valid.value = 0
    begin = get_sim_time("ns")
    for token in job["prompt"]:
        await wait()
        dut.prompt__payload.value, dut.prompt__valid.value = token, 1
        while not int(dut.prompt__ready.value):
            if not int(dut.busy.value):
                break
            if not await _edge_or(dut, job["timeout"], dut.prompt__ready):
                return {"error": "the prompt is not taken", "tokens": [], "cycles": [], "fault": int(dut.fault.value)}
            await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        dut.prompt__valid.value = 0
        if not int(dut.busy.value):
            break
    tokens: list[int] = []
    cycles: list[int] = []
    width = len(dut.results__payload) - 1
    while int(dut.busy.value) and len(tokens) < job["tokens"]:
        if not await _edge_or(dut, job["timeout"], dut.results__valid):
            await FallingEdge(dut.clk)
            return {"error": "no token comes", "tokens": tokens, "cycles": cycles, "fault": int(dut.fault.value)}
        if not int(dut.busy.value):
            break
        cycles.append(int((get_sim_time("ns") - begin) // PERIOD))
        await FallingEdge(dut.clk)
        await wait()
        payload = int(dut.results__payload.value)
        tokens.append(payload & ((1 << width) - 1))
        with tokens_file.open("a") as file:
            file.write(f"{tokens[-1]} {cycles[-1]}\n")
        last = payload >> width
        dut.results__ready.value = 1
        await FallingEdge(dut.clk)
        dut.results__ready.value = 0
        if bool(last) != (len(tokens) == job["tokens"]):
            return {"error": "last is wrong", "tokens": tokens, "cycles": cycles, "fault": int(dut.fault.value)}
    await FallingEdge(dut.clk)
    return {"error": None, "tokens": tokens, "cycles": cycles, "fault": int(dut.fault.value)}


async def _count_steps(dut: Any, steps: dict[int, int]) -> None:
    """Add up the cycles of each step while the machine is busy; the one at work is counted when it ends."""
    while True:
        step, busy, begin = int(dut.step.value), int(dut.busy.value), get_sim_time("ns")
        await First(dut.step.value_change, dut.busy.value_change)
        if busy:
            steps[step] = steps.get(step, 0) + int((get_sim_time("ns") - begin) // PERIOD)


@cocotb.test()
async def generate(dut: Any) -> None:
    """Run the jobs of the case one by one; a job with `reset_after` is reset in mid-flight and given again."""
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    tokens_file = Path(case["tokens_file"])
    dice = random.Random(case.get("seed", 0))
    Clock(dut.clk, PERIOD, unit="ns", impl="gpi").start(start_high=False)
    memory = case.get("memory", {})
    await _reset(dut, memory)
    begin = time.perf_counter()
    outcomes = []
    steps: dict[int, int] = {}
    if case.get("steps"):
        cocotb.start_soon(_count_steps(dut, steps))
    for job in case["jobs"]:
        if job.get("reset_after"):
            running = cocotb.start_soon(_job(dut, job, dice, Path(os.devnull)))
            await Timer(job["reset_after"] * PERIOD, unit="ns")
            running.cancel()
            await FallingEdge(dut.clk)
            await _reset(dut, memory)
        steps.clear()
        outcomes.append(await _job(dut, job, dice, tokens_file) | {"steps": dict(steps)})
    seconds = time.perf_counter() - begin
    result: dict[str, Any] = {name: int(getattr(dut, name).value) for name in case.get("read", ())}
    result |= {"jobs": outcomes, "cycles": int(get_sim_time("ns") // PERIOD), "seconds": seconds}
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(result))
