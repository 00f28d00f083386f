"""The order of a pass: from tokens in to a token out, layer by layer (docs/numerics.md, "The model, token by token").

A pass takes up to `tile` tokens of the prompt, or one that was generated, through every layer; the last pass of a
prompt, and every pass after it, ends with the LM head and a token.
"""

import enum

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import AcceleratorConfig, Projection

__all__ = ["BETWEEN", "PROJECTIONS", "Sequencer", "Step", "chunks_max", "job_layout"]


class Step(enum.IntEnum):
    """What a pass is made of."""

    EMBED = 0
    NORM_INPUT = 1
    PROJECT_QKV = 2
    ATTEND = 3
    NORM_SUB = 4
    PROJECT_O = 5
    NORM_POST = 6
    PROJECT_GATE_UP = 7
    NORM_FFN = 8
    PROJECT_DOWN = 9
    NORM_FINAL = 10
    PROJECT_HEAD = 11


BETWEEN = max(Step) + 1
"""What `Sequencer.step` is between the passes of a job, where the next tokens are waited for."""

PROJECTIONS = {
    Step.PROJECT_QKV: Projection.QKV,
    Step.PROJECT_O: Projection.OUT,
    Step.PROJECT_GATE_UP: Projection.GATE_UP,
    Step.PROJECT_DOWN: Projection.DOWN,
    Step.PROJECT_HEAD: Projection.HEAD,
}
"""The steps that are projections. They are repeated for each chunk of their matrix."""


def chunks_max(config: AcceleratorConfig) -> int:
    """Return the most chunks that a matrix is cut into."""
    return max(config.chunks(projection) for projection in Projection)


def job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the payload of the machine's jobs: tokens of the prompt, tokens to generate, tokens that came before."""
    tokens = range(config.shape.context + 1)
    return data.StructLayout({"prompt": tokens, "tokens": tokens, "position": tokens})


