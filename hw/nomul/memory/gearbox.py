"""Changes the number of values in a transfer."""

import math

from amaranth.hdl import Cat, Const, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Gearbox"]


class Gearbox(Component):
    """Takes vectors of values `lanes_in` at a time and gives them `lanes_out` at a time.

    The last transfer of a vector is filled up with what is left of earlier ones. The next vector is taken when the last
    has left. Values move in pieces of g = gcd(lanes_in, lanes_out): p = lanes_in / g come, q = lanes_out / g go.
    Up to p + q wait; a transfer is taken, and one given, in every cycle in which there is room, or enough.

    Parameters
    ----------
    shape : ShapeLike
        A value.
    lanes_in, lanes_out : int

    Members
    -------
    input : In(stream of {values, last})
        `last` marks the last transfer of a vector.
    output : Out(stream of values)
    """

    def __init__(self, shape: ShapeLike, lanes_in: int, lanes_out: int) -> None:
        self.shape, self.lanes_in, self.lanes_out = shape, lanes_in, lanes_out
        taken = data.StructLayout({"values": data.ArrayLayout(shape, lanes_in), "last": 1})
        super().__init__(
            {
                "input": In(stream.Signature(taken)),
                "output": Out(stream.Signature(data.ArrayLayout(shape, lanes_out))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Shift pieces down as they go, and put those that come behind the rest."""
        m = Module()
        width = Shape.cast(self.shape).width
        piece = math.gcd(self.lanes_in, self.lanes_out)
        come, go = self.lanes_in // piece, self.lanes_out // piece
        size, bits = come + go, width * piece
        held = Signal(size * bits, reset_less=True)
        count, ending = Signal(range(size + 1)), Signal()
        take, give = Signal(), Signal()
        rest, kept = Signal(range(size + 1)), Signal(size * bits)
        m.d.comb += [
            self.output.valid.eq((count >= go) | (ending & (count != 0))),
            Value.cast(self.output.payload).eq(held[: go * bits]),
            give.eq(self.output.valid & self.output.ready),
            self.input.ready.eq(~ending & (count <= size - come)),
            take.eq(self.input.valid & self.input.ready),
            rest.eq(Mux(give, Mux(count >= go, count - go, 0), count)),
            kept.eq(Mux(give, held >> (go * bits), held)),
        ]
        m.d.sync += [held.eq(kept), count.eq(rest)]
        with m.If(take):
            m.d.sync += count.eq(rest + come)
            word = Value.cast(self.input.payload.values)
            with m.Switch(rest):
                for place in range(size - come + 1):
                    with m.Case(place):
                        low, high = place * bits, (place + come) * bits
                        m.d.sync += held.eq(Cat(kept[:low], word, Const(0, size * bits - high)))
        with m.If(take & self.input.payload.last):
            m.d.sync += ending.eq(1)
        with m.Elif(ending & (rest == 0)):
            m.d.sync += ending.eq(0)
        return m
