"""The thermometer code of a number: which of the numbers from zero on it reaches.

A comparison with each of them would be a carry chain each on FPGAs. Here the number's two halves are decoded, once for
all, and each bit is one look-up table of three signals: what is above, what is the same, and what is reached below. The
decoded halves may be registered, to keep them off a path.
"""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Signal, Value

__all__ = ["decoded_halves", "thermometer"]


def decoded_halves(m: Module, name: str, number: Value) -> Value:
    """Return the decoded halves of an unsigned number, for `thermometer`."""
    low, high = number[: len(number) // 2], number[len(number) // 2 :]
    return Cat(
        _decoded(m, f"{name}_reached", low, lambda value, place: value >= place),
        _decoded(m, f"{name}_above", high, lambda value, place: value > place),
        _decoded(m, f"{name}_same", high, lambda value, place: value == place),
    )


def thermometer(halves: Value, bits: int, count: int) -> list[Value]:
    """Return, for each i below `count`, whether a number of so many bits, whose decoded halves are given, is i or more.

    Zero is always reached, whatever the halves are.
    """
    half = bits // 2
    lows, highs = 1 << half, 1 << (bits - half)
    reached, above, same = halves[:lows], halves[lows : lows + highs], halves[lows + highs :]
    found: list[Value] = [Const(1, 1)]
    for place in range(1, count):
        block, rest = place >> half, place & (lows - 1)
        found.append(above[block] | same[block] & reached[rest] if place < lows * highs else Const(0, 1))
    return found


def _decoded(m: Module, name: str, number: Value, holds: Callable[[int, int], bool]) -> Value:
    """Return, for each place that `number` can have, what a table says of the number and it."""
    size = 1 << len(number)
    bits = Signal(size, name=name)
    for place in range(size):
        table = Const(sum(holds(value, place) << value for value in range(size)), size)
        m.d.comb += bits[place].eq(table.bit_select(number, 1) if len(number) else table)
    return bits
