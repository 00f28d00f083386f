"""Runs the fused norms: which vectors, which gains, which program for their scales, and where their codes go."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.normalise import Source
from nomul.accelerators.norms import Norm
from nomul.accelerators.scale_programs import Program
from nomul.accelerators.sequencer import Step

__all__ = ["NORM_STEPS", "NormControl"]

NORM_STEPS = (Step.NORM_INPUT, Step.NORM_SUB, Step.NORM_POST, Step.NORM_FFN, Step.NORM_FINAL)
"""The steps that it runs."""


class NormControl(Component):
    """Counts vectors and their programs.

    Members
    -------
    start : In(1)
        Begin `step`, one of `NORM_STEPS`.
    step, tile : In
        `tile` tokens are in work; the last norm takes the last of them.
    norm : Out
        Which, for its gains.
    source, first, words, tokens : Out
        To `nomul.accelerators.normalise.NormFeed`; until `done`.
    length : Out
        Elements of a vector.
    summed : In(1)
        The maximum and the sum of squares of the next vector are known.
    scale_start : Out(1)
    program, token : Out
    scale_done : In(1)
    taken : Out(1)
        The maximum and the sum are used.
    coded, last : In(1)
        A transfer of codes comes, and it is the last of a vector.
    code_address : Out
        Where it goes.
    active : Out(1)
    done : Out(1)
        Every code has come and every program has run.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        shape = config.shape
        depth = config.tile * config.words_max
        super().__init__(
            {
                "start": In(1),
                "step": In(Step),
                "tile": In(range(config.tile + 1)),
                "source": Out(Source),
                "first": Out(range(depth)),
                "norm": Out(Norm),
                "words": Out(range(config.words_max + 1)),
                "tokens": Out(range(config.tile + 1)),
                "length": Out(range(shape.longest + 1)),
                "summed": In(1),
                "scale_start": Out(1),
                "program": Out(Program),
                "token": Out(range(max(config.tile, 2))),
                "scale_done": In(1),
                "taken": Out(1),
                "coded": In(1),
                "last": In(1),
                "code_address": Out(range(depth)),
                "active": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the table of norms, and the counters."""
        m = Module()
        config, shape = self.config, self.config.shape
        final = Signal()
        norms = {
            Step.NORM_INPUT: (Norm.INPUT, shape.width, Program.INPUT, Source.RESIDUAL),
            Step.NORM_SUB: (Norm.SUB, shape.queries, Program.SUB, Source.ATTENTION),
            Step.NORM_POST: (Norm.POST, shape.width, Program.POST, Source.RESIDUAL),
            Step.NORM_FFN: (Norm.FFN, shape.ffn, Program.FFN, Source.GATED),
            # Its scale has no part in a greedy choice; any program will do.
            Step.NORM_FINAL: (Norm.FINAL, shape.width, Program.INPUT, Source.RESIDUAL),
        }
        with m.Switch(self.step):
            for step, (norm, length, program, source) in norms.items():
                with m.Case(step):
                    m.d.comb += [
                        self.norm.eq(norm),
                        self.length.eq(length),
                        self.words.eq(config.words(length)),
                        self.program.eq(program),
                        self.source.eq(source),
                    ]
        m.d.comb += [
            final.eq(self.step == Step.NORM_FINAL),
            self.tokens.eq(Mux(final, 1, self.tile)),
            self.first.eq(Mux(final, (self.tile - 1) * config.words(shape.width), 0)),
        ]
        programs, vectors = Signal(range(config.tile + 1)), Signal(range(config.tile + 1))
        running = Signal()
        m.d.comb += [
            self.token.eq(programs),
            self.scale_start.eq(self.active & ~running & self.summed & (programs != self.tokens)),
            self.taken.eq(running & self.scale_done),
            self.done.eq(self.active & (programs == self.tokens) & (vectors == self.tokens)),
        ]
        with m.If(self.scale_start):
            m.d.sync += running.eq(1)
        with m.If(self.taken):
            m.d.sync += [running.eq(0), programs.eq(programs + 1)]
        with m.If(self.coded):
            m.d.sync += self.code_address.eq(self.code_address + 1)
            with m.If(self.last):
                m.d.sync += vectors.eq(vectors + 1)
        with m.If(self.done):
            m.d.sync += self.active.eq(0)
        with m.If(self.start):
            m.d.sync += [self.active.eq(1), programs.eq(0), vectors.eq(0), self.code_address.eq(0)]
        return m
