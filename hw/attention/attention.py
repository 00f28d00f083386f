"""Attention of single queries over a cache of INT8 keys and values, in decoupled passes, exact to the bit.

As docs/numerics.md defines it, for a job with a query q and `length` visible tokens t:

    A   score_t = requant((q . k_t) * ks_t, query_scale), largest score        a row of keys a cycle
    B   weight_t = exp2(score_t - largest), total, weight_t * vs_t, their largest  a token a cycle, no rows
    C   p_t = 255 weight_t vs_t / largest, sum of p_t v_t                        a row of values a cycle
    D   words: the sums times one unit, made of that largest and the total     `lanes` elements a cycle

Keys and values are read once each, and nothing else is: decode is bound by the cache. TeLLMe v2 (arXiv 2510.15926)
decodes in such decoupled passes too, in floating point; in prefill it reverses the order of queries and keeps an online
softmax, so as to compute nothing masked. Here the causal mask is the length of a job, and the maximum is known before
the first weight, so nothing masked is computed and nothing is rescaled.

Passes of several jobs overlap: rows of keys of later jobs come while the second pass of this one runs. Scores and
weights wait in rings of twice the context; a job's room is reserved before its first row is asked for, so that rows of
keys are always taken at once, and what is read first can always be finished. Keys go before values, as long as there is
room and a job.

Cycles, from a job's transfer to that of its last result, when no stream stalls and the cache is `KvCache`:

    alone        3 length + levels + head_dim / lanes + 59, where the unit of D is in time (84 tokens or more);
                 2 length + levels + head_dim / lanes + 121 or a few less, where it is not
    in a stream  2 length a job, or 80 / units where that is more, and 130 or less for the first and the last
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from hw.attention.attention_config import AttentionConfig
from hw.attention.element import QueryElement
from hw.attention.outputs import result_layout
from hw.memory.credit import Credit
from hw.memory.kv_cache import read_layout, row_layout
from hw.memory.queue import Queue
from hw.memory.steps import Steps
from hw.vector.scale import SCALE

__all__ = ["Attention"]


class Attention(Component):
    """The unit; the module documents its passes and cycles.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    jobs : In(stream of `AttentionConfig.job_layout`)
        The length must be 1 to `context`.
    queries : In(stream of signed(8) x head_dim)
        One for each job, in order; codes -127 to 127.
    output_unit : In(SCALE)
        Constant while there are jobs.
    reads : Out(stream of `hw.memory.kv_cache.read_layout`)
        For each job its keys, later its values.
    rows : In(stream of `hw.memory.kv_cache.row_layout`)
        In the order of the reads; codes -127 to 127.
    results : Out(stream of {values: signed(20) x lanes, last})
        head_dim / lanes transfers a job, in order; element 0 first.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "jobs": In(stream.Signature(config.job_layout)),
                "queries": In(stream.Signature(data.ArrayLayout(signed(8), config.head_dim))),
                "output_unit": In(SCALE),
                "reads": Out(stream.Signature(read_layout(config.layers, config.kv_heads, config.context))),
                "rows": In(stream.Signature(row_layout(config.head_dim))),
                "results": Out(stream.Signature(result_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Order the reads, and pass the rows to the element."""
        m = Module()
        config = self.config
        m.submodules.element = element = QueryElement(config)
        expected = self._read(m, element)

        # What the rows are that come: a step for each.
        m.submodules.steps = steps = Steps(expected.output.payload.shape())
        m.d.comb += [
            steps.commands.payload.eq(expected.output.payload),
            steps.commands.valid.eq(expected.output.valid),
            expected.output.ready.eq(steps.commands.ready),
        ]
        step = steps.steps.payload
        take, values, possible = Signal(), Signal(), Signal()
        m.d.comb += [
            values.eq(step.command["values"]),
            possible.eq(
                Mux(
                    values,
                    element.probability & (element.drained | ~step.last),
                    self.queries.valid | ~step.first,
                )
            ),
            self.rows.ready.eq(steps.steps.valid & possible),
            take.eq(self.rows.valid & self.rows.ready),
            steps.steps.ready.eq(self.rows.valid & possible),
            self.queries.ready.eq(take & ~values & step.first),
        ]
        row = Signal(self.rows.payload.shape(), reset_less=True)
        m.d.sync += row.eq(self.rows.payload)
        m.d.comb += [
            element.take.valid.eq(take),
            element.take["values"].eq(values),
            element.take.first.eq(step.first),
            element.take.last.eq(step.last),
            element.query.eq(self.queries.payload),
            element.query_scale.eq(step.command.query_scale),
            element.row.eq(row),
            element.output_unit.eq(self.output_unit),
            self.results.payload.eq(element.results.payload),
            self.results.valid.eq(element.results.valid),
            element.results.ready.eq(self.results.ready),
        ]
        return m

    def _read(self, m: Module, element: QueryElement) -> Queue:
        """Issue read commands; return the queue of those whose rows have not all begun to come."""
        config = self.config
        job = self.jobs.payload
        place = data.StructLayout({name: config.job_layout[name].shape for name in ("layer", "head", "length")})
        command = data.StructLayout({"values": 1, "length": config.length_bits, "query_scale": SCALE})
        m.submodules.in_flight = in_flight = Credit(config.jobs)
        m.submodules.later = later = Queue(place, config.jobs)
        m.submodules.expected = expected = Queue(command, 2 * config.jobs)

        idle, keys, values = Signal(), Signal(), Signal()
        weighed = Signal(range(config.jobs + 1))  # jobs whose rows of values may be asked for
        taken = later.output.payload
        m.d.comb += [
            idle.eq(~self.reads.valid | self.reads.ready),
            self.jobs.ready.eq(idle & in_flight.available & element.room),
            keys.eq(self.jobs.valid & self.jobs.ready),
            values.eq(idle & ~keys & (weighed != 0) & later.output.valid),
            element.length.eq(job.length),
            element.begin.eq(keys),
            in_flight.take.eq(keys),
            in_flight.give.eq(element.done),
            later.write.eq(keys),
            later.output.ready.eq(values),
            expected.write.eq(keys | values),
            expected.payload["values"].eq(values),
            expected.payload.length.eq(Mux(values, taken.length, job.length)),
            expected.payload.query_scale.eq(job.query_scale),
        ]
        m.d.sync += weighed.eq(weighed + element.weighed - values)
        with m.If(idle):
            m.d.sync += [self.reads.valid.eq(keys | values), self.reads.payload["values"].eq(values)]
            for name in ("layer", "head", "length"):
                m.d.sync += self.reads.payload[name].eq(Mux(values, taken[name], job[name]))
        for name in ("layer", "head", "length"):
            m.d.comb += later.payload[name].eq(job[name])
        return expected
