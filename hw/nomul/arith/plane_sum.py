"""The ECP5 form of a sum of words times unsigned codes: a sum for each bit of the codes.

    total = addend + sum_i codes[i] * words[i]  =  addend + sum_b 2^b * (sum_i codes[i][b] * words[i])

A column of a carry chain gates both of its operands (`nomul.arith.lattice.add_gated`), so a pair of words is selected
and added up by half a CCU2C a bit, without a product before it. Each bit of the codes has a tree of its own, whose
numbers are no wider than the words' sums, and trees meet at the end: for eight bits and codes of four, 16 terms take 45
look-up tables each, with the accumulator, where products of shifted copies and their tree take 90.
"""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from nomul.arith import lattice
from nomul.shared_module import SharedModule

__all__ = ["Number", "PlaneSum", "add_shifted", "plane_latency"]

Number = tuple[Value, int]
"""A signed value, and the largest absolute value that it has."""


def plane_latency(terms: int, code_bits: int) -> int:
    """Return the cycles from the operands of a `PlaneSum` to the total: pairs, trees, the planes' sum, the total."""
    return 1 + (-(-terms // 2) - 1).bit_length() + (code_bits - 1).bit_length() + 1


def add_shifted(m: Module, name: str, low: Number, high: Number, shift: int, most_bits: int) -> Number:
    """Return a register of low + (high << shift), modulo 2^most_bits; the lowest `shift` bits pass by the adder."""
    most = low[1] + (high[1] << shift)
    width = min(most.bit_length() + 1, most_bits)
    zero = Const(0, 1)
    value = low[0].as_signed()
    total = Cat(
        value[:shift],
        lattice.add(m, name, value[shift:], zero, high[0], zero, zero, width - shift),
    )
    register = Signal(signed(width), name=name, reset_less=True)
    m.d.sync += register.eq(total)
    return register, most


class PlaneSum(SharedModule):
    """The sum.

    Parameters
    ----------
    terms : int
        Number of terms.
    width : int
        Bits of a word.
    code_bits : int
        Bits of a code.
    total_width : int
        Width of the total; the sum is taken modulo 2^total_width.

    Members
    -------
    words : In(signed(width)).array(terms)
    codes : In(code_bits).array(terms)
    addend : In(signed(total_width))
        `plane_latency` - 1 cycles later.
    clear : In(1)
        With the addend: it counts as zero.
    total : Out(signed(total_width))
        After `plane_latency` cycles; a register.
    """

    def __init__(self, terms: int, width: int, code_bits: int, total_width: int) -> None:
        self.terms, self.width, self.code_bits, self.total_width = terms, width, code_bits, total_width
        super().__init__(
            {
                "words": In(signed(width)).array(terms),
                "codes": In(code_bits).array(terms),
                "addend": In(signed(total_width)),
                "clear": In(1),
                "total": Out(signed(total_width)),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the trees and the last addition."""
        m = Module()
        planes = [self._plane(m, bit) for bit in range(self.code_bits)]
        shift = 1
        while len(planes) > 1:
            pairs = enumerate(zip(planes[::2], planes[1::2], strict=False))
            met = [add_shifted(m, f"planes{shift}_{i}", low, high, shift, self.total_width) for i, (low, high) in pairs]
            planes = met + ([self._later(m, planes[-1])] if len(planes) % 2 else [])
            shift *= 2
        m.d.sync += self.total.eq(lattice.add_cleared(m, "last", self.addend, planes[0][0], self.clear))
        return m

    def _plane(self, m: Module, bit: int) -> Number:
        """Return the sum of the words whose codes have a bit set."""
        most = 1 << (self.width - 1)
        nodes: list[Number] = []
        for first in range(0, self.terms, 2):
            both = first + 1 < self.terms
            word, gate = (self.words[first + 1], self.codes[first + 1][bit]) if both else (Const(0, 1), Const(0, 1))
            register = Signal(signed(self.width + both), name=f"pair{bit}_{first}", reset_less=True)
            m.d.sync += register.eq(
                lattice.add_gated(
                    m, f"pair{bit}_{first}", self.words[first], self.codes[first][bit], word, gate, len(register)
                )
            )
            nodes.append((register, most << both))
        level = 0
        while len(nodes) > 1:
            pairs = enumerate(zip(nodes[::2], nodes[1::2], strict=False))
            sums = [add_shifted(m, f"tree{bit}_{level}_{i}", x, y, 0, self.total_width) for i, (x, y) in pairs]
            nodes = sums + ([self._later(m, nodes[-1])] if len(nodes) % 2 else [])
            level += 1
        return nodes[0]

    @staticmethod
    def _later(m: Module, number: Number) -> Number:
        register = Signal.like(number[0], reset_less=True)
        m.d.sync += register.eq(number[0])
        return register, number[1]
