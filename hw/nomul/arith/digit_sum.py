"""The AMD forms of sums with a word times digits of a code: one look-up table a column, no multiplier.

A digit's copy of the word is a function of two bits of the word and of the digit's two or three. With a bit of what it
is added to, that makes the six inputs of a column's look-up table; the carry's DI is that bit itself. A negative
digit's copy is a complement, and its plus one the chain's carry-in.
"""

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Value

from nomul.arith import xilinx
from nomul.arith.recoding import Digit, digit_lines, negative
from nomul.arith.target import Target

__all__ = ["add_digits", "scaled_sum"]

PAIR = (-2, -1, 0, 1)
"""Values of the digits that `scaled_sum` reads."""


def add_digits(
    m: Module, name: str, target: Target, addend: Value, digits: Sequence[Digit], code: Value, word: Value
) -> Value:
    """Return addend + sum_j 2^shift_j * digit_j * word, modulo 2^len(addend).

    Parameters
    ----------
    target : Target
        `Target.XCUP` or `Target.XC7`.
    digits : sequence of Digit
        Of one to three bits of the code each.
    word : Value
        Signed.
    """
    for digit in digits:
        copy, bits = _copy(digit), code[digit.low : digit.low + digit.bits]
        select, high = [], addend[digit.shift :]
        for index, rest in enumerate(high):
            inputs = [rest, _bit(word, index), _bit(word, index - 1), *bits, *[Const(0, 1)] * (3 - len(bits))]
            propagate, _ = xilinx.lut_choice(
                m, f"{name}{digit.shift}_lut{index}", inputs[:5], inputs[5], _added(copy, 0), _added(copy, 1)
            )
            select.append(propagate)
        carry_in = negative(digit_lines(digit, code))
        sums, _ = xilinx.carry_chain(m, f"{name}{digit.shift}", target, select, list(high), carry_in)
        addend = Cat(addend[: digit.shift], sums)
    return addend


def scaled_sum(m: Module, name: str, target: Target, addend: Value, clear: Value, code: Value, word: Value) -> Value:
    """Return addend + (code - 2 * (1 + 4 + 16 + ...)) * word, modulo 2^len(addend); with `clear`, the addend is 0.

    Each pair of the code's bits is a digit from -2 to 1, its last, odd bit one of 0 and 1. The lowest digit's copy is
    made alone, and digits above are added to it. One chain takes both the highest pair's copy and the last bit's: O5,
    the former alone, is DI and, where the last bit is 0, the sum. The three operands meet in one adder.

    Parameters
    ----------
    target : Target
        `Target.XCUP` or `Target.XC7`.
    code : Value
        An odd number of bits, three or more.
    word : Value
        Signed.
    """
    copy, top = _copy(Digit(0, 0, PAIR)), len(code) - 3
    select, data = [], []
    for index in range(len(word) + 3):
        inputs = [_bit(word, index), _bit(word, index - 1), code[top], code[top + 1], _bit(word, index - 2)]
        propagate, single = xilinx.lut_choice(
            m, f"{name}_top_lut{index}", inputs, code[-1], copy, lambda *i: copy(*i) ^ i[4]
        )
        select.append(propagate)
        data.append(single)
    sums, _ = xilinx.carry_chain(m, f"{name}_top", target, select, data, ~code[top + 1])
    high = Cat(Const(0, top), sums).as_signed()
    low: Value = Const(0, 1)
    plus: Value = Const(0, 1)
    if top:
        plus = ~code[1]
        low = Cat(
            *(
                xilinx.lut_pair(m, f"{name}_low{index}", [_bit(word, index), _bit(word, index - 1), *code[:2]], copy)[0]
                for index in range(len(word) + 1)
            )
        )
        for shift in range(2, top, 2):
            # A sum of this many digits is as wide.
            low = Cat(low, low[-1].replicate(len(word) + shift + 2 - len(low)))
            low = add_digits(m, f"{name}_middle", target, low, [Digit(shift, shift, PAIR)], code, word)
    select, data = [], []
    for index, rest in enumerate(addend):
        propagate, majority = xilinx.lut_pair(
            m, f"{name}_lut{index}", [rest, _bit(low, index), _bit(high, index), clear, plus], _odd, _most
        )
        select.append(propagate)
        data.append(plus)
        plus = majority
    sums, _ = xilinx.carry_chain(m, name, target, select, data, Const(0, 1))
    return sums


def _odd(x: int, y: int, z: int, clear: int, below: int) -> int:
    return x & (1 - clear) ^ y ^ z ^ below


def _most(x: int, y: int, z: int, clear: int, below: int) -> int:
    return int((x & (1 - clear)) + y + z >= 2)


def _bit(word: Value, index: int) -> Value:
    """Return a bit of a signed word shifted up by any number of places."""
    return word[min(index, len(word) - 1)] if index >= 0 else Const(0, 1)


def _copy(digit: Digit) -> Callable[..., int]:
    """Return a bit of digit * word, complemented for negative digits, of (bit, bit below, bits of the code, rest)."""

    def bit(*i: int) -> int:
        value = digit.values[sum(i[2 + place] << place for place in range(digit.bits))]
        return (i[abs(value) - 1] if value else 0) ^ int(value < 0)

    return bit


def _added(copy: Callable[..., int], last: int) -> Callable[..., int]:
    """Return the propagate of (rest, bit, bit below, two bits of the code), the code's third bit being `last`."""
    return lambda *i: i[0] ^ copy(*i[1:], last)
