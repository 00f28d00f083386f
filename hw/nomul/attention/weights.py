"""The second pass of attention: softmax weights, their total, and each weight times the scale of its value.

    weight = exp2(score - largest score),   weighted = weight * value_scale

Cycle schedule of an entry taken from the buffer at t: in registers t + 2, the distance t + 3, the weight t + 5, times
the scale, and in the total, t + 6, in the largest product t + 7. Jobs follow each other without a gap.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.attention.attention_config import WORD_BITS, AttentionConfig
from nomul.attention.scores import scored_layout
from nomul.attention.softmax import Exp2Negative
from nomul.memory.kv_cache import SCALE_BITS
from nomul.memory.steps import Steps

__all__ = ["Weights", "weighed_layout"]


def weighed_layout(config: AttentionConfig) -> data.StructLayout:
    """Return what is known of a job when its last weight is: largest product, total of weights, and the length."""
    return data.StructLayout(
        {"largest": config.weighted_bits, "total": config.total_bits, "length": config.length_bits}
    )


class Weights(Component):
    """Weighs the scores of a job as soon as they are complete, one a cycle.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    jobs : In(stream of `scored_layout`)
    read : Out(1)
        Take an entry out of the buffer of scores.
    score, value_scale : In
        That entry, two cycles later.
    ending : Out(1)
        It is the last of its job.
    weighted : Out(unsigned)
        weight * value_scale, one after the other.
    write : Out(1)
        It is valid.
    known : Out(`weighed_layout`)
    complete : Out(1)
        It is valid: a job's last product was written in the last cycle.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "jobs": In(stream.Signature(scored_layout(config))),
                "read": Out(1),
                "score": In(signed(WORD_BITS)),
                "value_scale": In(SCALE_BITS),
                "ending": Out(1),
                "weighted": Out(config.weighted_bits),
                "write": Out(1),
                "known": Out(weighed_layout(config)),
                "complete": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the pipeline."""
        m = Module()
        config = self.config
        delay = Delays(m)
        m.submodules.steps = steps = Steps(scored_layout(config))
        step = steps.steps.payload
        m.d.comb += [
            steps.commands.payload.eq(self.jobs.payload),
            steps.commands.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(steps.commands.ready),
            steps.steps.ready.eq(1),
            self.read.eq(steps.steps.valid),
            self.ending.eq(steps.steps.valid & step.last),
        ]
        largest = delay(step.command.largest, 2)
        valid, first, last = steps.steps.valid, step.first, step.last

        distance = Signal(WORD_BITS, reset_less=True)
        m.d.sync += distance.eq(largest.as_signed() - self.score)
        m.submodules.exp2 = exp2 = Exp2Negative(WORD_BITS)
        m.d.comb += exp2.distance.eq(distance)
        value_scale = delay(self.value_scale, 1 + exp2.LATENCY)
        at = 3 + exp2.LATENCY
        total = Signal(config.total_bits, reset_less=True)
        m.d.sync += [
            self.weighted.eq(exp2.weight * value_scale),
            total.eq(Mux(delay(first, at), 0, total) + exp2.weight),
            self.write.eq(delay(valid, at)),
        ]
        m.d.sync += [self.known.total.eq(total), self.complete.eq(self.write & delay(last, at + 1))]
        fresh = delay(first, at + 1)
        with m.If(self.write):
            m.d.sync += self.known.length.eq(Mux(fresh, 1, self.known.length + 1))
            with m.If(fresh | (self.weighted > self.known.largest)):
                m.d.sync += self.known.largest.eq(self.weighted)
        return m
