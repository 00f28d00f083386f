"""The one pass of the fused RMSNorm: products with the gains, and the sum of the squares of a vector.

    products[i] = words[i] * gains[i],   sum = sum_i words[i]^2,   both exact

The operation `rmsnorm_absmax` of docs/numerics.md: the products go to the absmax barrier (`nomul.vector.absmax`), and
the sum with the barrier's maximum to the scale unit (`nomul.vector.scale`).

A square of 20 bits would take two multipliers of UltraScale+ and four of ECP5. With w = 4 h + l it is

    w^2 = 16 h^2 + l (8 h + l),   h 18 bits, signed; l 2 bits

one multiplier of either and two additions.

Cycle schedule: words and gains of t are in registers at t + 1; products t + 2; squares t + 3; their sum over the lanes
t + 3 + levels, levels = ceil(log2 lanes); the sum of the vector t + 4 + levels.
"""

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays

__all__ = ["NormProducts"]

FACTOR_BITS = 18
"""Widest factor of one multiplier on every target, two's complement."""


class NormProducts(Component):
    """Products and sum of squares, a transfer a cycle.

    Parameters
    ----------
    lanes : int
        Words in parallel.
    word_bits : int
        Width of a word, two's complement.
    gain_bits : int
        Width of a gain, two's complement; the least value does not occur.
    length_max : int
        Longest vector, in words.

    Attributes
    ----------
    latency : int
        Cycles from words to products: 2.
    sum_latency : int
        Cycles from a vector's last transfer to its sum: 4 + ceil(log2 lanes).

    Members
    -------
    valid : In(1)
        There is a transfer, which counts in the sum. Products are made of any cycle's words.
    first, last : In(1)
        It begins or ends a vector.
    words : In(data.ArrayLayout(signed(word_bits), lanes))
    gains : In(data.ArrayLayout(signed(gain_bits), lanes))
    products : Out(data.ArrayLayout(signed(word_bits + gain_bits - 1), lanes))
    sum : Out
        Wide enough for `length_max` squares; the sum of a vector when `sum_valid` is set, and until the next valid
        transfer comes as far.
    sum_valid : Out(1)
        One cycle for each vector.
    """

    def __init__(self, lanes: int, word_bits: int = 20, gain_bits: int = 8, *, length_max: int) -> None:
        self.lanes, self.word_bits, self.gain_bits, self.length_max = lanes, word_bits, gain_bits, length_max
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "words": In(data.ArrayLayout(signed(word_bits), lanes)),
                "gains": In(data.ArrayLayout(signed(gain_bits), lanes)),
                "products": Out(data.ArrayLayout(signed(word_bits + gain_bits - 1), lanes)),
                "sum": Out((length_max << (2 * word_bits - 2)).bit_length()),
                "sum_valid": Out(1),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from words to products."""
        return 2

    @property
    def sum_latency(self) -> int:
        """Cycles from a vector's last transfer to its sum."""
        return 4 + (self.lanes - 1).bit_length()

    def elaborate(self, platform: object) -> Module:
        """Build the lanes, the tree and the accumulator."""
        m = Module()
        terms: list[Value] = []
        for lane in range(self.lanes):
            word = Signal(signed(self.word_bits), name=f"word{lane}", reset_less=True)
            gain = Signal(signed(self.gain_bits), name=f"gain{lane}", reset_less=True)
            product = Signal(signed(self.word_bits + self.gain_bits - 1), name=f"product{lane}", reset_less=True)
            m.d.sync += [word.eq(self.words[lane]), gain.eq(self.gains[lane]), product.eq(word * gain)]
            m.d.comb += self.products[lane].eq(product)
            terms.append(self._square(m, lane, word))
        level = 0
        while len(terms) > 1:
            pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
            terms = []
            for number, pair in enumerate(pairs):
                total = pair[0] + pair[1] if len(pair) == 2 else pair[0]
                register = Signal(len(total), name=f"level{level}_{number}", reset_less=True)
                m.d.sync += register.eq(total)
                terms.append(register)
            level += 1
        delay = Delays(m)
        ends = Signal()
        m.d.comb += ends.eq(self.valid & self.last)
        valid, first = (delay(bit, self.sum_latency - 1) for bit in (self.valid, self.first))
        total = Signal(self.sum.shape(), reset_less=True)
        m.d.comb += [self.sum.eq(total), self.sum_valid.eq(delay(ends, self.sum_latency))]
        with m.If(valid):
            m.d.sync += total.eq(Mux(first, 0, total) + terms[0])
        return m

    def _square(self, m: Module, lane: int, word: Value) -> Value:
        """Return the square of `word`, a register, 2 cycles later."""
        low = max(0, self.word_bits - FACTOR_BITS)
        high = word[low:].as_signed()
        upper = Signal(2 * len(high) - 1, name=f"upper{lane}", reset_less=True)
        square = Signal(2 * self.word_bits - 1, name=f"square{lane}", reset_less=True)
        m.d.sync += upper.eq(high * high)
        if not low:
            m.d.sync += square.eq(upper)
            return square
        # l (2 * 2^low h + l), where 2 * 2^low h + l = 2 w - l
        rest: Value = Const(0, signed(1))
        odd = ((high << (low + 1)) + word[:low]).as_signed()
        for bit in range(low):
            rest = rest + Mux(word[bit], odd << bit, 0)
        lower = Signal(signed(self.word_bits + low + 2), name=f"lower{lane}", reset_less=True)
        m.d.sync += [lower.eq(rest), square.eq((upper << (2 * low)) + lower)]
        return square
