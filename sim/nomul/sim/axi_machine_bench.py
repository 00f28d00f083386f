"""The cocotb bench of a machine behind its registers: the host's own driver runs it over an AXI4-Lite master.

The driver is plain Python without coroutines: it runs in a thread, and each access to a register, and each wait, lets
the simulation go on.
"""

import ctypes
import functools
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from nomul.host.machine_driver import Machine, MachineError

PERIOD_NS = 10
RESET_STEPS = 9
LEFT_STEPS = 4


class Host:
    """What a host has: registers by address, and the wire of the interrupt."""

    def __init__(self, dut: Any, case: dict[str, Any]) -> None:
        self.dut, self.case = dut, case
        self.master = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, reset_active_level=False
        )

    @resume
    async def read(self, offset: int) -> int:
        """Read a register."""
        return int(await self.master.read_dword(offset))

    @resume
    async def write(self, offset: int, value: int) -> None:
        """Write a register."""
        await self.master.write_dword(offset, value)

    @resume
    async def access(self, offset: int, value: int | None) -> int:
        """Read or write a register; return the answer's kind."""
        if value is None:
            return int((await self.master.read(offset, 4)).resp)
        return int((await self.master.write(offset, value.to_bytes(4, "little"))).resp)

    @resume
    async def cycles(self, count: int) -> None:
        """Wait."""
        await ClockCycles(self.dut.aclk, count)

    @resume
    async def set(self, name: str, value: int) -> None:
        """Set a pin of the simulation."""
        getattr(self.dut, name).value = value
        await ClockCycles(self.dut.aclk, 2)

    @resume
    async def irq(self) -> int:
        """Return the interrupt, after the cycles that it may take."""
        await ClockCycles(self.dut.aclk, 3)
        return int(self.dut.irq.value)

    def machine(self) -> Machine:
        """Return the driver; a second is 10**6 cycles, so that a time-out is soon over."""
        return Machine(self, self.case["manifest"], sleep=lambda seconds: self.cycles(max(1, int(seconds * 1e6))))


def raised(work: Callable[[], object]) -> str:
    """Return the message of the driver's error, or nothing."""
    try:
        work()
    except MachineError as error:
        return str(error)
    return ""


def _idle(machine: Machine, wanted: bool = True) -> bool:
    """Return whether the machine is ready, or is not, and holds nothing of a job."""
    status = machine.status()
    empty = machine.read("PROMPT_COUNT") == machine.read("RESULT_COUNT") == 0
    return status["ready"] == wanted and status["busy"] != wanted and empty and not status["illegal"]


def by_header(host: Host) -> list[Any]:
    """Run and stop jobs by the functions of machine.h."""
    library, prompt = ctypes.CDLL(host.case["header"]), host.case["prompt"]
    read = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)(host.read)
    write = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32)(host.write)
    library.reach(read, write)
    given = (ctypes.c_uint32 * len(prompt))(*prompt)

    def job(tokens: int, taken: int) -> list[int]:
        said, token = [library.start(given, len(prompt), tokens)], ctypes.c_uint32()
        for _ in range(taken):
            said += [library.token(ctypes.byref(token)), token.value]
        return said

    return [
        library.is_ours(),
        job(3, 1),
        library.start(given, len(prompt), 1),
        library.stop(),
        job(2, 2),
        library.stop(),
    ]


