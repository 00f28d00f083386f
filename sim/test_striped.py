# amaranth: UnusedElaboratable=no
"""Benches of the striped memory: over the DRAM model, which checks the rules of AXI, and over cocotbext-axi's."""

import dataclasses
import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out, Signature

from nomul.bus.axi4 import axi4_members, axi4_read_members, axi4_write_members, pass_pins
from nomul.export.rtlil import verilog
from nomul.memory.striped import StripedReader, StripedWriter
from nomul.sim.dram import Dram, DramConfig, attach, verilog_with_dram
from nomul.sim.runner import Simulator, build

pytestmark = pytest.mark.bench

SIZE = 1 << 15


@dataclasses.dataclass(frozen=True)
class Setup:
    """A reader of two clients, a writer, and a memory; without one the pins are those of the top."""

    ports: int
    port_bits: int
    dram: DramConfig | None
    burst: int = 8
    depths: tuple[int, int] = (128, 16)
    address_bits: int = 17

    @property
    def bases(self) -> list[int]:
        return [(5 - 2 * port) * 4096 for port in range(self.ports)]

    @property
    def bytes(self) -> int:
        return self.ports * self.port_bits // 8


def dram(ports: int, port_bits: int, **settings: int) -> DramConfig:
    return DramConfig(ports, port_bits, 17, SIZE, **settings)


SETUPS = {
    "model": Setup(
        3, 64, dram(3, 64, read_latency=60, rate_bytes=171, rate_cycles=10, refresh_every=200, refresh_cycles=10)
    ),
    "cocotbext": Setup(2, 32, None, burst=4, depths=(32, 7)),
}


RULES = [
    ("m_axi1_araddr", None, "AR changed"),
    ("m_axi1_arvalid", None, "AR changed"),
    ("m_axi1_wdata", None, "W changed"),
    ("m_axi1_awaddr", 1, "not that of a beat"),
    ("m_axi1_wlast", 1, "WLAST"),
    ("m_axi1_arburst", 3, "not INCR"),
    ("m_axi1_arsize", 1, "narrower"),
    ("m_axi1_arlen", 128, "4096"),
]
"""Ways to break a rule: a pin, the bits that are wrong (bit 0 in every second cycle without), what the model says."""


