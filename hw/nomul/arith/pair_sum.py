"""The ECP5 form of the signed sum."""

from amaranth.hdl import Const, Module, Signal, Value, signed

from nomul.arith import lattice
from nomul.arith.sum_terms import sum_members, sum_width
from nomul.shared_module import SharedModule

__all__ = ["PairSum"]


class PairSum(SharedModule):
    """Signed sum as a binary tree of carry chains whose columns are one half of a CCU2C.

    Stage 0 adds pairs, (a ^ s) + (b ^ t) + s, with one plus one pending; every later addition takes the pending plus
    one of its first operand at the carry-in and hands on that of its second; the last addition takes the last.
    Parameters, attributes and ports are those of `nomul.arith.signed_sum.RelativeSignSum`, and two more, for terms that
    are not negatable.

    Parameters
    ----------
    complemented : bool
        Whether the words are the complements of the terms.
    accumulates : bool
        Without it the addend is ignored and costs nothing.
    """

    def __init__(
        self,
        terms: int,
        magnitude: int,
        total_width: int,
        negatable: bool = True,
        clearable: bool = False,
        *,
        complemented: bool = False,
        accumulates: bool = True,
    ) -> None:
        assert not (negatable and (clearable or complemented or not accumulates))
        assert not (clearable and (complemented or not accumulates))
        self.terms, self.magnitude, self.total_width = terms, magnitude, total_width
        self.negatable, self.clearable = negatable, clearable
        self.complemented, self.accumulates = complemented, accumulates
        super().__init__(sum_members(terms, magnitude, total_width, negatable, clearable=clearable))

    def build(self, platform: object) -> Module:
        """Build the tree."""
        m = Module()
        zero, flip = Const(0, 1), Const(int(self.complemented), 1)
        # A node is (value, the inversion still to be applied, the plus one still to be added, its largest magnitude).
        nodes: list[tuple[Value, Value, Value, int]] = [
            (word, sign, sign, self.magnitude) if self.negatable else (word, flip, zero, self.magnitude)
            for word, sign in zip(self.words, self.signs, strict=True)
        ]
        level_number = 0
        while len(nodes) > 1:
            level: list[tuple[Value, Value, Value, int]] = []
            for i, ((x, s, p, x_most), (y, t, q, y_most)) in enumerate(zip(nodes[::2], nodes[1::2], strict=False)):
                most = x_most + y_most
                node = Signal(signed(sum_width(most, self.negatable)), reset_less=True)
                m.d.sync += node.eq(lattice.add(m, f"l{level_number}_{i}", x, s, y, t, p, len(node)))
                level.append((node, zero, self._delay(m, q), most))
            if len(nodes) % 2:
                x, s, p, most = nodes[-1]
                node = Signal(x.shape(), reset_less=True)
                m.d.sync += node.eq(x)
                level.append((node, self._delay(m, s), self._delay(m, p), most))
            nodes = level
            level_number += 1
        ((word, sign, plus_one, _),) = nodes
        if self.clearable:
            total = lattice.add_cleared(m, "last", self.addend, word, self.clear)
        elif self.accumulates:
            total = lattice.add(m, "last", self.addend, zero, word, sign, plus_one, self.total_width)
        else:
            total = ~word if isinstance(sign, Const) and sign.value else word
        with m.If(self.update):
            m.d.sync += self.total.eq(total)
        return m

    @staticmethod
    def _delay(m: Module, bit: Value) -> Value:
        if isinstance(bit, Const):
            return bit
        delayed = Signal()
        m.d.sync += delayed.eq(bit)
        return delayed
