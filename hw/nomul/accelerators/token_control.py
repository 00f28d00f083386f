"""Takes the tokens of a tile one by one through what changes or makes their vectors."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.sequencer import Step

__all__ = ["TOKEN_STEPS", "TokenControl"]

TOKEN_STEPS = (Step.EMBED, Step.PROJECT_O, Step.PROJECT_GATE_UP, Step.PROJECT_DOWN)
"""The steps that it runs."""

FETCH = 3
"""Cycles from a token's number to its scale and its identity."""


class TokenControl(Component):
    """Starts the residual stream or the gating for each token, when the last has ended.

    Members
    -------
    start : In(1)
        Begin `step`, one of `TOKEN_STEPS`.
    step, tokens : In
    token : Out
    scale_start : Out(1)
        Run the program that makes the scale of an embedding.
    scale_done : In(1)
    embed, add, gate : Out(1)
        Begin a token.
    idle : In(1)
        What was begun has ended; not looked at in the cycle after.
    done : Out(1)
        The last token has ended; until the next start.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "start": In(1),
                "step": In(Step),
                "tokens": In(range(config.tile + 1)),
                "token": Out(range(max(config.tile, 2))),
                "scale_start": Out(1),
                "scale_done": In(1),
                "embed": Out(1),
                "add": Out(1),
                "gate": Out(1),
                "idle": In(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        wait, embedding, gating = Signal(range(FETCH)), Signal(), Signal()
        m.d.comb += [embedding.eq(self.step == Step.EMBED), gating.eq(self.step == Step.PROJECT_GATE_UP)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [self.token.eq(0), wait.eq(0)]
                with m.If(self.start):
                    m.d.sync += self.done.eq(0)
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.scale_start.eq(embedding)
                m.next = "FETCH"
                with m.If(embedding):
                    m.next = "SCALE"
            with m.State("SCALE"), m.If(self.scale_done):
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += wait.eq(Mux(wait == FETCH - 1, 0, wait + 1))
                with m.If(wait == FETCH - 1):
                    m.d.comb += [self.embed.eq(embedding), self.gate.eq(gating), self.add.eq(~embedding & ~gating)]
                    m.next = "STARTED"
            with m.State("STARTED"):
                m.next = "RUN"
            with m.State("RUN"), m.If(self.idle):
                m.d.sync += self.token.eq(self.token + 1)
                m.next = "BEGIN"
                with m.If(self.token == self.tokens - 1):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        return m
