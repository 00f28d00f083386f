"""Small memories with one writer and many readers: the tables of table-look-up engines."""

from amaranth.hdl import Cat, Module
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hw.arith.target import Target

__all__ = ["LookupMemory"]

_SLICES = {Target.XCUP: (2, 7), Target.XC7: (2, 3)}
"""Bits and readers of one LUTRAM primitive with a write port: RAM32M16 and RAM32M."""


class LookupMemory(Component):
    """A memory of `depth` words, written one word a cycle and read asynchronously by many readers.

    It is distributed RAM on every family that has it. Portably each reader has a copy. On AMD parts the memory is cut
    into slices of two bits, each shared by as many readers as the primitive has read ports: seven readers of a 10-bit
    word take five RAM32M16 (5.7 look-up tables each) where seven copies take seven (8 each). In standard cells all
    readers share the flip-flops.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words, a power of two.
    readers : int
        Read ports.
    target : Target
        The technology.

    Members
    -------
    write_enable, write_address, write_data : In
    addresses : In(range(depth)).array(readers)
    words : Out(width).array(readers)
        Combinational.
    """

    def __init__(self, width: int, depth: int, readers: int, target: Target) -> None:
        self.width, self.depth, self.readers, self.target = width, depth, readers, target
        address = max(1, (depth - 1).bit_length())
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(address),
                "write_data": In(width),
                "addresses": In(address).array(readers),
                "words": Out(width).array(readers),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the copies or slices."""
        m = Module()
        bits, shared = _SLICES.get(self.target, (self.width, self.readers if self.target is Target.CELLS else 1))
        for first in range(0, self.readers, shared):
            group = range(first, min(first + shared, self.readers))
            parts: dict[int, list[object]] = {reader: [] for reader in group}
            for low in range(0, self.width, bits):
                high = min(low + bits, self.width)
                memory = Memory(shape=high - low, depth=self.depth, init=[], attrs={"ram_style": "distributed"})
                m.submodules[f"copy{first}_{low}"] = memory
                port = memory.write_port()
                m.d.comb += [
                    port.en.eq(self.write_enable),
                    port.addr.eq(self.write_address),
                    port.data.eq(self.write_data[low:high]),
                ]
                for reader in group:
                    read = memory.read_port(domain="comb")
                    m.d.comb += read.addr.eq(self.addresses[reader])
                    parts[reader].append(read.data)
            for reader in group:
                m.d.comb += self.words[reader].eq(Cat(*parts[reader]))
        return m
