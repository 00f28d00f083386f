"""Recoding of narrow weights into digits: a product becomes a few selected, shifted copies of the other factor.

    code - offset = sum_j 2^shift_j * value_j

Each digit's value is read from neighbouring bits of the unsigned code as it is. The offset is the same for every code;
it costs one sum of the other factors, which a zero point needs anyway.

=========  ================  ======  ======================================================================
name       digits            offset  for codes of four bits
=========  ================  ======  ======================================================================
`digits`   -2, -1, 0, 1      10      two bits of the code less 2
`ent`      -1, 0, 1, 2       5       two bits of the code less 1: the digits of EN-T without its carries
`booth4`   -2, -1, 0, 1, 2   8       radix-4 Booth (MacSorley, 1961); neighbouring digits share a bit
`binary`   0, 1              0       one partial product for each bit
=========  ================  ======  ======================================================================
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed

from nomul.arith.cells import and_or_invert22, or_and_invert

__all__ = [
    "LINED",
    "RECODINGS",
    "Digit",
    "Recoding",
    "digit_lines",
    "digit_product",
    "lined_most",
    "lined_product",
    "negative",
    "recoding",
    "shift_add",
]

RECODINGS = ("digits", "ent", "booth4", "binary")
"""Names of the recodings."""

LINED = "ent"
"""The recoding whose digits `lined_product` takes, two bits each."""


@dataclasses.dataclass(frozen=True)
class Digit:
    """A digit: its weight is 2^shift, its value `values[c]`, c being the code's bits from `low` up."""

    shift: int
    low: int
    values: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Bits of the code that it is read from."""
        return (len(self.values) - 1).bit_length()

    @property
    def extra(self) -> int:
        """Bits that a product with it is wider than the other factor."""
        return int(max(map(abs, self.values)) == 2)

    def negated(self) -> "Digit":
        """Return the digit of the opposite values."""
        return dataclasses.replace(self, values=tuple(-value for value in self.values))


@dataclasses.dataclass(frozen=True)
class Recoding:
    """The digits of a code, and the offset."""

    digits: tuple[Digit, ...]
    offset: int


def recoding(name: str, bits: int) -> Recoding:
    """Return a recoding of unsigned codes of an even number of bits.

    Raises
    ------
    ValueError
        For another name than those of `RECODINGS`, or an odd number of bits.
    """
    if name not in RECODINGS or bits % 2 or bits < 2:
        allowed = ", ".join(RECODINGS)
        raise ValueError(f"recoding {name!r} of {bits} bits does not exist; it is one of {allowed} of 2, 4, 6 ... bits")
    pairs = range(0, bits, 2)
    if name == "binary":
        return Recoding(tuple(Digit(i, i, (0, 1)) for i in range(bits)), 0)
    if name == "booth4":
        low = Digit(0, 0, (0, 1, -2, -1))
        inner = (0, 1, 1, 2, -2, -1, -1, 0)
        # The top bit of the two's complement number code - 2^(bits - 1) is the code's, inverted.
        top = (-2, -1, -1, 0, 0, 1, 1, 2) if bits > 2 else (-2, -1, 0, 1)
        middle = [Digit(i, i - 1, inner) for i in pairs[1:-1]]
        last = Digit(bits - 2, bits - 3, top) if bits > 2 else Digit(0, 0, top)
        return Recoding((*([low] if bits > 2 else []), *middle, last), 1 << (bits - 1))
    first = -2 if name == "digits" else -1
    values = tuple(range(first, first + 4))
    return Recoding(tuple(Digit(i, i, values) for i in pairs), -first * ((1 << bits) - 1) // 3)


def digit_lines(digit: Digit, code: Value) -> dict[int, Value]:
    """Return, for each value of a digit that is not 0, the line that is low when a code has it."""
    bits = code[digit.low : digit.low + digit.bits]
    lines: dict[int, Value] = {}
    for value in sorted({value for value in digit.values if value}):
        matches = [bits == number for number, other in enumerate(digit.values) if other == value]
        lines[value] = ~Cat(*matches).any() if len(matches) > 1 else ~matches[0]
    return lines


def digit_product(
    m: Module, name: str, lines: dict[int, Value], word: Value, extra: int, *, cells: bool
) -> list[Value]:
    """Return the bits of a product of a signed word and a digit: its top bit inverted, and one less if it is negated.

    With v the digit, a the word and n the number of bits returned, that is those of the word and `extra`,

        sum_i 2^i * bit_i = v * a - (v < 0) + 2^(n - 1)

    Each bit is an or of selected bits of the word or of its complement.

    Parameters
    ----------
    lines : dict of int to Value
        From `digit_lines`.
    cells : bool
        Whether to instantiate or-and-invert cells.
    """
    top, width = word[-1], len(word) + extra
    bits: list[Value] = []
    for index in range(width - 1):
        pairs: list[tuple[Value, Value]] = []
        for value, line in lines.items():
            place = index - (abs(value) == 2)
            if place >= 0:
                bit = word[min(place, len(word) - 1)]
                pairs.append((line, bit if value < 0 else ~bit))
            elif value < 0:
                pairs.append((line, Const(0, 1)))
        if cells:
            bits.append(or_and_invert(m, f"{name}_{index}", pairs))
        else:
            bits.append(Cat(*(~line & ~bit for line, bit in pairs)).any())
    plus = not_all([line for value, line in lines.items() if value > 0])
    minus = not_all([line for value, line in lines.items() if value < 0])
    if isinstance(minus, Const):
        bits.append(~(plus & top))
    elif cells:
        bits.append(and_or_invert22(m, f"{name}_{width - 1}", plus, top, minus, ~top))
    else:
        bits.append(~(plus & top | minus & ~top))
    return bits


def lined_product(m: Module, name: str, code: Value, word: Value) -> list[Value]:
    """Return the bits of a product of a signed word and a digit of two lines, in cells.

    The digits are those of `LINED`, but their two bits are lines that selection takes as they are: bit 0 is low for the
    digits 0 and 1, bit 1 for 0 and -1. With v the digit, a the word of n bits and h = 2^(n - 1), the n + 1 bits are

        sum_i 2^i * bit_i = v * (a + h) + (2h - 1 if v <= 0 else 0)

    So both lines choose a word of n bits without its sign, or its complement; both together make it ones, and a gate
    tells the digit 2. What is too much depends on the weights alone; so does what `digit_product` leaves out, whose
    lines take two gates more and whose highest bit two selections.
    """
    plus, minus = code[0], code[1]
    bits = [*word[:-1], ~word[-1]]
    twice = Signal(name=f"{name}_twice")
    m.d.comb += twice.eq(~(plus & minus))
    product = [or_and_invert(m, f"{name}_0", [(plus, ~bits[0]), (minus, bits[0])])]
    for index in range(1, len(bits)):
        pairs = [(plus, ~bits[index]), (minus, bits[index]), (twice, ~bits[index - 1])]
        product.append(or_and_invert(m, f"{name}_{index}", pairs))
    return [*product, ~(twice | ~bits[-1])]


def lined_most(width: int) -> int:
    """Return by how much `lined_product` of a word of `width` bits is too large at most: for the digit 2."""
    return 1 << width


def shift_add(m: Module, name: str, digits: Sequence[Digit], code: Value, word: Value) -> Value:
    """Return the sum of 2^shift_j * digit_j * word over the digits of a code, by plain shifts and additions."""
    terms = []
    for digit in digits:
        term = Signal(signed(len(word) + 2), name=f"{name}_{digit.shift}")
        for value, line in digit_lines(digit, code).items():
            copy = word << 1 if abs(value) == 2 else word
            with m.If(~line):
                m.d.comb += term.eq(-copy if value < 0 else copy)
        terms.append(term << digit.shift)
    return sum(terms[1:], terms[0])


def negative(lines: dict[int, Value]) -> Value:
    """Return what `digit_product` leaves out: one where the digit is below 0."""
    return not_all([line for value, line in lines.items() if value < 0])


def not_all(lines: list[Value]) -> Value:
    """Return whether a line of several is low."""
    return ~Cat(*lines).all() if lines else Const(0, 1)
