"""A ring of weights between DRAM and an engine: stretches that are read several times while the next ones come in."""

from collections.abc import Mapping
from types import MappingProxyType

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Ring"]


class Ring(Component):
    """Takes words in order, and gives consecutive stretches of them, each `times` times, then the next.

    A stretch may be read before all of it has come. A word's place is free when it has been read for the last time, so
    a stretch that is read once may be longer than the ring; one that is read again must fit it. Words that have come
    beyond a stretch wait for the next.

    Cycle schedule: a word written at t can be read at t + 1 and is offered at t + 3; one is taken every cycle.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        Words; a power of two.
    count_max, times_max : int
        Longest stretch, and how often it may be read.
    attributes : dict
        Further attributes of the memory, for synthesis.

    Members
    -------
    input : In(stream)
    start : In(1)
        Begin a stretch; only after the last one has left.
    count, times : In(unsigned)
        Words of the stretch, and how often it is read; until it has left.
    output : Out(stream)
    """

    def __init__(
        self,
        shape: ShapeLike,
        depth: int,
        count_max: int,
        times_max: int,
        attributes: Mapping[str, str | int] = MappingProxyType({}),
    ) -> None:
        if depth & (depth - 1) or depth < 4:
            raise ValueError(f"Ring depth is {depth}; allowed: powers of two from 4 up")
        self.shape, self.depth, self.attributes = shape, depth, {"no_rw_check": 1, **attributes}
        super().__init__(
            {
                "input": In(stream.Signature(shape)),
                "start": In(1),
                "count": In(range(count_max + 1)),
                "times": In(range(times_max + 1)),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory and its three pointers: written, read, and free."""
        m = Module()
        # A word is read only after the cycle in which it was written.
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.depth, init=[], attrs=self.attributes)
        write, read = memory.write_port(), memory.read_port()
        written, address, base = (Signal(range(2 * self.depth), name=name) for name in ("written", "address", "base"))
        waiting = Signal(range(self.depth + 1))  # words written and not free
        left, times = Signal(self.count.shape()), Signal(self.times.shape())
        busy, loaded, step, fetch, free, take = Signal(), Signal(2), Signal(), Signal(), Signal(), Signal()
        held = Signal(self.shape, reset_less=True)
        room, some = Signal(init=1), Signal()
        m.d.comb += [
            self.input.ready.eq(room),
            take.eq(self.input.valid & self.input.ready),
            write.addr.eq(written),
            write.data.eq(self.input.payload),
            write.en.eq(take),
            step.eq(~self.output.valid | self.output.ready),
            some.eq(written != address),
            fetch.eq(step & busy & some),
            free.eq(fetch & (times == 1)),
            read.addr.eq(address),
            read.en.eq(step),
            self.output.valid.eq(loaded[1]),
            self.output.payload.eq(held),
        ]
        m.d.sync += [waiting.eq(waiting + take - free), room.eq(waiting + take < self.depth - 1)]
        with m.If(take):
            m.d.sync += written.eq(written + 1)
        with m.If(step):
            m.d.sync += [loaded.eq(loaded << 1 | fetch), held.eq(read.data)]
        with m.If(fetch):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += [times.eq(times - 1), left.eq(self.count)]
                with m.If(times == 1):
                    m.d.sync += [busy.eq(0), base.eq(address + 1)]
                with m.Else():
                    m.d.sync += address.eq(base)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), left.eq(self.count), times.eq(self.times)]
        return m
