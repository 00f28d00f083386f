"""The pins of AXI4 masters that read and write a memory in bursts.

The protocol is Arm IHI 0022 (AXI and ACE protocol specification), part A. The masters here use one ID, so that answers
come in order, beats as wide as the data, and bursts of kind INCR. Pins have the conventional names, for example
`m_axi0_araddr`, by which vendors' tools group them; a master that only reads has the channels AR and R, one that only
writes AW, W and B. Locks, regions and quality of service are left at an interconnect's defaults.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from amaranth.lib.wiring import Component, In, Member, Out

__all__ = [
    "BOUNDARY",
    "CACHE",
    "INCR",
    "axi4_members",
    "axi4_read_members",
    "axi4_write_members",
    "beat_size",
    "pass_pins",
]

BOUNDARY = 4096
"""Bytes of an aligned area that a burst does not leave."""

INCR = 0b01
"""ARBURST and AWBURST of a burst of ascending addresses."""

CACHE = 0b0011
"""ARCACHE and AWCACHE of a memory that may be buffered, but not cached."""


def beat_size(data_bits: int) -> int:
    """Return ARSIZE and AWSIZE of beats as wide as the data: log2 of their bytes.

    Raises
    ------
    ValueError
        If AXI4 has no such width.
    """
    if data_bits not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise ValueError(f"an AXI4 port has {data_bits!r} data bits; allowed: powers of two from 8 to 1024")
    return (data_bits // 8).bit_length() - 1


def axi4_read_members(prefix: str, address_bits: int, data_bits: int) -> dict[str, Member]:
    """Return the pins of a master's AR and R channels; the ID has one bit."""
    pins = {
        "arid": Out(1), "araddr": Out(address_bits), "arlen": Out(8), "arsize": Out(3), "arburst": Out(2),
        "arcache": Out(4), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
        "rid": In(1), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
    }  # fmt: skip
    return {f"{prefix}_{name}": member for name, member in pins.items()}


def axi4_write_members(prefix: str, address_bits: int, data_bits: int) -> dict[str, Member]:
    """Return the pins of a master's AW, W and B channels; the ID has one bit."""
    pins = {
        "awid": Out(1), "awaddr": Out(address_bits), "awlen": Out(8), "awsize": Out(3), "awburst": Out(2),
        "awcache": Out(4), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
        "wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
        "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
    }  # fmt: skip
    return {f"{prefix}_{name}": member for name, member in pins.items()}


def axi4_members(prefix: str, ports: int, address_bits: int, data_bits: int) -> dict[str, Member]:
    """Return the pins of masters that read and write; `PREFIX0_araddr` is one of the first."""
    pins: dict[str, Member] = {}
    for port in range(ports):
        for members in (axi4_read_members, axi4_write_members):
            pins |= members(f"{prefix}{port}", address_bits, data_bits)
    return pins


def pass_pins(outer: Component, inner: Component, members: Mapping[str, Member]) -> Iterator[Any]:
    """Yield the assignments by which pins of the same name of a component, or rows of them, are those of one inside."""
    for name, member in members.items():
        pair = getattr(outer, name), getattr(inner, name)
        for without, within in zip(*pair, strict=True) if member.dimensions else [pair]:
            yield within.eq(without) if member.flow is In else without.eq(within)
