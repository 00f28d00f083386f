"""The AMD form of a product of a signed word and a code of four bits: two carry chains, no multiplier.

    product = (code - 8) * word = (c1 c0) * word + 4 * (c3 c2 - 2) * word

The first chain adds bit c0's copy of the word to c1's: four inputs a column. The second adds the digit -2, -1, 0 or 1
times the word: the sum so far, the two bits of the digit and two bits of the word make five. A negative digit's copy is
a complement; its plus one is the chain's carry-in. So a product takes two look-up tables for each bit of the word and
four more: 20 for eight bits.
"""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from nomul.arith import xilinx
from nomul.arith.digit_sum import add_digits
from nomul.arith.recoding import Digit
from nomul.arith.target import Target
from nomul.shared_module import SharedModule

__all__ = ["NibbleProduct"]


class NibbleProduct(SharedModule):
    """A product in two stages.

    Parameters
    ----------
    width : int
        Of the word.
    target : Target
        `Target.XCUP` or `Target.XC7`.

    Members
    -------
    word : In(signed(width))
    later : In(signed(width))
        The word of the cycle before.
    code : In(4)
    product : Out(signed(width + 4))
        Two cycles later, a register.
    """

    def __init__(self, width: int, target: Target) -> None:
        self.width, self.target = width, target
        super().__init__(
            {
                "word": In(signed(width)),
                "later": In(signed(width)),
                "code": In(4),
                "product": Out(signed(width + 4)),
            }
        )

    def build(self, platform: object) -> Module:
        """Instantiate the two chains and their registers."""
        m = Module()
        low, high, digit = Signal(signed(self.width + 2), reset_less=True), Signal(self.width + 2), Signal(2)

        def bit(word: Value, index: int) -> Value:
            return word[min(index, self.width - 1)] if index >= 0 else Const(0, 1)

        rows = []
        for index in range(self.width + 2):
            inputs = [bit(self.word, index), self.code[0], bit(self.word, index - 1), self.code[1]]
            rows.append(
                xilinx.lut_pair(m, f"low{index}", inputs, lambda a, s, b, t, *_: a & s ^ b & t, lambda a, s, *_: a & s)
            )
        select, data = zip(*rows, strict=True)
        sums, _ = xilinx.carry_chain(m, "low", self.target, select, data, Const(0, 1))
        m.d.sync += [low.eq(Cat(sums)), digit.eq(self.code[2:])]

        # The digit is the code's upper bits less 2.
        rest = Cat(low[2:], low[-1].replicate(2))
        m.d.comb += high.eq(add_digits(m, "high", self.target, rest, [Digit(0, 0, (-2, -1, 0, 1))], digit, self.later))
        m.d.sync += self.product.eq(Cat(low[:2], high))
        return m
