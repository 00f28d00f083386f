"""The cocotb bench of a striped memory: writes, then commands of every client at once; words and their cycles.

Where the top has the pins of the buses itself, the slaves are cocotbext-axi's, over the same file.
"""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiBus, AxiRam
from cocotbext.axi.sparse_memory import SparseMemory

from nomul.sim.attention_bench import Offer

__all__ = ["access"]


def pauses(dice: random.Random, stall: float) -> Iterator[bool]:
    """Yield whether a channel waits, with a probability that changes from time to time."""
    while True:
        chance = dice.choice((0.0, stall, stall, 0.95))
        for _ in range(dice.randint(1, 60)):
            yield dice.random() < chance


def attach_rams(dut: Any, case: dict[str, Any], dice: random.Random) -> None:
    """Put slaves over one memory at the pins of the top."""
    memory = SparseMemory(1 << case["address_bits"])
    contents = Path("dram.bin").read_bytes()
    for place in range(0, len(contents), 4096):
        memory.write(place, contents[place : place + 4096])
    for port in range(case["ports"]):
        ram = AxiRam(AxiBus.from_prefix(dut, f"m_axi{port}"), dut.clk, size=1 << case["address_bits"], mem=memory)
        for interface in (ram.write_if, ram.read_if) if case["stall"] else ():
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                if hasattr(interface, name):
                    getattr(interface, name).set_pause_generator(pauses(random.Random(dice.random()), case["stall"]))


class Sink:
    """Takes the words of a client at random times."""

    def __init__(self, dut: Any, name: str, dice: random.Random) -> None:
        self.valid, self.ready, self.payload = (
            getattr(dut, f"{name}__{part}") for part in ("valid", "ready", "payload")
        )
        self.dice = dice
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self.words: list[str] = []
        self.cycles: list[int] = []
        self.accept = False
        self.ready.value = 0

    def drive(self, stall: float) -> None:
        """Begin a cycle."""
        self.accept = self.dice.random() >= stall
        self.ready.value = int(self.accept)

    def note(self, cycle: int) -> None:
        """End a cycle."""
        if self.accept and int(self.valid.value):
            self.words.append(f"{self.payload.value.to_unsigned():x}")
            self.cycles.append(cycle)


async def run(dut: Any, offers: list[Offer], sinks: list[Sink], case: dict[str, Any], limit: int) -> int:
    """Drive everything until all words are there, or `limit` cycles have passed; return the cycles."""
    wanted = case["words"]
    cycle = quiet = 0
    while quiet < 8 and cycle < limit:
        for offer in offers:
            offer.drive(case["gaps"])
        for client, sink in enumerate(sinks):
            sink.drive(case["holds"][client])
        await FallingEdge(dut.clk)
        for offer in offers:
            offer.note(cycle)
        for sink in sinks:
            sink.note(cycle)
        await RisingEdge(dut.clk)
        for offer in offers:
            offer.settle()
        cycle += 1
        # A surplus word would come in the cycles after the last.
        done = all(len(sink.words) >= number for sink, number in zip(sinks, wanted, strict=True))
        quiet = quiet + 1 if done and all(offer.position == len(offer.payloads) for offer in offers) else 0
    return cycle


@cocotb.test()
async def access(dut: Any) -> None:
    """Do the writes and wait until they are done, then read; with resets in between."""
    case = json.loads(Path(os.environ["NOMUL_CASE"]).read_text())
    dice = random.Random(case["seed"])
    dut.rst.value, dut.bus_reset.value = 1, 1
    for port, base in enumerate(case["bases"]):
        getattr(dut, f"bases__{port}").value = base
    inner = hasattr(dut, "violation")
    if inner:
        dut.stall.value = round(256 * case["stall"])
        dut.disturb.value = case["disturb"]
        dut.error_low.value, dut.error_high.value = case["errors"]
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    if not inner:
        attach_rams(dut, case, dice)
    writes = Offer(dut, "writes", case["writes"], dice)
    offers = [Offer(dut, f"commands__{client}", given, dice) for client, given in enumerate(case["commands"])]
    sinks = [Sink(dut, f"words__{client}", dice) for client in range(len(offers))]
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value, dut.bus_reset.value = 0, 0

    async def reset() -> None:
        everything: list[Any] = [writes, *offers, *sinks]
        for stream in everything:
            stream.restart()
        dut.rst.value = 1
        for _ in range(dice.randint(1, 3)):
            await RisingEdge(dut.clk)
        dut.rst.value = 0

    for cycles in case["resets"]:
        await run(dut, [writes, *offers], sinks, case, cycles)
        await reset()
    written = await run(dut, [writes], [], case | {"words": []}, case["limit"])
    for _ in range(case["limit"]):
        await FallingEdge(dut.clk)
        idle = int(dut.idle.value)
        await RisingEdge(dut.clk)
        if idle:
            break
    outcome: dict[str, Any] = {"written": written, "write_error": int(dut.write_error.value)}
    outcome["cycles"] = await run(dut, offers, sinks, case, case["limit"])
    outcome |= {
        "words": [sink.words for sink in sinks],
        "times": [sink.cycles for sink in sinks],
        "taken": [offer.taken for offer in offers],
        "read_error": int(dut.read_error.value),
    }
    if inner:
        outcome["violation"] = int(dut.violation.value)
        outcome["beats"] = [int(dut.read_beats.value), int(dut.write_beats.value)]
    Path(os.environ["NOMUL_RESULT"]).write_text(json.dumps(outcome))
