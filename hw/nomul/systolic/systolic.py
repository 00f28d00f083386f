"""Systolic arrays of MixPE's elements: matrix products of many tokens, with weights in groups.

    y[t, o] = sum over groups g of scale[o, g] * sum_{k in g} (code[o, k] - zero[o, g]) * a[t, k]

for tiles of prefill (many tokens) and for decoding (one). Codes and zero points have four bits, unsigned; products are
shifts and additions of recoded codes (`nomul.arith.recoding`); zero points and scales are applied once a group, or once
a tile of weights, at the edge of the columns (`nomul.systolic.edge`). MixPE (arXiv 2411.16158) names output-stationary
arrays and publishes no circuit; this one is ours.

With dataflow `output` (`nomul.systolic.output_stationary`) an element adds up one output of one token; a tile is `rows`
outputs of `columns` tokens, and lasts as long as the inputs, in whole groups. With dataflow `weight`
(`nomul.systolic.weight_stationary`) an element keeps a weight; a tile is `rows` inputs of `columns` outputs, and lasts
for `tokens_tile` tokens, while the next tile's weights come. Tiles follow each other without a gap.

FP16 activations (W4A16) become integers on their way into the same elements (`nomul.systolic.align`). The inputs p of a
token that leave the array in one sum - a group's, or the `rows` of a tile of weights - share one exponent: E is the
largest exponent field among them, at least 1. With s = `significand` and F = `SystolicConfig.fraction`

    n[k]    = round_half_even(a[t, k] * 2^(14 + s - E))
    y[t, o] = 2^-F * sum over p of round_half_even(2^(E - 14 - s + F) * scale * sum_{k in p} (code - zero) * n[k])

An activation is rounded once for all outputs, a scaled sum once at its end, and not at all where E >= 14 + s - F;
everything else is exact. Results are integers in units of 2^-F. F is `fraction_bits`, or by default the most that 64
bits hold, up to 13 + s, with which no sum is rounded. So y differs from the exact product by at most

    sum over p of (scale * 2^(E - 15 - s) * sum_{k in p} |code - zero|  +  2^(-F - 1) where E < 14 + s - F)

and no activation whose exponent field is at least E - (s - 11) is changed. Subnormals count in full, as far as they
reach the last bit. An infinity or NaN counts as zero and marks every result of its token: the highest bit is inverted,
so that the two highest bits differ, which they never do otherwise.

Operands come from outside once for each tile that they are in; docs/units.md has the order of the streams.

Cycle schedule: a job taken at cycle t makes its first step at t + 2. In every cycle in which what a step takes is
there, and no result waits, the array moves on by one step. FP16 activations are taken `SystolicConfig.lead` steps
before the codes that they meet first. A job's last result is offered in the cycle after the last of the steps that
`SystolicConfig.cycles` counts; after a few more the next job may start.
"""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.contract import JobIntake, core_members
from nomul.shared_module import enabled
from nomul.systolic.align import OutputAlign, WeightAlign
from nomul.systolic.config import SystolicConfig
from nomul.systolic.output_stationary import OutputArray, OutputSchedule
from nomul.systolic.schedule import control_layout
from nomul.systolic.weight_stationary import WeightArray, WeightSchedule

__all__ = ["Systolic", "SystolicConfig"]


class Systolic(Component):
    """The array with its streams; `nomul.contract` documents its ports.

    Parameters
    ----------
    config : SystolicConfig
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        super().__init__(core_members(config))

    def elaborate(self, platform: object) -> Module:
        """Wire the jobs, the schedule, the array and the results together."""
        m = Module()
        config = self.config
        array: Any = (WeightArray if config.keeps_weights else OutputArray)(config)
        schedule: Any = (WeightSchedule if config.keeps_weights else OutputSchedule)(config)
        move, free, offered = Signal(), Signal(), Signal()
        m.submodules.intake = intake = JobIntake(config.job_limits)
        m.submodules.schedule = schedule
        m.submodules.array = enabled(move, array)
        m.submodules.follow = enabled(move, follow := _Follow(array.result_steps(config)))
        vectors: Value = Value.cast(self.vectors.payload)
        control = schedule
        if config.floats:
            vectors, control = self._align(m, schedule, array, move)
        takes = {"codes": control.codes, "vectors": schedule.vectors, "scales": control.scales}
        present = [~take | getattr(self, name).valid for name, take in takes.items()]
        m.d.comb += [
            intake.jobs.payload.eq(self.jobs.payload),
            intake.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(intake.jobs.ready),
            self.fault.eq(intake.fault),
            intake.free.eq(~schedule.running),
            schedule.start.eq(intake.start),
            *(getattr(schedule, name).eq(intake.job[name]) for name in config.job_limits),
            free.eq(~offered | self.results.ready),
            move.eq(schedule.running & free & present[0] & present[1] & present[2]),
            schedule.move.eq(move),
            array.first.eq(control.first),
            array.tag.eq(control.tag),
            follow.whole.eq(control.tag.valid & control.tag.final),
            follow.last.eq(control.last),
            self.results.valid.eq(offered),
            self.results.payload["values"].eq(array.values),
            *(getattr(self, name).ready.eq(move & take) for name, take in takes.items()),
            Value.cast(array.codes).eq(Value.cast(self.codes.payload)),
            Value.cast(array.vectors).eq(vectors),
            Value.cast(array.scales).eq(Value.cast(self.scales.payload)),
        ]
        if config.keeps_weights:
            m.d.comb += array.offer.eq(control.codes)
        with m.If(free):
            m.d.sync += offered.eq(move & follow.whole_then)
        with m.If(move):
            m.d.sync += self.results.payload.last.eq(follow.last_then)
        return m

    def _align(self, m: Module, schedule: Any, array: Any, move: Value) -> tuple[Value, Any]:
        """Put the aligner before the array; return the activations behind it, and what is said of their step."""
        config = self.config
        align: Any = (WeightAlign if config.keeps_weights else OutputAlign)(config)
        m.submodules.align = enabled(move, align)
        m.submodules.later = enabled(move, later := _Later(config))
        m.d.comb += [
            Value.cast(align.words).eq(Value.cast(self.vectors.payload)),
            Value.cast(array.sides).eq(Value.cast(align.sides)),
            *(Value.cast(later.said[name]).eq(Value.cast(getattr(schedule, name))) for name in later.names),
        ]
        if not config.keeps_weights:
            m.d.comb += align.place.eq(schedule.place)
        return Value.cast(align.values), later.then


class _Follow(Component):
    """Carries what is said of a result to the step after which it is there."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        super().__init__({"whole": In(1), "last": In(1), "whole_then": Out(1), "last_then": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        delay, whole, last = Delays(m), Signal(), Signal()
        m.d.comb += [whole.eq(self.whole), last.eq(self.last)]
        m.d.comb += [self.whole_then.eq(delay(whole, self.steps)), self.last_then.eq(delay(last, self.steps))]
        return m


class _Later(Component):
    """Carries what is said of a step to that in which its activations leave the aligner."""

    def __init__(self, config: SystolicConfig) -> None:
        self.steps = config.align_steps
        layout = control_layout(config)
        self.names = tuple(layout.members)
        super().__init__({"said": In(layout), "then": Out(layout)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += Value.cast(self.then).eq(Delays(m)(Value.cast(self.said), self.steps))
        return m
