"""Attention over a cache of INT8 keys and values, in decoupled passes, exact to the bit.

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
room and a job; the values of a job are asked for when its second pass has read its last score.

Several queries may share each row that is read, those of query heads with one key-value head, or of tokens in a row:
each has an element of its own, with its products, buffers and unit of sums, and a length of its own, beyond which it
sees no row. A row is taken when all elements that want it can take it.

Cycles, from a job's transfer to that of its last result, when no stream stalls and the cache is `KvCache`:

    alone        3 length + levels + head_dim / lanes + 59; below 16 tokens up to 26 more, for the unit of D
    in a stream  2 length a job, or some 22 for the unit of D where that is more, and 21 to 81 for all jobs

levels is log2 of head_dim, rounded up; `length` the longest, if there are several queries.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.attention.attention_config import AttentionConfig
from nomul.attention.element import QueryElement
from nomul.attention.merge import Assembly, Merge
from nomul.attention.outputs import result_layout
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.memory.kv_cache import read_layout, row_layout
from nomul.memory.steps import Steps
from nomul.vector.scale import SCALE

__all__ = ["Attention"]


class Attention(Component):
    """The unit; the module documents its passes and cycles.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    jobs : In(stream of `AttentionConfig.job_layout`)
        The length must be 1 to `context`; of several queries, one at least must take part.
    queries : In(stream of signed(8) x head_dim)
        `AttentionConfig.queries` for each job, in order, also for those that take no part; codes -127 to 127.
    output_unit : In(SCALE)
        Constant while there are jobs.
    reads : Out(stream of `nomul.memory.kv_cache.read_layout`)
        For each job its keys, later its values.
    rows : In(stream of `nomul.memory.kv_cache.row_layout`)
        In the order of the reads; codes -127 to 127.
    results : Out(stream of {values: signed(20) x lanes, last})
        head_dim / lanes transfers for each query that takes part, in order; element 0 first.
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
        """Order the reads, and pass the rows to the elements."""
        m = Module()
        config = self.config
        elements = [QueryElement(config) for _ in range(config.queries)]
        for number, element in enumerate(elements):
            m.submodules[f"element{number}"] = element
        m.submodules.merge = merge = Merge(config)
        self._take(m, elements, self._read(m, elements, merge))
        m.d.comb += [
            self.results.payload.eq(merge.results.payload),
            self.results.valid.eq(merge.results.valid),
            merge.results.ready.eq(self.results.ready),
        ]
        for number, element in enumerate(elements):
            source, sink = element.results, merge.parts[number]
            m.d.comb += [
                element.output_unit.eq(self.output_unit),
                sink.payload.eq(source.payload),
                sink.valid.eq(source.valid),
                source.ready.eq(sink.ready),
            ]
        return m

    def _lengths(self, job: data.View) -> list[Value]:
        """Return the length of each query."""
        config = self.config
        return [job.length] if config.queries == 1 else [job.lengths[i] for i in range(config.queries)]

    def _read(self, m: Module, elements: list[QueryElement], merge: Merge) -> Fifo:
        """Issue read commands; return the queue of those whose rows have not all begun to come."""
        config = self.config
        job = self.jobs.payload
        m.submodules.in_flight = in_flight = Credit(config.jobs)
        m.submodules.later = later = Fifo(config.job_layout, config.jobs)
        command = data.StructLayout({"values": 1, "length": config.length_bits, "job": config.job_layout})
        m.submodules.expected = expected = Fifo(command, 2 * config.jobs)

        idle, keys, values = Signal(), Signal(), Signal()
        taken = later.output.payload
        source = Signal(config.job_layout)
        weighed = []  # of each element: have all its weights for the job that comes next been read
        for number, (element, length, next_length) in enumerate(
            zip(elements, self._lengths(job), self._lengths(taken), strict=True)
        ):
            jobs = Signal(range(config.jobs + 1), name=f"weighed{number}")
            part = next_length != 0
            m.d.sync += jobs.eq(jobs + element.weighed - (values & part))
            m.d.comb += [element.length.eq(length), element.begin.eq(keys)]
            weighed.append((jobs != 0) | ~part)
        m.d.comb += [
            idle.eq(~self.reads.valid | self.reads.ready),
            self.jobs.ready.eq(idle & in_flight.available & Cat(element.room for element in elements).all()),
            keys.eq(self.jobs.valid & self.jobs.ready),
            values.eq(idle & ~keys & later.output.valid & Cat(weighed).all()),
            in_flight.take.eq(keys),
            in_flight.give.eq(merge.done),
            merge.begin.eq(keys),
            merge.part.eq(Cat(length != 0 for length in self._lengths(job))),
            later.write.eq(keys),
            later.payload.eq(job),
            later.output.ready.eq(values),
            source.eq(Mux(values, taken.as_value(), job.as_value())),
            expected.write.eq(keys | values),
            expected.payload["values"].eq(values),
            expected.payload.length.eq(source.length),
            expected.payload.job.eq(source),
        ]
        with m.If(idle):
            m.d.sync += [self.reads.valid.eq(keys | values), self.reads.payload["values"].eq(values)]
            m.d.sync += [self.reads.payload[name].eq(source[name]) for name in ("layer", "head", "length")]
        return expected

    def _take(self, m: Module, elements: list[QueryElement], expected: Fifo) -> None:
        """Take rows, and tell each element which are its own."""
        config = self.config
        m.submodules.steps = steps = Steps(expected.output.payload.shape())
        m.submodules.assembly = assembly = Assembly(config)
        m.d.comb += [
            steps.commands.payload.eq(expected.output.payload),
            steps.commands.valid.eq(expected.output.valid),
            expected.output.ready.eq(steps.commands.ready),
            assembly.queries.payload.eq(self.queries.payload),
            assembly.queries.valid.eq(self.queries.valid),
            self.queries.ready.eq(assembly.queries.ready),
        ]
        step = steps.steps.payload
        take, values, possible = Signal(), Signal(), Signal()
        fed = []  # of each element: has it the probability of the next row, if that is its own
        lengths = self._lengths(expected.output.payload.job)
        for number, (element, length) in enumerate(zip(elements, lengths, strict=True)):
            own, last = Signal(name=f"own{number}"), Signal(name=f"last{number}")
            if config.queries == 1:
                m.d.comb += [own.eq(1), last.eq(step.last)]
            else:
                left = Signal(config.length_bits, name=f"left{number}", reset_less=True)
                with m.If(steps.commands.ready):
                    m.d.sync += [left.eq(length), own.eq(length != 0), last.eq(length == 1)]
                with m.Elif(take):
                    m.d.sync += [left.eq(left - 1), own.eq(own & ~last), last.eq(left == 2)]
            fed.append(~own | (element.probability & (element.drained | ~last)))
            job = step.command.job
            m.d.comb += [
                element.take.valid.eq(take & own),
                element.take["values"].eq(values),
                element.take.first.eq(step.first),
                element.take.last.eq(last),
                element.query.eq(assembly.group[number]),
                element.query_scale.eq(job.query_scale if config.queries == 1 else job.query_scales[number]),
            ]
        row = Signal(self.rows.payload.shape(), reset_less=True)
        m.d.sync += row.eq(self.rows.payload)
        m.d.comb += [element.row.eq(row) for element in elements]
        m.d.comb += [
            values.eq(step.command["values"]),
            possible.eq(Mux(values, Cat(fed).all(), assembly.complete | ~step.first)),
            self.rows.ready.eq(steps.steps.valid & possible),
            take.eq(self.rows.valid & self.rows.ready),
            steps.steps.ready.eq(self.rows.valid & possible),
            assembly.take.eq(take & ~values & step.first),
        ]
