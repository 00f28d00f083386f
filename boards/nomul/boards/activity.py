"""A light that shows short events to a person."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

__all__ = ["ActivityLight"]


class ActivityLight(Component):
    """Is on for `cycles` after each event.

    Members
    -------
    event : In(1)
    light : Out(1)
    """

    def __init__(self, cycles: int) -> None:
        self.cycles = cycles
        super().__init__({"event": In(1), "light": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count down from the last event."""
        m = Module()
        left = Signal(range(self.cycles + 1))
        m.d.sync += self.light.eq(left != 0)
        with m.If(self.event):
            m.d.sync += left.eq(self.cycles)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m
