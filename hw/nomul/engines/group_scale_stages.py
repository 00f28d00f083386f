"""The scale unit on ECP5: that of `nomul.engines.group_scale` in stages of one carry chain each.

A chain's columns gate both of their operands, so two bits of a zero point or of a scale take one chain: zero points are
read as they are, b0 * word + b1 * 2 * word, and the pairs of a scale, digits -2 to 1, as b0 * word - ~b1 * 2 * word.

    1   the picked sum; the zero point's pairs times the sum of the activations
    2   the picked sum less the lower pair
    3   less the higher pair: the group's value
    4   the digits of the scale times it
    5   the last bit of the scale joins the highest digit
    6   digits meet, two at a time, one stage for each doubling
    ..  the total
"""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from nomul.arith import lattice
from nomul.arith.pipeline import Delays
from nomul.arith.plane_sum import Number, add_shifted
from nomul.engines.group_scale import ScaleConfig, entry_layout

__all__ = ["StagedScale", "scale_stages", "staged_product"]


def scale_stages(scale_bits: int) -> int:
    """Return the cycles from a row's pick to its total."""
    return 6 + (-(-scale_bits // 2) - 1).bit_length()


def staged_product(m: Module, group: Value, scale: Value, width: int) -> Value:
    """Return a group's value times a scale, modulo 2^width, `scale_stages` - 4 cycles later.

    Parameters
    ----------
    group : Value
        In two's complement.
    scale : Value
        With its offset, as in an entry: pairs of bits are digits -2 to 1, and the last bit is 0 or 1.
    """
    delay, bits = Delays(m), len(group)
    twice, one = Cat(Const(0, 1), group), Const(1, 1)
    most = 1 << bits
    digits: list[Number] = []
    for pair in range(0, len(scale) - 1, 2):
        digit = Signal(signed(bits + 2), name=f"digit{pair}", reset_less=True)
        chain = lattice.add_gated(
            m, f"digit{pair}", twice, ~scale[pair + 1], group, scale[pair], len(digit), complemented=True, plus_one=True
        )
        m.d.sync += digit.eq(chain)
        digits.append((digit, most))
    # The last bit joins the highest digit.
    low, high = digits[-1][0], delay(group, 1)
    top = Signal(signed(bits + 4), name="top", reset_less=True)
    m.d.sync += top.eq(Cat(low[:2], lattice.add_gated(m, "top", low[2:], one, high, delay(scale[-1], 1), len(top) - 2)))
    digits = [*((delay(digit, 1), most) for digit, _ in digits[:-1]), (top, 5 * most)]
    shift = 2
    while len(digits) > 1:
        pairs = enumerate(zip(digits[::2], digits[1::2], strict=False))
        met = [add_shifted(m, f"digits{shift}_{i}", x, y, shift, width) for i, (x, y) in pairs]
        digits = met + ([(delay(digits[-1][0], 1), digits[-1][1])] if len(digits) % 2 else [])
        shift *= 2
    return digits[0][0]


class StagedScale(Component):
    """The unit of `turn` rows; ports and order of rows are those of `nomul.engines.group_scale.GroupScale`.

    Cycle schedule: as there, but `begin` is taken with a row's total, and that is whole `scale_stages` cycles after its
    pick. No sum has low columns that are ahead, and no entry a correction.

    Parameters
    ----------
    config : ScaleConfig
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        super().__init__(
            {
                "sums": In(config.group_width).array(config.turn),
                "take": In(1),
                "pick": In(config.turn),
                "begin": In(1),
                "sum": In(signed(config.sum_width)),
                "entry": In(entry_layout(config)),
                "totals": Out(signed(config.total_width)).array(config.fold * config.turn),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the waiting sums, the stages and the ring."""
        m = Module()
        config, delay = self.config, Delays(m)
        group = self._group(m, delay)
        product = staged_product(m, group, delay(self.entry.scale, 3), config.total_width)

        busy = delay(self.pick.any(), scale_stages(config.scale_bits) - 1)
        places = config.fold * config.turn
        ring = [Signal(config.total_width, name=f"total{place}", reset_less=True) for place in range(places)]
        total = lattice.add_cleared(m, "total", ring[0], product, self.begin)
        with m.If(busy):
            m.d.sync += [place.eq(source) for place, source in zip(ring, [*ring[1:], total], strict=True)]
        m.d.comb += [out.eq(place) for out, place in zip(self.totals, ring, strict=True)]
        return m

    def _group(self, m: Module, delay: Delays) -> Value:
        """Return the picked row's group sum, less its zero points."""
        config, zero = self.config, self.entry.zero
        choice: Value = Const(0, config.group_width)
        for row, live in enumerate(self.sums):
            waiting: Value = live
            if row:
                waiting = Signal(config.group_width, name=f"waiting{row}", reset_less=True)
                with m.If(self.take):
                    m.d.sync += waiting.eq(live)
            choice = choice | waiting & self.pick[row].replicate(config.group_width)
        value = Signal(config.group_width, name="picked", reset_less=True)
        m.d.sync += value.eq(choice)
        twice = Cat(Const(0, 1), self.sum)
        for stage, pair in enumerate(range(0, config.code_bits, 2)):
            chain = Signal(signed(config.sum_width + 2), name=f"zero{pair}", reset_less=True)
            m.d.sync += chain.eq(
                lattice.add_gated(m, f"zero{pair}", self.sum, zero[pair], twice, zero[pair + 1], len(chain))
            )
            less = Signal(config.group_width, name=f"less{pair}", reset_less=True)
            difference = lattice.add(
                m, f"less{pair}", value[pair:], Const(0, 1), delay(chain, stage), Const(1, 1), Const(1, 1),
                config.group_width - pair,
            )  # fmt: skip
            m.d.sync += less.eq(Cat(value[:pair], difference))
            value = less
        return delay(value, 2 - config.code_bits // 2)
