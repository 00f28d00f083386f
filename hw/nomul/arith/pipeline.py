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
        """Return `value` as it was `stages` cycles ago, 0 or more."""
        if stages < 0:
            raise ValueError(f"a delay is {stages} cycles; allowed: 0 or more")
        line = self._lines.setdefault(id(value), [value])
        while len(line) <= stages:
            register = Signal(value.shape(), name=f"delay{len(self._lines)}_{len(line)}")
            self._m.d.sync += register.eq(line[-1])
            line.append(register)
        return line[stages]

    def spread(self, value: Value, stages: int, copies: int) -> list[Signal]:
        """Return registers of a mark as it was `stages` cycles ago, one for each of several places far apart.

        The last stages double from one to the next until there is a register for each place. Synthesisers would make
        one of equal registers: these differ in their reset values, so that a mark of any value may come after reset.
        """
        if stages < 1:
            raise ValueError(f"the delay of {copies} registers is {stages} cycles; allowed: 1 or more")
        levels = min(stages - 1, (copies - 1).bit_length())
        found: dict[tuple[int, int], Signal] = {}
        registers: list[Signal] = []
        for copy in range(copies):
            last = self(value, stages - levels) if levels else self(value, stages - 1)
            for level in range(1, max(levels, 1) + 1):
                branch = copy & ((1 << level) - 1)
                if (level, branch) not in found:
                    init = branch >> (level - 1)
                    found[level, branch] = Signal(name=f"spread{len(self._lines)}_{level}_{branch}", init=init)
                    self._m.d.sync += found[level, branch].eq(last)
                last = found[level, branch]
            registers.append(last)
        return registers