def whole(host: Host) -> dict[str, Any]:
    """Run everything that a host can do."""
    case = host.case
    prompt, tokens, bases = case["prompt"], case["tokens"], case["bases"]
    machine = host.machine()
    said: dict[str, Any] = {"before": machine.status(), "start_in_reset": raised(lambda: machine.start(prompt, 1))}
    said["wrong_bases"] = [raised(functools.partial(machine.begin, given)) for given in case["wrong_bases"]]
    machine.begin(bases)
    said["ready"] = machine.status()
    if bases:
        machine.write("BASE0", 0x5000_0FFF)
        said["base"] = [machine.status()["refused"], machine.read("BASE0") == bases[0]]
        machine.clear()
    said["answers"] = [host.access(offset, value) for offset, value in case["accesses"]]

    said["irq"] = [host.irq()]
    machine.interrupt_on("done")
    said["irq"].append(host.irq())
    said["tokens"] = list(machine.generate(prompt, tokens))
    machine.wait()
    said["irq"].append(host.irq())
    said["after"] = machine.status()
    machine.clear("done")
    said["irq"].append(host.irq())
    said["counters"], said["generated"], said["logits"] = (
        machine.counters(),
        machine.read("GENERATED"),
        machine.logits(),
    )

    said["illegal"], said["after_illegal"] = [], []
    machine.interrupt_on("fault")
    for job in case["illegal"]:
        said["illegal"].append([raised(functools.partial(machine.start, **job)), host.irq(), machine.status()])
        said["after_illegal"].append([list(machine.generate(prompt, 1)), host.irq()])

    # START with a prompt that was not given, and a prompt in pieces longer than PROMPT_LENGTH.
    machine.write("PROMPT_LENGTH", 2)
    machine.write("START", 1)
    said["no_prompt"] = machine.status()
    machine.clear()
    for _ in range(case["context"] + 1):
        machine.write("PROMPT", 0)
    said["full"] = [machine.read("PROMPT_COUNT"), machine.status()["lost"]]
    machine.write("START", 1)
    said["emptied"] = [machine.read("PROMPT_COUNT"), machine.status()["illegal"]]

    # A job that is in work is not disturbed by START, nor by a prompt, and nothing of them is left for the next.
    said["undisturbed"] = []
    others: list[list[int]] = [[], prompt]
    for other in others:
        machine.start(prompt, 2)
        said["busy_start"] = raised(functools.partial(machine.start, other, 1))
        machine.clear()
        for token in other:
            machine.write("PROMPT", token)
        machine.write("START", 1)
        busy = machine.status()
        said["undisturbed"].append(
            [busy["refused"], busy["lost"], list(machine.tokens()), machine.read("PROMPT_COUNT")]
        )

    # A job that is left: before its first token, after it, and when all are there, of which none was taken.
    said["left"] = []
    for wait in range(0, LEFT_STEPS * case["left_step"], case["left_step"]):
        machine.start(prompt, 3)
        host.cycles(wait)
        machine.stop()
        said["left"].append([_idle(machine), list(machine.generate(prompt, 2))])
    for token in machine.generate(prompt, 5):
        said["left"].append([_idle(machine, False), [token]])
        break
    said["left"].append([_idle(machine), list(machine.generate(prompt, 2))])
    taken = list(itertools.islice(machine.generate(prompt, 5), 2))
    said["left"].append([_idle(machine), list(machine.generate(taken[-1:], 2, position=len(prompt) + 1))])
    machine.start(prompt, 3)
    machine.wait()
    said["untaken"] = list(machine.generate(prompt, 2))
    machine.stop()
    said["stopped_idle"] = _idle(machine)
    if "header" in case:
        said["header"] = by_header(host)

    # Both halves of a result at once: the interrupt for tokens, and no token taken before it is looked at.
    machine.interrupt_on("token")
    machine.start(prompt, 2)
    machine.wait()
    said["waiting"] = [host.irq(), machine.read("RESULT_COUNT"), machine.read("RESULT") == machine.read("RESULT")]
    said["late"] = [list(machine.tokens()), host.irq(), machine.read("RESULT")]

    said["reset"] = []
    for step in range(RESET_STEPS):
        machine.start(prompt, 3)
        host.cycles(37 + step * case["reset_step"])
        machine.begin(bases)
        clean = [machine.read("PROMPT_COUNT"), machine.read("RESULT_COUNT")]
        said["reset"].append([clean, list(machine.generate(prompt, 2))])
    said["position"] = list(machine.generate(case["more"], 2, position=len(prompt) + 1))
    return said


def wrong_image(host: Host) -> dict[str, Any]:
    """Begin with a memory that holds another machine's image."""
    machine = host.machine()
    machine.interrupt_on("error")
    message = raised(lambda: machine.begin(host.case["bases"]))
    irq = host.irq()
    return {"message": message, "irq": irq, "status": machine.status(), "again": raised(lambda: machine.start([1], 1))}


def memory_error(host: Host) -> dict[str, Any]:
    """Let the memory answer with errors in the middle of a job, then mend it."""
    case = host.case
    machine = host.machine()
    machine.begin(case["bases"])
    machine.start(case["prompt"], 6)
    host.cycles(case["errors_after"])
    host.set("error_low", case["errors"][0])
    host.set("error_high", case["errors"][1])
    message = raised(lambda: list(machine.tokens()))
    status = machine.status()
    refused = raised(lambda: machine.start(case["prompt"], 1))
    host.set("error_high", 0)
    host.set("error_low", 0)
    machine.begin(case["bases"])
    return {
        "message": message,
        "status": status,
        "refused": refused,
        "tokens": list(machine.generate(case["prompt"], 3)),
    }


@cocotb.test()
async def simulate(dut: Any) -> None:
    """Reset the machine, then do what the case says."""
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    for pin in ("stall", "error_low", "error_high"):
        if hasattr(dut, pin):
            getattr(dut, pin).value = case.get(pin, 0)
    dut.aresetn.value = 0
    Clock(dut.aclk, PERIOD_NS, unit="ns").start(start_high=False)
    host = Host(dut, case)
    await ClockCycles(dut.aclk, 4)
    dut.aresetn.value = 1
    await ClockCycles(dut.aclk, 2)
    work = {"whole": whole, "wrong_image": wrong_image, "memory_error": memory_error}[case["work"]]
    said = await bridge(work)(host)
    if hasattr(dut, "violation"):
        said["violation"] = int(dut.violation.value)
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(said))
