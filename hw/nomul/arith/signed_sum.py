"""The sum of many conditionally negated terms and one addend, pipelined, one addition a stage.

    total = addend + sum_i (-1)^signs[i] * words[i]

This is the adder tree of every table-look-up engine. Written plainly, negating costs one look-up table a bit. Each form
hides it in the adders: a negation is a complement plus one, and the plus ones travel to carry inputs. An addition that
removes k operands has k of them, so they suffice exactly and the sum needs no correction.

===========================  =========================================================================
`RelativeSignSum`            portable: x + (y ^ r) + r, r the two signs' difference; one sign moves up
`ternary_sum.TernarySum`     AMD: pairs of negatable terms in one LUT6_2 a bit, then three-operand
                             adders that take two sums and one more negatable term
`pair_sum.PairSum`           ECP5: the four inputs of a carry cell are two bits and their two negations
===========================  =========================================================================
"""

import functools

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from nomul.arith.pair_sum import PairSum
from nomul.arith.sum_terms import SumTiming, sum_members, sum_width
from nomul.arith.target import Target
from nomul.arith.ternary_sum import TernarySum
from nomul.shared_module import SharedModule

__all__ = ["RelativeSignSum", "signed_sum", "sum_timing"]


@functools.cache
def sum_timing(terms: int, target: Target, negatable: bool = True) -> SumTiming:
    """Return the timing of the form that `signed_sum` returns for the same arguments."""
    if target in (Target.PORTABLE, Target.CELLS, Target.ECP5):
        return SumTiming((terms - 1).bit_length() + 1, (0,) * terms)
    return TernarySum.timing(terms, negatable)


def signed_sum(
    terms: int, magnitude: int, total_width: int, target: Target, negatable: bool = True, clearable: bool = False
) -> "RelativeSignSum | TernarySum | PairSum":
    """Return the best form for a target; `RelativeSignSum` documents the parameters and the ports.

    Standard cells take the portable form.
    """
    if target in (Target.PORTABLE, Target.CELLS):
        return RelativeSignSum(terms, magnitude, total_width, negatable, clearable)
    if target is Target.ECP5:
        return PairSum(terms, magnitude, total_width, negatable, clearable)
    return TernarySum(terms, magnitude, total_width, target, negatable, clearable=clearable)


class RelativeSignSum(SharedModule):
    """Portable form: a binary tree in which each adder takes one relative sign.

    A node holds a value and the sign still to be applied to it. Two nodes x, y with signs s, t become
    x + (y ^ r) + r with r = s ^ t and sign s; the last adder applies the last sign.

    Parameters
    ----------
    terms : int
        Number of terms.
    magnitude : int
        Largest absolute value of a term; a negatable term itself lies in [-magnitude, magnitude - 1].
    total_width : int
        Width of the addend and of the total; the sum is taken modulo 2^total_width.
    negatable : bool
        Without it the signs are ignored and cost nothing.
    clearable : bool
        Whether the addend can be left out; only where no term is negatable.

    Attributes
    ----------
    terms, magnitude, total_width, negatable, clearable
        The parameters. `sum_timing` says when the ports are used.

    Members
    -------
    words : In(signed).array(terms)
    signs : In(1).array(terms)
        One negates the term.
    addend : In(signed(total_width))
    clear : In(1)
        The addend counts as zero; with `clearable`.
    update : In(1)
        The total is made in this cycle, as it is if this port is left alone; otherwise it stays.
    total : Out(signed(total_width))
        A register.
    """

    def __init__(
        self, terms: int, magnitude: int, total_width: int, negatable: bool = True, clearable: bool = False
    ) -> None:
        assert not (negatable and clearable)
        self.terms, self.magnitude, self.total_width = terms, magnitude, total_width
        self.negatable, self.clearable = negatable, clearable
        super().__init__(sum_members(terms, magnitude, total_width, negatable, clearable=clearable))

    def build(self, platform: object) -> Module:
        """Build the tree."""
        m = Module()
        nodes: list[tuple[Value, Value, int]] = [
            (word, sign if self.negatable else Const(0, 1), self.magnitude)
            for word, sign in zip(self.words, self.signs, strict=True)
        ]
        while len(nodes) > 1:
            level: list[tuple[Value, Value, int]] = []
            for (x, s, x_most), (y, t, y_most) in zip(nodes[::2], nodes[1::2], strict=False):
                most = x_most + y_most
                node = Signal(signed(sum_width(most, self.negatable)), reset_less=True)
                m.d.sync += node.eq(self._add(x, y, s ^ t) if self.negatable else x + y)
                level.append((node, self._delay(m, s), most))
            if len(nodes) % 2:
                x, s, most = nodes[-1]
                node = Signal(x.shape(), reset_less=True)
                m.d.sync += node.eq(x)
                level.append((node, self._delay(m, s), most))
            nodes = level
        ((word, sign, _),) = nodes
        addend = Mux(self.clear, 0, self.addend) if self.clearable else self.addend
        with m.If(self.update):
            m.d.sync += self.total.eq(self._add(addend, word, sign) if self.negatable else addend + word)
        return m

    @staticmethod
    def _add(x: Value, y: Value, negate: Value) -> Value:
        """Return x + y or x - y. The lowest column makes the carry-in: not every synthesiser finds it in x + y + c."""
        flipped = y ^ negate.replicate(len(y)).as_signed()
        return (Cat(Const(1, 1), x).as_signed() + Cat(negate, flipped).as_signed()) >> 1

    def _delay(self, m: Module, sign: Value) -> Value:
        if not self.negatable:
            return sign
        delayed = Signal()
        m.d.sync += delayed.eq(sign)
        return delayed
