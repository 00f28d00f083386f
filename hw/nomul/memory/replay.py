"""Reads stretches of a memory, each several times over, as a stream."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from nomul.memory.rom import Rom

__all__ = ["Replay"]


class Replay(Component):
    """Gives consecutive stretches of a `nomul.memory.rom.Rom`: each `times` times, then the next.

    A word is offered three cycles after the start, then one is taken every cycle.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
    file : str
        As for `Rom`.
    times_max : int

    Members
    -------
    rewind : In(1)
        The next stretch begins at word 0.
    start : In(1)
        Begin a stretch; only after the last one has left.
    count, times : In(unsigned)
        Words of the stretch, and how often it is read; taken with `start`.
    output : Out(stream)
    """

    def __init__(self, shape: ShapeLike, depth: int, file: str, times_max: int) -> None:
        self.shape, self.depth, self.file = shape, depth, file
        super().__init__(
            {
                "rewind": In(1),
                "start": In(1),
                "count": In(range(depth + 1)),
                "times": In(range(times_max + 1)),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk the addresses."""
        m = Module()
        m.submodules.memory = memory = Rom(self.shape, self.depth, self.file)
        base, address = Signal(range(self.depth + 1)), Signal(range(self.depth + 1))
        left, times = Signal(self.count.shape()), Signal(self.times.shape())
        busy, loaded, step = Signal(), Signal(Rom.LATENCY), Signal()
        m.d.comb += [
            step.eq(~self.output.valid | self.output.ready),
            memory.enable.eq(step),
            memory.address.eq(address),
            self.output.valid.eq(loaded[-1]),
            self.output.payload.eq(memory.data),
        ]
        with m.If(step):
            m.d.sync += [loaded[0].eq(busy), loaded[1].eq(loaded[0])]
            with m.If(busy):
                m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
                with m.If(left == 1):
                    m.d.sync += [times.eq(times - 1), left.eq(self.count)]
                    with m.If(times == 1):
                        m.d.sync += [busy.eq(0), base.eq(address + 1)]
                    with m.Else():
                        m.d.sync += address.eq(base)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), address.eq(base), left.eq(self.count), times.eq(self.times)]
        with m.If(self.rewind):
            m.d.sync += base.eq(0)
        return m
