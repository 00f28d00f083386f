"""A wide memory with one write and one read port, cut into the widths that suit a technology.

On ECP5 a memory of up to 512 words would become DP16KDs of 36 bits, which read half of them at the write port, where
the output register cannot be used (`nomul.fpga.ecp5_bram_outreg`): 5.8 ns after the clock in place of 0.9. Cut into 18
bits, it takes twice the blocks, and every one has its output register.
"""

from amaranth.hdl import Module, Shape, ShapeLike, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["WideMemory"]

CUT = 18
"""Bits of a DP16KD of which each port reads its own."""


class WideMemory(Component):
    """A memory whose read data are combinational, to be followed by two plain registers.

    A word is never read in the cycle in which it is written.

    Parameters
    ----------
    shape : ShapeLike
        A word.
    depth : int
        Words, 2 or more.
    target : str
        Technology, one of `nomul.arith.target.TARGETS`; all but portable put the memory into block RAM.

    Members
    -------
    write : In(1)
    write_address, read_address : In(unsigned)
    write_data : In(shape)
    read_data : Out(shape)
    """

    def __init__(self, shape: ShapeLike, depth: int, target: str) -> None:
        self.shape, self.depth, self.target = shape, depth, target
        address = (depth - 1).bit_length()
        super().__init__(
            {
                "write": In(1),
                "write_address": In(address),
                "write_data": In(shape),
                "read_address": In(address),
                "read_data": Out(shape),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the slices."""
        m = Module()
        width = Shape.cast(self.shape).width
        cut = CUT if self.target == "ecp5" else width
        attrs = {"no_rw_check": 1} | ({} if self.target == "portable" else {"ram_style": "block"})
        data = Signal(width)
        m.d.comb += Value.cast(self.read_data).eq(data)
        for start in range(0, width, cut):
            part = slice(start, min(start + cut, width))
            m.submodules[f"slice{start}"] = memory = Memory(
                shape=part.stop - start, depth=self.depth, init=[], attrs=attrs
            )
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(self.write_address),
                write.data.eq(Value.cast(self.write_data)[part]),
                write.en.eq(self.write),
                read.addr.eq(self.read_address),
                data[part].eq(read.data),
            ]
        return m
