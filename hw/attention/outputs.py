"""The end of a job of attention: the unit of its sums, and the sums as words.

    unit = (norm(largest) * output_unit) / norm(total),   word_i = saturate(round_half_even(sum_i * unit), 20 bits)

Units are computed while the rows of values come, by one or more sequential scale units in turn, 86 cycles at most each.
The sums leave their registers for others, so that the next job's rows need not wait for the words.

Cycle schedule: words of sums that are complete at t leave the requantiser from t + 3 + latency on, `lanes` a cycle.
"""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from hw.arith.pipeline import Delays
from hw.attention.attention_config import WORD_BITS, AttentionConfig
from hw.attention.weights import weighed_layout
from hw.memory.credit import Credit
from hw.memory.queue import Queue
from hw.vector.requantise import Requantise
from hw.vector.scale import SCALE, Operation, ScaleUnit

__all__ = ["OutputUnit", "Outputs", "result_layout"]

WAITING = 32
"""Transfers that wait while the consumer stalls."""


def result_layout(config: AttentionConfig) -> data.StructLayout:
    """Return the payload of the results: words, and `last` on the last transfer of a job."""
    return data.StructLayout({"values": data.ArrayLayout(signed(WORD_BITS), config.lanes), "last": 1})


class OutputUnit(Component):
    """The scale of one job's sums after the other.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    output_unit : In(SCALE)
    jobs : In(stream of `weighed_layout`)
    units : Out(stream of SCALE)
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "output_unit": In(SCALE),
                "jobs": In(stream.Signature(weighed_layout(config))),
                "units": Out(stream.Signature(SCALE)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Lead a scale unit through four operations."""
        m = Module()
        config = self.config
        m.submodules.scale = scale = ScaleUnit(max(config.weighted_bits, config.total_bits))
        job = Signal(self.jobs.payload.shape(), reset_less=True)
        divisor = Signal(SCALE, reset_less=True)
        operation = Signal(range(4))  # norm(total), norm(largest), times output_unit, divided by the first
        busy, begin, finished, leave = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.jobs.ready.eq(~busy & ~finished),
            leave.eq(finished & (~self.units.valid | self.units.ready)),
            scale.a.eq(scale.result),
            scale.integer.eq(Mux(operation == 0, job.total, job.largest)),
            scale.start.eq(begin),
        ]
        m.d.sync += begin.eq(scale.done & (operation != 3))
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [job.eq(self.jobs.payload), busy.eq(1), operation.eq(0), begin.eq(1)]
        with m.If(scale.done):
            m.d.sync += operation.eq(operation + 1)
            with m.If(operation == 0):
                m.d.sync += divisor.eq(scale.result)
            with m.If(operation == 3):
                m.d.sync += [busy.eq(0), finished.eq(1)]
        with m.Switch(operation):
            with m.Case(0, 1):
                m.d.comb += scale.operation.eq(Operation.NORMALISE)
            with m.Case(2):
                m.d.comb += [scale.operation.eq(Operation.MULTIPLY), scale.b.eq(self.output_unit)]
            with m.Default():
                m.d.comb += [scale.operation.eq(Operation.DIVIDE), scale.b.eq(divisor)]
        with m.If(leave):
            m.d.sync += [self.units.valid.eq(1), self.units.payload.eq(scale.result), finished.eq(0)]
        with m.Elif(self.units.ready):
            m.d.sync += self.units.valid.eq(0)
        return m


