"""Small memories with one writer and many readers: the tables of table-look-up engines."""

from amaranth.hdl import Array, Cat, Const, Module, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.target import AMD, Target
from nomul.arith.xilinx import lutram, lutram_bits

__all__ = ["LookupMemory"]

_PAGE = 64
"""Words of the deepest LUTRAM with many ports on AMD parts."""


class LookupMemory(Component):
    """A memory of `depth` words, written one word a cycle and read asynchronously by many readers.

    It is distributed RAM on every family that has it. Portably each reader has a copy; a synthesiser gives each a
    primitive of its own. On AMD parts the words of all readers are cut into pieces as wide as a LUTRAM's read port, and
    the pieces, whosever they are, fill one LUTRAM after the other: four readers of a 10-bit word take 20 ports of two
    bits in 24 look-up tables where four copies take 32. In standard cells all readers share the flip-flops.

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
        """Build the copies or the ports."""
        m = Module()
        if self.target in AMD:
            self._ports(m)
            return m
        shared = self.readers if self.target is Target.CELLS else 1
        for first in range(0, self.readers, shared):
            memory = Memory(shape=self.width, depth=self.depth, init=[], attrs={"ram_style": "distributed"})
            m.submodules[f"copy{first}"] = memory
            port = memory.write_port()
            m.d.comb += [
                port.en.eq(self.write_enable),
                port.addr.eq(self.write_address),
                port.data.eq(self.write_data),
            ]
            for reader in range(first, first + shared):
                read = memory.read_port(domain="comb")
                m.d.comb += [read.addr.eq(self.addresses[reader]), self.words[reader].eq(read.data)]
        return m

    def _ports(self, m: Module) -> None:
        """Build pages of LUTRAM, each with a port for every piece of every reader's word."""
        bits = lutram_bits(min(self.depth, _PAGE))
        lows = range(0, self.width, bits)
        found: list[list[Value]] = []  # [page][port]
        for page in range(-(-self.depth // _PAGE)):
            enable: Value = self.write_enable
            if self.depth > _PAGE:
                enable = enable & (self.write_address[6:] == page)
            pieces = [Cat(self.write_data[low : low + bits], Const(0, bits))[:bits] for low in lows]
            ports = [(piece, self.addresses[reader][:6]) for reader in range(self.readers) for piece in pieces]
            found.append(
                lutram(m, f"page{page}_", self.target, min(self.depth, _PAGE), (enable, self.write_address[:6]), ports)
            )
        for reader in range(self.readers):
            mine = slice(reader * len(lows), (reader + 1) * len(lows))
            words = [Cat(*page[mine])[: self.width] for page in found]
            m.d.comb += self.words[reader].eq(
                Array(words)[self.addresses[reader][6:]] if self.depth > _PAGE else words[0]
            )
