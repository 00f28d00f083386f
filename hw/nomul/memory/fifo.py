"""A first-in first-out queue in a memory with a registered read port, so that a wide one can be block RAM."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Fifo"]


class Fifo(Component):
    """A queue whose writer keeps count of its room: a write to a full queue is lost.

    A payload written at cycle t is offered at t + 2 when the queue is empty, and one is taken every cycle.

    Parameters
    ----------
    shape : ShapeLike
        Payload.
    depth : int
        Payloads held, besides the one that is offered.
    style : str or None
        The `ram_style` of the memory, for example "block"; None leaves the choice to the synthesiser.

    Members
    -------
    write : In(1)
    payload : In(shape)
    output : Out(stream)
    taken : Out(1)
        One payload leaves the queue in this cycle.
    """

    LATENCY = 2
    """Cycles from a payload's entering an empty queue to its being offered."""

    def __init__(self, shape: ShapeLike, depth: int, style: str | None = None) -> None:
        self.shape, self.depth, self.style = shape, depth, style
        super().__init__(
            {
                "write": In(1),
                "payload": In(shape),
                "output": Out(stream.Signature(shape)),
                "taken": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory and its pointers."""
        m = Module()
        # A payload is fetched only after the cycle in which it was written.
        attrs = {"no_rw_check": 1} | ({"ram_style": self.style} if self.style else {})
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.depth, init=[], attrs=attrs)
        write, read = memory.write_port(), memory.read_port(domain="comb")
        waiting, some = Signal(range(self.depth + 1)), Signal()  # payloads in the memory, and whether there are any
        head = Signal(self.shape, reset_less=True)
        fetch = Signal()
        m.d.comb += [
            write.addr.eq(self._pointer(m, self.write, "writing")),
            write.data.eq(self.payload),
            write.en.eq(self.write),
            self.taken.eq(self.output.valid & self.output.ready),
            fetch.eq(some & (~self.output.valid | self.output.ready)),
            read.addr.eq(self._pointer(m, fetch, "reading")),
        ]
        m.d.comb += self.output.payload.eq(head)
        with m.If(fetch):
            m.d.sync += [self.output.valid.eq(1), head.eq(read.data)]
        with m.Elif(self.taken):
            m.d.sync += self.output.valid.eq(0)
        with m.If(self.write & ~fetch):
            m.d.sync += [waiting.eq(waiting + 1), some.eq(1)]
        with m.Elif(~self.write & fetch):
            m.d.sync += [waiting.eq(waiting - 1), some.eq(waiting != 1)]
        return m

    def _pointer(self, m: Module, advance: Signal, name: str) -> Signal:
        pointer = Signal(range(self.depth), name=name)
        with m.If(advance):
            m.d.sync += pointer.eq(pointer + 1)
        if self.depth & (self.depth - 1):
            with m.If(advance & (pointer == self.depth - 1)):
                m.d.sync += pointer.eq(0)
        return pointer
