"""What a row of a BWTA array counts: over many lanes, in how many a weight and an activation agree.

Activations are -1, 0 or 1, in two's complement: bit 0 says that one is not zero (the mask M), bit 1 its sign (S).

=======  ======  ==========================================  ==========================
form     weight  counted in each lane                        sum of products
=======  ======  ==========================================  ==========================
mask     1 bit   M & ~(w ^ S)                                2 * count - popcount(M)
planes   1 bit   (product >= 0) + (product > 0)              count - lanes
ternary  2 bits  (product >= 0) + (product > 0)              count - lanes
=======  ======  ==========================================  ==========================

A weight of one bit is -1 where it is set; one of two bits is coded as an activation. popcount(M) is common to all rows;
the mask form therefore takes half the tree of the others. The planes form counts popcount(w ^ P) and the complement of
popcount(w ^ N), as the kernels of BWTA do (arXiv 2604.03957; github.com/yifu-ding/BGEMM-CUDA, branch w2a3).

Products are registered before they are added: activations come from a block RAM's own register, one for all rows, and
the wires from there take most of a cycle.

On AMD parts the products are made inside the first adders. Mask: two columns of a carry chain take three lanes: one
column's S is the exclusive or of two products in one LUT6 (the second one's mask is I5, so O5 is the first product, the
DI) and its carry-in a third; the next column has S = 0, which brings the carry out as a sum bit, and injects a product
through DI. Ternary: a product takes four inputs, so one dual-output table makes it and adds it to a running bit; every
`RUN` lanes the running bit is left to the tree.
"""

import functools

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from nomul.arith import xilinx
from nomul.arith.bit_count import AMD, Columns, add_rows, reduce_columns, reduce_stages, register_columns
from nomul.arith.target import Target
from nomul.shared_module import SharedModule

__all__ = ["FORMS", "AgreeCount", "agree_stages"]

FORMS = ("mask", "planes", "ternary")
"""What a row counts."""

RUN = 6
"""Lanes whose running bit goes through one table after the other between registers, on AMD parts."""

CHAIN = 12
"""Lanes of a carry chain of the mask form: a CARRY8."""


@functools.cache
def agree_stages(lanes: int, form: str, target: Target) -> int:
    """Return the cycles from the operands of an `AgreeCount` to its count."""
    if target not in AMD:
        return reduce_stages((lanes if form == "mask" else 2 * lanes,), target) + 2
    ones = -(-lanes // 3) if form == "mask" else -(-lanes // RUN)
    return reduce_stages((ones, ones if form == "mask" else lanes), target) + 2


class AgreeCount(SharedModule):
    """Counts agreements of weights and activations.

    Parameters
    ----------
    lanes : int
    form : str
        One of `FORMS`.
    target : Target
        Technology whose form is used.

    Members
    -------
    weights : In(1 or 2).array(lanes)
    activations : In(2).array(lanes)
    count : Out
        `agree_stages` cycles later; a register.
    """

    def __init__(self, lanes: int, form: str, target: Target) -> None:
        self.lanes, self.form, self.target = lanes, form, target
        most = lanes if form == "mask" else 2 * lanes
        super().__init__(
            {
                "weights": In(2 if form == "ternary" else 1).array(lanes),
                "activations": In(2).array(lanes),
                "count": Out(most.bit_length()),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the products, the tree and the last addition."""
        m = Module()
        if self.target not in AMD:
            columns = [self._products(m)]
        else:
            columns = self._chains(m) if self.form == "mask" else self._runs(m)
        columns = reduce_columns(m, "tree", register_columns(m, "made", columns), self.target)
        m.d.sync += self.count.eq(add_rows(columns))
        return m

    def _products(self, m: Module) -> list[Value]:
        bits: list[Value] = []
        for lane in range(self.lanes):
            weight, activation = self.weights[lane], self.activations[lane]
            if self.form == "mask":
                bits.append(activation[0] & ~(weight[0] ^ activation[1]))
                continue
            counts = activation[0] if self.form == "planes" else activation[0] & weight[0]
            differ = weight[-1] ^ activation[1]
            bits += [counts & ~differ, ~(counts & differ)]
        named = []
        for number, bit in enumerate(bits):
            product = Signal(name=f"product{number}")
            m.d.comb += product.eq(bit)
            named.append(product)
        return named

    def _chains(self, m: Module) -> Columns:
        """Three lanes in two columns of a carry chain."""
        ones: list[Value] = []
        twos: list[Value] = []
        zero = Const(0, 1)
        for first in range(0, self.lanes, CHAIN):
            select: list[Value] = []
            data: list[Value] = []
            for lane in range(first, min(first + CHAIN, self.lanes), 3):
                group = [
                    (self.weights[i], self.activations[i][1], self.activations[i][0])
                    for i in range(lane, min(lane + 3, self.lanes))
                ]
                group += [(zero, zero, zero)] * (3 - len(group))
                (w0, s0, m0), (w1, s1, m1), (w2, s2, m2) = group
                none, injected = xilinx.lut_pair(m, f"b{lane}", [w0, s0, m0], lambda *_: 0, _agree)
                both, one = xilinx.lut_choice(
                    m, f"a{lane}", [w1, s1, m1, w2, s2], m2,
                    lambda w, s, mask, *_: _agree(w, s, mask),
                    lambda w, s, mask, v, t: _agree(w, s, mask) ^ _agree(v, t, 1),
                )  # fmt: skip
                select += [none, both]
                data += [injected, one]
            sums, carry = xilinx.carry_chain(m, f"chain{first}", self.target, select, data, zero)
            ones += list(sums)[1::2]
            twos += [*list(sums)[2::2], carry]
        return [ones, twos]

    def _runs(self, m: Module) -> Columns:
        """A product and a full adder in one table a lane."""
        ones: list[Value] = []
        twos: list[Value] = []
        for first in range(0, self.lanes, RUN):
            running: Value = Const(0, 1)
            for lane in range(first, min(first + RUN, self.lanes)):
                weight = self.weights[lane]
                present = weight[0] if self.form == "ternary" else Const(1, 1)
                running, two = xilinx.lut_pair(
                    m, f"p{lane}", [present, weight[-1], self.activations[lane][0], self.activations[lane][1], running],
                    lambda *i: _both(*i) & 1, lambda *i: _both(*i) >> 1,
                )  # fmt: skip
                twos.append(two)
            ones.append(running)
        return [ones, twos]


def _agree(weight: int, sign: int, mask: int, *_: int) -> int:
    return mask & (1 ^ weight ^ sign)


def _both(present: int, negative: int, mask: int, sign: int, running: int) -> int:
    product = (present & mask) * (1 - 2 * (negative ^ sign))
    return (product >= 0) + (product > 0) + running