class Sequencer(Component):
    """Counts passes, layers and steps.

    Members
    -------
    jobs : In(stream of {prompt, tokens, position})
        Taken when the machine is idle. prompt and tokens are 1 or more; the last token generated is not read again, so
        position + prompt + tokens - 1 may be the context. Keys and values of the `position` tokens before the prompt
        are in the cache; 0 begins a new text.
    ready : In(1)
        Jobs may be taken.
    stop : In(1)
        End the job without a result, and take none until reset: `stopped`. Tokens of a prompt are taken and dropped.
    stopped : Out(1)
    passes : Out(stream of {head})
        What weights the passes will want, in order, as early as it is known.
    prompt : In(stream of tokens)
    results : Out(stream of {token, last})
    fault : Out(1)
        The last job was illegal, or a token of the prompt does not exist; such a job ends without a token.
    begin : Out(1)
        A step begins, or a chunk of it; `step`, `chunk`, `layer`, `tokens`, `position` are it, until `ended`.
    begin_pass : Out(1)
        A cycle before a pass's first step.
    step, chunk, layer, tokens, position : Out
        step is `BETWEEN` from the end of a pass to the begin of the next.
    ended : In(1)
        The step has ended; in the last of its cycles.
    place : In
    identity : Out
        The token at that place of the tile, a cycle later.
    chosen : In
        The token that the head has chosen, with `ended`.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        shape = config.shape
        token = range(shape.vocabulary)
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(config))),
                "ready": In(1),
                "stop": In(1),
                "stopped": Out(1),
                "passes": Out(stream.Signature(data.StructLayout({"head": 1}))),
                "prompt": In(stream.Signature(range(shape.vocabulary))),
                "results": Out(stream.Signature(data.StructLayout({"token": token, "last": 1}))),
                "fault": Out(1),
                "begin": Out(1),
                "begin_pass": Out(1),
                "step": Out(Step),
                "chunk": Out(range(max(chunks_max(config), 2))),
                "layer": Out(range(max(shape.layers, 2))),
                "tokens": Out(range(config.tile + 1)),
                "position": Out(range(shape.context)),
                "ended": In(1),
                "place": In(range(max(config.tile, 2))),
                "identity": Out(range(shape.vocabulary)),
                "chosen": In(range(shape.vocabulary)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        config, shape = self.config, self.config.shape
        m.submodules.identities = memory = Memory(shape=range(shape.vocabulary), depth=max(config.tile, 2), init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [read.addr.eq(self.place), self.identity.eq(read.data)]
        rest, wanted = Signal(range(shape.context + 1)), Signal(range(shape.context + 1))
        legal, asked = Signal(), Signal()
        job: Value = self.jobs.payload
        m.d.comb += legal.eq(
            (job.prompt != 0) & (job.tokens != 0) & (job.position + job.prompt + job.tokens - 1 <= shape.context)
        )
        m.d.comb += [write.addr.eq(self.tokens), write.data.eq(self.prompt.payload)]
        with m.If(self.stop):
            m.d.sync += self.stopped.eq(1)
        last_step, last_chunk = Signal(), Signal()
        m.d.comb += last_chunk.eq(1)
        with m.Switch(self.step):
            for step, projection in PROJECTIONS.items():
                with m.Case(step):
                    m.d.comb += last_chunk.eq(self.chunk == config.chunks(projection) - 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.jobs.ready.eq(self.ready & ~self.stopped)
                with m.If(self.jobs.valid & self.jobs.ready):
                    m.d.sync += [self.fault.eq(~legal), rest.eq(job.prompt), wanted.eq(job.tokens)]
                    m.d.sync += [self.position.eq(job.position), self.tokens.eq(0), asked.eq(0)]
                    with m.If(legal):
                        m.next = "GATHER"
            with m.State("GATHER"):
                with m.If((rest == 0) | (self.tokens == config.tile)):
                    m.next = "ASK"
                with m.Else():
                    m.d.comb += self.prompt.ready.eq(1)
                    with m.If(self.prompt.valid):
                        m.d.comb += write.en.eq(1)
                        m.d.sync += [self.tokens.eq(self.tokens + 1), rest.eq(rest - 1)]
                        with m.If(self.prompt.payload >= shape.vocabulary):
                            m.d.sync += self.fault.eq(1)
                            m.next = "DROP"
            with m.State("DROP"):
                m.d.comb += self.prompt.ready.eq(rest != 0)
                with m.If(rest == 0):
                    m.next = "IDLE"
                with m.Elif(self.prompt.valid):
                    m.d.sync += rest.eq(rest - 1)
            with m.State("ASK"):
                # The weights of this pass, if they were not asked for in the last, then those of the next.
                m.d.comb += [self.passes.valid.eq(~asked), self.passes.payload.head.eq(rest == 0)]
                with m.If(asked | self.passes.ready):
                    m.d.sync += asked.eq(0)
                    m.next = "PASS"
                    with m.If((rest != 0) | (wanted != 1)):
                        m.next = "ASK_NEXT"
            with m.State("ASK_NEXT"):
                m.d.comb += [self.passes.valid.eq(1), self.passes.payload.head.eq(rest <= config.tile)]
                with m.If(self.passes.ready):
                    m.d.sync += asked.eq(1)
                    m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += self.begin_pass.eq(1)
                m.d.sync += [self.layer.eq(0), self.step.eq(Step.EMBED)]
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.begin.eq(1)
                m.next = "RUN"
            with m.State("RUN"), m.If(self.ended):
                m.next = "BEGIN"
                with m.If(~last_chunk):
                    m.d.sync += self.chunk.eq(self.chunk + 1)
                with m.Else():
                    m.d.sync += [self.step.eq(self.step + 1), self.chunk.eq(0)]
                    with m.If(self.step == Step.PROJECT_DOWN):
                        with m.If(self.layer != shape.layers - 1):
                            m.d.sync += [self.layer.eq(self.layer + 1), self.step.eq(Step.NORM_INPUT)]
                        with m.Elif(rest != 0):
                            m.d.sync += self.step.eq(BETWEEN)
                            m.next = "NEXT"
                    with m.If(self.step == Step.PROJECT_HEAD):
                        m.next = "RESULT"
            with m.State("NEXT"):
                m.d.sync += [self.position.eq(self.position + self.tokens), self.tokens.eq(0)]
                m.next = "GATHER"
            with m.State("RESULT"):
                m.d.comb += [
                    self.results.valid.eq(~self.stopped),
                    self.results.payload.token.eq(self.chosen),
                    self.results.payload.last.eq(last_step),
                    last_step.eq(wanted == 1),
                    write.addr.eq(0),
                    write.data.eq(self.chosen),
                ]
                with m.If(self.results.ready & ~self.stopped):
                    m.d.comb += write.en.eq(1)
                    m.d.sync += [
                        wanted.eq(wanted - 1),
                        self.position.eq(self.position + self.tokens),
                        self.tokens.eq(1),
                    ]
                    m.next = "ASK"
                    with m.If(last_step):
                        m.next = "IDLE"
        with m.If(self.stopped):
            m.d.comb += self.prompt.ready.eq(1)
        return m
