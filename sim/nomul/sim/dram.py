"""A DRAM behind AXI4 ports, for simulated machines, and the image of its contents."""

import dataclasses
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Elaboratable, Instance, Module
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.bus.axi4 import axi4_members
from nomul.config import parameter, validate
from nomul.export.rtlil import verilog

__all__ = ["Dram", "DramConfig", "attach", "stripe", "verilog_with_dram"]

MODEL = Path(__file__).with_name("dram.v")


@dataclasses.dataclass(frozen=True)
class DramConfig:
    """Configuration of a DRAM.

    Raises
    ------
    ValueError
        If a field is out of its range.
    """

    ports: int = parameter(1, "AXI4 slaves", low=1, high=16)
    port_bits: int = parameter(64, "data bits of a port", low=32, high=512)
    address_bits: int = parameter(32, "bits of a byte address", low=13, high=64)
    size: int = parameter(1 << 20, "bytes", low=4096, high=1 << 32)
    read_latency: int = parameter(40, "cycles from an address to its first beat, at least", low=1, high=10_000)
    write_latency: int = parameter(
        20, "cycles from a write beat to its effect and answer, at least", low=1, high=10_000
    )
    refresh_every: int = parameter(0, "cycles from one refresh to the next; 0 for none", low=0, high=1 << 30)
    refresh_cycles: int = parameter(0, "cycles that a refresh takes", low=0, high=1 << 20)
    outstanding: int = parameter(16, "bursts of a port and direction that are taken at a time", low=1, high=256)
    rate_bytes: int = parameter(
        0, "bytes that all ports and directions move in rate_cycles; 0: all they can", low=0, high=1 << 24
    )
    rate_cycles: int = parameter(1, "cycles in which rate_bytes are moved", low=1, high=1 << 16)

    def __post_init__(self) -> None:
        """Check each field."""
        validate(self)

    @property
    def rate(self) -> tuple[int, int]:
        """Bytes, and the cycles in which they move."""
        everything = 2 * self.ports * self.port_bits // 8
        return (self.rate_bytes, self.rate_cycles) if self.rate_bytes else (everything, 1)


class Dram(Component):
    """The memory `NOMUL_DRAM` of dram.v; it is in the domain `sync`, whose reset it does not see.

    Parameters
    ----------
    config : DramConfig
    file : str
        File with the contents from address 0 on, in the folder of the simulation; without it, zeros.

    Members
    -------
    s_axi0_*, s_axi1_* ... : AXI4 slaves
    bus_reset : In(1)
        Forget what is on the buses.
    stall : In(8)
        Probability in 256ths that a channel of a port waits in a cycle.
    error_low, error_high : In(address_bits)
        Beats at addresses from the first to below the second are answered with SLVERR.
    violation : Out(1)
        Since the beginning, a master broke a rule of AXI; the console says which.
    read_beats, write_beats : Out(64)
        Beats moved since the beginning.
    """

    def __init__(self, config: DramConfig, file: str = "dram.bin") -> None:
        self.config, self.file = config, file
        super().__init__(
            {
                "bus_reset": In(1),
                "stall": In(8),
                "error_low": In(config.address_bits),
                "error_high": In(config.address_bits),
                "violation": Out(1),
                "read_beats": Out(64),
                "write_beats": Out(64),
            }
            | {name: member.flip() for name, member in self.pins("s_axi", config.ports).items()}
        )

    def pins(self, prefix: str, ports: int) -> dict[str, Member]:
        """Return the pins of masters that fit."""
        return axi4_members(prefix, ports, self.config.address_bits, self.config.port_bits)

    def elaborate(self, platform: object) -> Module:
        """Instantiate the model, whose ports are joined channel by channel."""
        m = Module()
        config = self.config
        names = {name.removeprefix("s_axi0_"): member for name, member in self.pins("s_axi", 1).items()}
        joined: dict[str, Any] = {}
        for name, member in names.items():
            if name in ("arid", "rid", "awid", "bid", "arcache", "arprot", "awcache", "awprot"):
                continue
            pins = Cat(getattr(self, f"s_axi{port}_{name}") for port in range(config.ports))
            joined[f"{'i' if member.flow is Out else 'o'}_{name}"] = pins
        rate_bytes, rate_cycles = config.rate
        m.submodules.model = Instance(
            "NOMUL_DRAM",
            p_PORTS=config.ports,
            p_BITS=config.port_bits,
            p_ADDRESS=config.address_bits,
            p_WORDS=config.size // 4,
            p_FILE=self.file,
            p_RATE_BYTES=rate_bytes,
            p_RATE_CYCLES=rate_cycles,
            p_READ_LATENCY=config.read_latency,
            p_WRITE_LATENCY=config.write_latency,
            p_REFRESH_EVERY=config.refresh_every,
            p_REFRESH_CYCLES=config.refresh_cycles,
            p_OUTSTANDING=config.outstanding,
            i_clk=ClockSignal(),
            i_rst=self.bus_reset,
            i_stall=self.stall,
            i_error_low=self.error_low,
            i_error_high=self.error_high,
            o_violation=self.violation,
            o_read_beats=self.read_beats,
            o_write_beats=self.write_beats,
            **joined,
        )
        return m


def attach(m: Module, dram: Dram, *masters: Component) -> None:
    """Connect masters with pins `m_axi0_*` on, of which each channel is in one, to the slaves."""
    for name in dram.pins("", dram.config.ports):
        slave = getattr(dram, f"s_axi{name}")
        for master in masters:
            pin = getattr(master, f"m_axi{name}", None)
            if pin is not None:
                driven = dram.signature.members[f"s_axi{name}"].flow is In
                m.d.comb += slave.eq(pin) if driven else pin.eq(slave)


def verilog_with_dram(component: Elaboratable, name: str) -> str:
    """Return a design that contains `Dram` as Verilog, with the model."""
    return f"{verilog(component, name)}\n{MODEL.read_text()}"


def stripe(words: bytes, ports: int, port_bits: int) -> list[bytes]:
    """Return the stripe of each port of a memory of words of ports * port_bits bits, lowest byte first.

    The last word is filled up with zeros.
    """
    stride = port_bits // 8
    words += bytes(-len(words) % (ports * stride))
    return [
        b"".join(words[place : place + stride] for place in range(port * stride, len(words), ports * stride))
        for port in range(ports)
    ]
