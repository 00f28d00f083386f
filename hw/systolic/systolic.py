"""Systolic arrays of MixPE's integer element: matrix products of many tokens, with weights in groups.

    y[t, o] = sum over groups g of scale[o, g] * sum_{k in g} a[t, k] * (code[o, k] - zero[o, g])

for tiles of prefill (many tokens) and for decoding (one). Codes and zero points have four bits, unsigned; products are
shifts and additions of recoded codes (`hw.arith.recoding`); zero points and scales are applied once a group, or once a
tile of weights, at the edge of the columns (`hw.systolic.edge`). MixPE (arXiv 2411.16158) names output-stationary
arrays and publishes no circuit; this one is ours.

With dataflow `output` (`hw.systolic.output_stationary`) an element adds up one output of one token; a tile is `rows`
outputs of `columns` tokens, and lasts as long as the inputs, in whole groups. With dataflow `weight`
(`hw.systolic.weight_stationary`) an element keeps a weight; a tile is `rows` inputs of `columns` outputs, and lasts for
`tokens_tile` tokens, while the next tile's weights come. Tiles follow each other without a gap.

Operands come from outside once for each tile that they are in; docs/formats.md has the order of the streams.

Cycle schedule: a job taken at cycle t makes its first step at t + 2. In every cycle in which what a step takes is
there, and no result waits, the array moves on by one step. A job's last result is offered in the cycle after the last
of the steps that `SystolicConfig.cycles` counts; after a few more the next job may start.
"""

from typing import Any

from amaranth.hdl import EnableInserter, Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from hw.arith.pipeline import Delays
from hw.systolic.config import SystolicConfig
from hw.systolic.output_stationary import OutputArray, OutputSchedule
from hw.systolic.weight_stationary import WeightArray, WeightSchedule
from hw.unit_contract import JobIntake, unit_members

__all__ = ["Systolic", "SystolicConfig"]

STREAMS = ("codes", "vectors", "scales")


class Systolic(Component):
    """The array with its streams; `hw.unit_contract` documents its ports.

    Parameters
    ----------
    config : SystolicConfig
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        super().__init__(unit_members(config))

    def elaborate(self, platform: object) -> Module:
        """Wire the jobs, the schedule, the array and the results together."""
        m = Module()
        config = self.config
        array: Any = (WeightArray if config.keeps_weights else OutputArray)(config)
        schedule: Any = (WeightSchedule if config.keeps_weights else OutputSchedule)(config)
        move, free, offered = Signal(), Signal(), Signal()
        m.submodules.intake = intake = JobIntake(config.job_limits)
        m.submodules.schedule = schedule
        m.submodules.array = EnableInserter(move)(array)
        m.submodules.follow = EnableInserter(move)(follow := _Follow(array.result_steps(config)))
        present = [~getattr(schedule, name) | getattr(self, name).valid for name in STREAMS]
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
            array.first.eq(schedule.first),
            array.tag.eq(schedule.tag),
            follow.whole.eq(schedule.tag.valid & schedule.tag.final),
            follow.last.eq(schedule.last),
            self.results.valid.eq(offered),
            self.results.payload["values"].eq(array.values),
        ]
        if config.keeps_weights:
            m.d.comb += array.offer.eq(schedule.codes)
        for name in STREAMS:
            stream = getattr(self, name)
            m.d.comb += [
                stream.ready.eq(move & getattr(schedule, name)),
                Value.cast(getattr(array, name)).eq(Value.cast(stream.payload)),
            ]
        with m.If(free):
            m.d.sync += offered.eq(move & follow.whole_then)
        with m.If(move):
            m.d.sync += self.results.payload.last.eq(follow.last_then)
        return m


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
