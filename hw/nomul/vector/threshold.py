"""The activation packer of BWTA: values become -1, 0 and 1, or 0 and 1, by a threshold of half a scale.

    ternary   1 where 2 x > s, -1 where 2 x < -s, otherwise 0
    boolean   1 where 2 x > s, otherwise 0

A value of exactly half the scale becomes 0, as in the kernels of BWTA (github.com/yifu-ding/BGEMM-CUDA, branch w2a3).
The two planes leave as `nomul.engines.bwta` takes its activations: bit 0 of a lane is the mask M = P | N, bit 1 the
sign N, lane 0 lowest.
"""

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Threshold"]


def exceeds(double: Value, scale: Value) -> Value:
    """Tell whether twice a value is above the scale."""
    return double > scale


class Threshold(Component):
    """Packs `lanes` values a cycle, a cycle later.

    Parameters
    ----------
    lanes : int
        Values in a transfer.
    width : int
        Width of a value, two's complement.

    Members
    -------
    scale : In(width)
        s, unsigned, in the unit of the values; it must not change while values are taken that belong to another.
    boolean : In(1)
        Pack 0 and 1.
    values : In(stream of signed(width) x lanes)
    activations : Out(stream of signed(2) x lanes)

    Raises
    ------
    ValueError
        If there is no lane, or a value has fewer than two bits.
    """

    def __init__(self, lanes: int, width: int) -> None:
        if lanes < 1:
            raise ValueError(f"Threshold lanes is {lanes}; allowed: 1 or more")
        if width < 2:
            raise ValueError(f"Threshold width is {width}; allowed: 2 or more")
        self.lanes, self.width = lanes, width
        super().__init__(
            {
                "scale": In(width),
                "boolean": In(1),
                "values": In(stream.Signature(data.ArrayLayout(signed(width), lanes))),
                "activations": Out(stream.Signature(data.ArrayLayout(signed(2), lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Compare each value with both thresholds."""
        m = Module()
        out = self.activations
        m.d.comb += self.values.ready.eq(~out.valid | out.ready)
        with m.If(self.values.ready):
            m.d.sync += out.valid.eq(self.values.valid)
        with m.If(self.values.ready & self.values.valid):
            for lane in range(self.lanes):
                double = Signal(signed(self.width + 1), name=f"double{lane}")
                plus, minus = Signal(name=f"plus{lane}"), Signal(name=f"minus{lane}")
                m.d.comb += [
                    double.eq(self.values.payload[lane] << 1),
                    plus.eq(exceeds(double, self.scale)),
                    minus.eq((double + self.scale < 0) & ~self.boolean),
                ]
                m.d.sync += out.payload[lane].eq(Cat(plus | minus, minus).as_signed())
        return m
