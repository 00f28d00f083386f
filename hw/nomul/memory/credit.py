"""Counts the room behind a pipeline that cannot stop, so that what enters it finds room at its end."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Credit"]


class Credit(Component):
    """A count of free places, kept off the path of what it allows: `available` is a register.

    Parameters
    ----------
    places : int
        Places there are. Two stay unused at full rate, since `available` is a cycle old.

    Members
    -------
    take, give : In(1)
        A place is taken, or becomes free.
    available : Out(1)
        A place may be taken in this cycle.
    idle : Out(1)
        No place is taken.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        super().__init__({"take": In(1), "give": In(1), "available": Out(1, init=1), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count."""
        m = Module()
        free = Signal(range(self.places + 1), init=self.places)
        with m.If(self.take & ~self.give):
            m.d.sync += free.eq(free - 1)
        with m.Elif(~self.take & self.give):
            m.d.sync += free.eq(free + 1)
        m.d.sync += self.available.eq(free > 1)
        m.d.comb += self.idle.eq(free == self.places)
        return m
