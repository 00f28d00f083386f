"""The reset of a board: from power on, and from a button that bounces and knows no clock."""

from amaranth.hdl import Module, Signal
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import Component, In, Out

__all__ = ["ButtonReset"]


class ButtonReset(Component):
    """Holds a design in reset while the button is pressed, and some time longer.

    Parameters
    ----------
    cycles : int
        Cycles that the reset lasts after power on, and after the button was seen last.

    Members
    -------
    button : In(1)
        High while it is pressed, asynchronous.
    reset : Out(1)
        From a register; high from power on.

    Raises
    ------
    ValueError
        If `cycles` is not positive.
    """

    def __init__(self, cycles: int) -> None:
        if cycles < 1:
            raise ValueError(f"cycles is {cycles}; allowed: 1 or more")
        self.cycles = cycles
        super().__init__({"button": In(1), "reset": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        """Count down from the last press."""
        m = Module()
        pressed = Signal()
        left = Signal(range(self.cycles + 1), init=self.cycles)
        m.submodules.synchroniser = FFSynchronizer(self.button, pressed)
        m.d.sync += self.reset.eq(left != 0)
        with m.If(pressed):
            m.d.sync += left.eq(self.cycles)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m
