"""A large memory with one port, read or written in a cycle: single-port RAM of iCE40 UltraPlus, or block RAM."""

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["KINDS", "SPRAM_BITS", "SPRAM_WORDS", "SinglePortMemory"]

KINDS = ("block", "spram")
"""Block RAM of any family, or SB_SPRAM256KA."""

SPRAM_WORDS, SPRAM_BITS = 16384, 16


class SinglePortMemory(Component):
    """A memory whose data come a cycle after their address.

    Parameters
    ----------
    width : int
        Bits of a word; a multiple of 16 for single-port RAM.
    depth : int
        Words; up to 16384 for single-port RAM.
    kind : str
        One of `KINDS`.

    Members
    -------
    address : In
    write : In(1)
    write_data : In(width)
    read_data : Out(width)
        Of the last cycle's address, if it did not write.

    Raises
    ------
    ValueError
        If the kind does not exist or has no such size.
    """

    def __init__(self, width: int, depth: int, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"SinglePortMemory kind is {kind!r}; allowed: {', '.join(KINDS)}")
        if kind == "spram" and (width % SPRAM_BITS or depth > SPRAM_WORDS):
            raise ValueError(f"SinglePortMemory of {depth} x {width} bits; single-port RAM has 16384 x 16 in each")
        self.width, self.depth, self.kind = width, depth, kind
        super().__init__(
            {"address": In(range(depth)), "write": In(1), "write_data": In(width), "read_data": Out(width)}
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory."""
        m = Module()
        if self.kind == "block":
            m.submodules.memory = memory = Memory(
                shape=self.width, depth=self.depth, init=[], attrs={"no_rw_check": 1, "ram_style": "block"}
            )
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.addr.eq(self.address),
                write.data.eq(self.write_data),
                write.en.eq(self.write),
                read.addr.eq(self.address),
                read.en.eq(~self.write),
                self.read_data.eq(read.data),
            ]
            return m
        parts = []
        for number in range(self.width // SPRAM_BITS):
            part = Signal(SPRAM_BITS, name=f"part{number}")
            parts.append(part)
            m.submodules[f"ram{number}"] = Instance(
                "SB_SPRAM256KA",
                i_ADDRESS=Cat(self.address, Signal(14 - len(self.address))) if len(self.address) < 14 else self.address,
                i_DATAIN=self.write_data.word_select(number, SPRAM_BITS),
                i_MASKWREN=0xF,
                i_WREN=self.write,
                i_CHIPSELECT=1,
                i_CLOCK=ClockSignal(),
                i_STANDBY=0,
                i_SLEEP=0,
                i_POWEROFF=1,
                o_DATAOUT=part,
            )
        m.d.comb += self.read_data.eq(Cat(*parts))
        return m