class Bench(Component):
    """Reader, writer and perhaps a memory."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        place = (setup.ports, setup.port_bits, setup.address_bits)
        self.reader = StripedReader(*place, 2, setup.burst, setup.depths, count_bits=12)
        self.writer = StripedWriter(*place, outstanding=5)
        members: dict[str, Any] = {
            name: self.reader.signature.members[name] for name in ("commands", "words", "bases", "bus_reset")
        }
        members["writes"] = self.writer.signature.members["writes"]
        members |= {name: Out(1) for name in ("idle", "read_error", "write_error")}
        if setup.dram:
            self.dram = Dram(setup.dram)
            inner = ("stall", "error_low", "error_high", "violation", "read_beats", "write_beats")
            members |= {name: self.dram.signature.members[name] for name in inner} | {"disturb": In(len(RULES))}
        else:
            members |= axi4_members("m_axi", setup.ports, setup.address_bits, setup.port_bits)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Wire them together."""
        m = Module()
        m.submodules.reader = reader = self.reader
        m.submodules.writer = writer = self.writer
        for unit in (reader, writer):
            m.d.comb += unit.bus_reset.eq(self.bus_reset)
            m.d.comb += [unit.bases[port].eq(self.bases[port]) for port in range(self.setup.ports)]
        pairs = [(self.writes, writer.writes)]
        for client in range(2):
            pairs += [(self.commands[client], reader.commands[client]), (reader.words[client], self.words[client])]
        for source, sink in pairs:
            m.d.comb += [sink.payload.eq(source.payload), sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
        m.d.comb += [
            self.idle.eq(writer.idle & writer.drained & reader.drained),
            self.read_error.eq(reader.error),
            self.write_error.eq(writer.error),
        ]
        if self.setup.dram:
            m.submodules.dram = memory = self.dram
            attach(m, memory, self._disturbed(m))
            m.d.comb += memory.bus_reset.eq(self.bus_reset)
            for name in ("stall", "error_low", "error_high"):
                m.d.comb += getattr(memory, name).eq(getattr(self, name))
            for name in ("violation", "read_beats", "write_beats"):
                m.d.comb += getattr(self, name).eq(getattr(memory, name))
        else:
            for port in range(self.setup.ports):
                place = (f"m_axi{port}", self.setup.address_bits, self.setup.port_bits)
                m.d.comb += pass_pins(self, reader, axi4_read_members(*place))
                m.d.comb += pass_pins(self, writer, axi4_write_members(*place))
        return m

    def _disturbed(self, m: Module) -> Any:
        """Return pins of both masters, of which port 1 breaks the rules that `disturb` says."""
        pins = Signature(self.dram.pins("m_axi", self.setup.ports)).create()
        toggle = Signal()
        m.d.sync += toggle.eq(~toggle)
        flips = {
            pin: Mux(on, toggle if mask is None else mask, 0)
            for on, (pin, mask, _) in zip(self.disturb, RULES, strict=True)
        }
        for name, member in pins.signature.members.items():
            master = getattr(self.reader if hasattr(self.reader, name) else self.writer, name)
            if member.flow is In:
                m.d.comb += master.eq(getattr(pins, name))
            else:
                m.d.comb += getattr(pins, name).eq(master ^ flips.get(name, 0))
        return pins


@functools.cache
def built(name: str, simulator: str) -> Simulator:
    text = verilog_with_dram if SETUPS[name].dram else verilog
    return build(text(Bench(SETUPS[name]), "striped"), "striped", simulator)


@dataclasses.dataclass
class Store:
    """A word to be written, and which of its bytes."""

    word: int
    data: bytes
    strobe: int


def run(
    name: str, simulator: str, folder: Path, commands: list[list[tuple[int, int]]], stores: list[Store] | None = None,
    **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Do stores, then reads of (word, count); compare every word with a plain model of the bytes."""
    setup, stores = SETUPS[name], stores or []
    contents = np.random.default_rng(9).integers(0, 256, SIZE, dtype=np.uint8)
    (folder / "dram.bin").write_bytes(contents.tobytes())
    stride = setup.port_bits // 8
    address_bits = setup.address_bits - (stride.bit_length() - 1)
    case: dict[str, Any] = {
        "stall": 0.0,
        "gaps": 0.0,
        "holds": [0.0, 0.0],
        "resets": [],
        "seed": 1,
        "errors": [0, 0],
        "disturb": 0,
    }
    case |= {"limit": 30_000, "bases": setup.bases, "ports": setup.ports, "address_bits": setup.address_bits}
    case |= settings
    case["writes"] = []
    for store in stores:
        payload = store.word | int.from_bytes(store.data, "little") << address_bits
        case["writes"].append(f"{payload | store.strobe << address_bits + 8 * setup.bytes:x}")
    case["commands"] = [[f"{word | count << address_bits:x}" for word, count in given] for given in commands]
    case["words"] = [sum(count for _, count in given) for given in commands]
    said = built(name, simulator).run("nomul.sim.striped_bench", case, folder=folder)
    if case["disturb"]:
        return said

    for store in stores:
        for byte in range(setup.bytes):
            if store.strobe >> byte & 1:
                port, lane = divmod(byte, stride)
                contents[setup.bases[port] + store.word * stride + lane] = store.data[byte]
    for client, given in enumerate(commands):
        expected = []
        for first, count in given:
            for word in range(first, first + count):
                places = [base + word * stride for base in setup.bases]
                stripes = [contents[place : place + stride].tobytes() for place in places]
                expected.append(f"{int.from_bytes(b''.join(stripes), 'little'):x}")
        assert len(said["words"][client]) == len(expected), f"client {client}"
        if not settings.get("errors"):
            assert said["words"][client] == expected, f"client {client}"
    assert not said.get("violation")
    if not settings.get("errors"):
        assert not said["read_error"] and not said["write_error"]
    return said


def draw(name: str, seed: int, count: int, longest: int) -> tuple[list[list[tuple[int, int]]], list[Store]]:
    """Return random commands of both clients and random stores in the same places."""
    dice, width = random.Random(seed), SETUPS[name].bytes
    commands = [
        [(dice.randrange(300), dice.choice((1, 2, dice.randint(1, longest)))) for _ in range(count)] for _ in range(2)
    ]
    stores = [
        Store(dice.randrange(300), dice.randbytes(width), dice.choice((0, dice.getrandbits(width), (1 << width) - 1)))
        for _ in range(count)
    ]
    return commands, stores


@pytest.mark.parametrize("name", SETUPS)
class TestStriped:
    def test_what_is_written_is_read(self, name: str, simulator_name: str, tmp_path: Path) -> None:
        commands, stores = draw(name, 1, 40, 50)
        run(name, simulator_name, tmp_path, commands, stores)

    def test_back_pressure_changes_nothing(self, name: str, simulator_name: str, tmp_path: Path) -> None:
        for seed, (stall, gaps, holds) in enumerate([(0.5, 0.3, [0.3, 0.6]), (0.8, 0.0, [0.0, 0.0])]):
            commands, stores = draw(name, seed, 25, 40)
            run(name, simulator_name, tmp_path, commands, stores, stall=stall, gaps=gaps, holds=holds, seed=seed)

    def test_reset_in_mid_flight(self, name: str, simulator_name: str, tmp_path: Path) -> None:
        """What was on the bus is finished, and its words do not come."""
        dice = random.Random(4)
        commands, stores = draw(name, 4, 20, 40)
        resets = [dice.randint(1, 120) for _ in range(16)]
        run(name, simulator_name, tmp_path, commands, stores, stall=0.2, resets=resets)


class TestReader:
    def test_full_rate(self, simulator_name: str, tmp_path: Path) -> None:
        """Once the first word has come, one comes every cycle, also between commands."""
        said = run("cocotbext", simulator_name, tmp_path, [[(0, 64), (64, 72), (0, 8), (129, 200)], []])
        (times, _) = said["times"]
        assert times[-1] - times[0] + 1 == len(times) == 344

    def test_latency_bandwidth_and_refresh(self, simulator_name: str, tmp_path: Path) -> None:
        """17.1 bytes a cycle in 190 of 200 cycles, for words of 24; latency hides behind bursts under way."""
        said = run("model", simulator_name, tmp_path, [[(0, 250), (0, 250)], []])
        (times, _) = said["times"]
        cycles = 499 * 24 / 17.1 / 0.95
        assert cycles - 16 < times[-1] - times[0] < cycles + 16
        assert said["beats"] == [3 * 500, 0]
        # Four cycles to the address, 60 to the beat, one to the buffer, two through it; and a refresh.
        assert 67 <= times[0] - said["taken"][0][0] <= 80

    def test_a_client_that_waits_stops_no_other(self, simulator_name: str, tmp_path: Path) -> None:
        """Client 0 takes no words at first: what fits its buffer comes, and all of client 1's."""
        said = run("model", simulator_name, tmp_path, [[(0, 300)], [(100, 200)]], holds=[0.97, 0.0])
        assert said["times"][1][-1] < said["times"][0][50]

    def test_the_first_client_goes_first(self, simulator_name: str, tmp_path: Path) -> None:
        said = run("model", simulator_name, tmp_path, [[(0, 300)], [(0, 300)]])
        first, second = said["times"]
        assert first[-1] - first[0] < 2 * (second[-1] - second[0]) / 3

    @pytest.mark.parametrize(("low", "reads", "writes"), [(200, 1, 0), (40, 0, 1)])
    def test_errors_are_kept(self, low: int, reads: int, writes: int, simulator_name: str, tmp_path: Path) -> None:
        """A beat at word `low` of port 1 is answered with SLVERR; a word is read, another one written."""
        place = SETUPS["model"].bases[1] + 8 * low
        stores = [Store(40, bytes(24), 1 << 23)]
        said = run(
            "model", simulator_name, tmp_path, [[(190, 10 + reads)], [(1, 1)]], stores, errors=[place, place + 8]
        )  # fmt: skip
        assert (said["read_error"], said["write_error"]) == (reads, writes)


class TestRules:
    @pytest.mark.parametrize("number", range(len(RULES)))
    def test_the_model_sees_a_broken_rule(self, number: int, simulator_name: str, tmp_path: Path) -> None:
        stores = [Store(word, bytes(24), -1 + (1 << 24)) for word in range(20)]
        settings = {"disturb": 1 << number, "stall": 0.5, "limit": 300}
        said = run("model", simulator_name, tmp_path, [[(440, 80)], []], stores, **settings)
        assert said["violation"]
        assert RULES[number][2] in (tmp_path / "log.txt").read_text()

    def test_refused(self) -> None:
        for wrong, message in [
            ((0, 64, 32, 1), "ports is 0"),
            ((1, 48, 32, 1), "port_bits is 48"),
            ((1, 64, 12, 1), "address_bits is 12"),
            ((1, 64, 32, 0), "clients is 0"),
            ((1, 512, 32, 1, 128), "burst is 128; allowed: powers of two up to 64"),
            ((1, 64, 32, 1, 16, 15), "depth is 15"),
            ((1, 64, 32, 1, 16, 16, 1), "outstanding is 1"),
        ]:
            with pytest.raises(ValueError, match=message):
                StripedReader(*wrong)
        with pytest.raises(ValueError, match="outstanding is 0"):
            StripedWriter(1, 64, 32, 0)
