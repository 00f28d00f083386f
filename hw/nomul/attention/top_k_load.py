"""The first part of `nomul.attention.top_k`: jobs and scores, to words of a memory of two banks."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.attention.top_k_config import TopKConfig, address_width, task_layout
from nomul.contract import JobIntake, core_members

__all__ = ["Loader"]


class Loader(Component):
    """Takes jobs, and their scores into the bank that is not being selected from.

    Scores shift through a word from its top lane down, so those of an unfinished last word are in its highest lanes.
    The sign is inverted: scores become unsigned numbers of the same order.
    """

    def __init__(self, config: TopKConfig) -> None:
        self.config = config
        members = core_members(config)
        super().__init__(
            {
                "jobs": members["jobs"],
                "scores": members["scores"],
                "fault": Out(1),
                "address": Out(address_width(config)),
                "bank": Out(1),
                "word": Out(data.ArrayLayout(config.score_bits, config.lanes)),
                "write": Out(1),
                "posted": Out(1),
                "task": Out(task_layout(config)),
                "free": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the shift register and its counters."""
        m = Module()
        config = self.config
        m.submodules.intake = intake = JobIntake(config.job_limits)
        take, final, full = Signal(), Signal(), Signal()
        left = Signal(range(config.scores_max + 1))
        lane = Signal(range(config.lanes))
        valid = Signal(config.lanes)
        number = Signal(range(config.words_max + 1))
        m.d.comb += [
            intake.jobs.payload.eq(self.jobs.payload),
            intake.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(intake.jobs.ready),
            self.fault.eq(intake.fault),
            take.eq(self.scores.valid & self.scores.ready),
            final.eq(left == 1),
            full.eq(lane == config.lanes - 1),
        ]
        with m.If(take):
            score = self.scores.payload[0].as_unsigned()
            flipped = Cat(score[:-1], ~score[-1])
            m.d.sync += [
                left.eq(left - 1),
                lane.eq(Mux(full | final, 0, lane + 1)),
                Value.cast(self.word).eq(Cat(Value.cast(self.word), flipped)[config.score_bits :]),
                valid.eq(Cat(Mux(lane == 0, 0, valid), 1)[1:]),
            ]
        m.d.sync += self.write.eq(take & (full | final))
        m.d.comb += self.address.eq(number)
        with m.If(self.write):
            m.d.sync += number.eq(number + 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += intake.free.eq(1)
                m.d.sync += [number.eq(0), left.eq(intake.job.scores)]
                with m.If(intake.start):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += self.scores.ready.eq(1)
                with m.If(take & final):
                    m.next = "POST"
            with m.State("POST"):  # the last word is being written
                m.d.sync += [
                    self.task.last.eq(number),
                    self.task.valid.eq(valid),
                    self.task.base.eq(intake.job.scores - config.lanes),
                    self.task.wanted.eq(intake.job.k - 1),
                    self.posted.eq(1),
                ]
                m.next = "WAIT"
            with m.State("WAIT"), m.If(self.free):  # the selector takes the task, and leaves the other bank
                m.d.sync += [self.posted.eq(0), self.bank.eq(~self.bank)]
                m.next = "IDLE"
        return m
