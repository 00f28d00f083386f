"""One adder that adds or subtracts, as a signal says."""

from amaranth.hdl import Cat, Const, Module, Value

from nomul.arith import lattice
from nomul.arith.target import Target

__all__ = ["add_subtract"]


def add_subtract(m: Module, name: str, x: Value, y: Value, subtract: Value, target: Target) -> Value:
    """Return `x + y`, or `x - y` where `subtract` is set, modulo 2^len(x); x and y have the same width.

    On ECP5 the complement is made inside the carry cells, which Yosys does not do: 20 bits take 22 LUTs in place of 42.
    """
    assert len(x) == len(y)
    if target is Target.ECP5:
        return lattice.add(m, name, x, Const(0, 1), y, subtract, subtract, len(x)).as_unsigned()
    # The lowest column makes the carry-in: not every synthesiser finds it in x + y + c.
    return (Cat(Const(1, 1), x) + Cat(subtract, y ^ subtract.replicate(len(y))))[1 : 1 + len(x)]