class Outputs(Component):
    """Words of a job's sums.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    output_unit : In(SCALE)
    known : In(`weighed_layout`)
    complete : In(1)
        It is valid.
    reserve : In(1)
        The last row of values of a job is taken: its sums will come here.
    drained : Out(1)
        That may be.
    sums : In(signed(sum_bits) x head_dim)
    summed : In(1)
        They are complete.
    results : Out(stream of `result_layout`)
    done : Out(1)
        The last of a job's sums are read.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "output_unit": In(SCALE),
                "known": In(weighed_layout(config)),
                "complete": In(1),
                "reserve": In(1),
                "drained": Out(1, init=1),
                "sums": In(data.ArrayLayout(signed(config.sum_bits), config.head_dim)),
                "summed": In(1),
                "results": Out(stream.Signature(result_layout(config))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build units, registers of sums, requantiser and queue."""
        m = Module()
        config = self.config
        valid, unit, used = self._units(m)
        sums = Signal(self.sums.shape(), reset_less=True)
        full, issue, last = Signal(), Signal(), Signal()
        group = Signal(range(config.transfers))
        m.submodules.room = room = Credit(WAITING)
        m.d.comb += [
            issue.eq(full & valid & room.available),
            last.eq(group == config.transfers - 1),
            used.eq(issue & last),
            self.done.eq(issue & last),
            room.take.eq(issue),
        ]
        with m.If(self.summed):
            m.d.sync += [sums.eq(self.sums), full.eq(1)]
        with m.If(issue):
            m.d.sync += group.eq(group + 1)
            with m.If(last):
                m.d.sync += [group.eq(0), full.eq(0)]
        with m.If(self.reserve):
            m.d.sync += self.drained.eq(0)
        with m.Elif(self.done):
            m.d.sync += self.drained.eq(1)

        delay = Delays(m)
        m.submodules.requantise = requantise = Requantise(config.lanes, config.sum_bits, WORD_BITS)
        chosen = Signal(data.ArrayLayout(signed(config.sum_bits), config.lanes), reset_less=True)
        scale = Signal(SCALE, reset_less=True)
        m.d.sync += scale.eq(unit)
        for lane in range(config.lanes):
            m.d.sync += chosen[lane].eq(Array(sums[i] for i in range(lane, config.head_dim, config.lanes))[group])
        m.d.comb += [
            requantise.values.eq(chosen),
            requantise.mantissa.eq(scale.mantissa),
            requantise.exponent.eq(scale.exponent),
        ]
        m.submodules.queue = queue = Queue(result_layout(config), WAITING)
        m.d.comb += [
            queue.payload["values"].eq(requantise.words),
            queue.payload.last.eq(delay(last, 1 + requantise.latency)),
            queue.write.eq(delay(issue, 1 + requantise.latency)),
            room.give.eq(queue.taken),
            self.results.payload.eq(queue.output.payload),
            self.results.valid.eq(queue.output.valid),
            queue.output.ready.eq(self.results.ready),
        ]
        return m

    def _units(self, m: Module) -> tuple[Signal, data.View, Signal]:
        """Return whether the next job's unit is there, the unit, and the signal that it has been used."""
        config = self.config
        m.submodules.waiting = waiting = Queue(weighed_layout(config), config.jobs)
        m.d.comb += [waiting.payload.eq(self.known), waiting.write.eq(self.complete)]
        units = [OutputUnit(config) for _ in range(config.units)]
        valid, unit, used = Signal(), Signal(SCALE), Signal()
        giving, taking = Signal(range(config.units)), Signal(range(config.units))
        for number, maker in enumerate(units):
            m.submodules[f"unit{number}"] = maker
            m.d.comb += [maker.output_unit.eq(self.output_unit), maker.jobs.payload.eq(waiting.output.payload)]
            with m.If(giving == number):
                m.d.comb += [maker.jobs.valid.eq(waiting.output.valid), waiting.output.ready.eq(maker.jobs.ready)]
            with m.If(taking == number):
                m.d.comb += [valid.eq(maker.units.valid), unit.eq(maker.units.payload), maker.units.ready.eq(used)]
        for pointer, advance in ((giving, waiting.taken), (taking, used)):
            with m.If(advance):
                m.d.sync += pointer.eq(Mux(pointer == config.units - 1, 0, pointer + 1))
        return valid, unit, used
