"""The end of a job of attention: the unit of its sums, and the sums as words.

    unit = (norm(largest) * output_unit) / norm(total),   word_i = saturate(round_half_even(sum_i * unit), 20 bits)

The unit is computed while the rows of values come.
The sums leave their registers for others, so that the next job's rows need not wait for the words.

Cycle schedule: words of sums that are complete at t leave the requantiser from t + 3 + latency on, `lanes` a cycle.
"""

from amaranth.hdl import Array, Module, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.attention.attention_config import WORD_BITS, AttentionConfig
from nomul.attention.output_unit import OutputUnit
from nomul.attention.weights import weighed_layout
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.vector.requantise import Requantise
from nomul.vector.scale import SCALE

__all__ = ["Outputs", "result_layout"]

WAITING = 16
"""Transfers that wait while the consumer stalls."""


def result_layout(config: AttentionConfig) -> data.StructLayout:
    """Return the payload of the results: words, and `last` on the last transfer of a job."""
    return data.StructLayout({"values": data.ArrayLayout(signed(WORD_BITS), config.lanes), "last": 1})


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
        m.submodules.waiting = waiting = Fifo(weighed_layout(config), config.jobs)
        m.submodules.unit = unit = OutputUnit(config)
        m.d.comb += [
            waiting.payload.eq(self.known),
            waiting.write.eq(self.complete),
            unit.output_unit.eq(self.output_unit),
            unit.jobs.payload.eq(waiting.output.payload),
            unit.jobs.valid.eq(waiting.output.valid),
            waiting.output.ready.eq(unit.jobs.ready),
        ]
        sums = Signal(self.sums.shape(), reset_less=True)
        full, issue, last = Signal(), Signal(), Signal()
        group = Signal(range(config.transfers))
        m.submodules.room = room = Credit(WAITING)
        m.d.comb += [
            issue.eq(full & unit.units.valid & room.available),
            last.eq(group == config.transfers - 1),
            unit.units.ready.eq(issue & last),
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
        m.d.sync += scale.eq(unit.units.payload)
        for lane in range(config.lanes):
            m.d.sync += chosen[lane].eq(Array(sums[i] for i in range(lane, config.head_dim, config.lanes))[group])
        m.d.comb += [
            requantise.values.eq(chosen),
            requantise.mantissa.eq(scale.mantissa),
            requantise.exponent.eq(scale.exponent),
        ]
        m.submodules.queue = queue = Fifo(result_layout(config), WAITING)
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
