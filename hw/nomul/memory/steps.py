"""Turns commands that have a length into as many steps, one a cycle, without a gap between commands."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Steps"]


class Steps(Component):
    """A command taken at t gives its first step at t + 1; the next command is taken with the last step.

    Parameters
    ----------
    command : data.StructLayout
        Has a field `length`, unsigned; a command's must be 1 or more.

    Members
    -------
    commands : In(stream of command)
    steps : Out(stream of {command, first, last})
    """

    def __init__(self, command: data.StructLayout) -> None:
        self.command = command
        step = data.StructLayout({"command": command, "first": 1, "last": 1})
        super().__init__({"commands": In(stream.Signature(command)), "steps": Out(stream.Signature(step))})

    def elaborate(self, platform: object) -> Module:
        """Count down."""
        m = Module()
        step = Signal(self.steps.payload.shape(), reset_less=True)
        left = Signal(self.command["length"].shape, reset_less=True)
        m.d.comb += [
            self.steps.payload.eq(step),
            self.commands.ready.eq(~self.steps.valid | (self.steps.ready & step.last)),
        ]
        with m.If(self.commands.ready):
            m.d.sync += [
                self.steps.valid.eq(self.commands.valid),
                step.command.eq(self.commands.payload),
                step.first.eq(1),
                step.last.eq(self.commands.payload.length == 1),
                left.eq(self.commands.payload.length),
            ]
        with m.Elif(self.steps.ready):
            m.d.sync += [step.first.eq(0), step.last.eq(left == 2), left.eq(left - 1)]
        return m
