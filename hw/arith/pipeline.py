"""Registers that carry values from the stage that made them to the stage that takes them."""

from amaranth.hdl import Module, Signal, Value

__all__ = ["Delays"]


class Delays:
    """Delay lines of one module, shared: a value that two places want at the same stage is registered once.

    The registers have resets, because synthesisers turn longer delays without one into look-up tables.
    """

    def __init__(self, m: Module) -> None:
        self._m = m
        self._lines: dict[int, list[Value]] = {}

    def __call__(self, value: Value, stages: int) -> Value:
        """Return `value` as it was `stages` cycles ago."""
        line = self._lines.setdefault(id(value), [value])
        while len(line) <= stages:
            register = Signal(value.shape(), name=f"delay{len(self._lines)}_{len(line)}")
            self._m.d.sync += register.eq(line[-1])
            line.append(register)
        return line[stages]
