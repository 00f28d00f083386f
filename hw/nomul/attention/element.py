"""A query element: all that one query needs of attention, but for the order of rows, which is its owner's."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.attention.attention_config import AttentionConfig
from nomul.attention.outputs import Outputs, result_layout
from nomul.attention.probabilities import Probabilities
from nomul.attention.products import TAKE, Products
from nomul.attention.scores import Scores
from nomul.attention.weights import Weights
from nomul.memory.kv_cache import row_layout
from nomul.vector.scale import SCALE

__all__ = ["QueryElement"]


class QueryElement(Component):
    """Attends with one query at a time, several in flight.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    length : In(unsigned)
        Visible tokens of a job that may begin.
    room : Out(1)
        It may.
    begin : In(1)
        It does.
    weighed : Out(1)
        A job's second pass has read its last score.
    take : In(TAKE)
        The row that is taken in this cycle. Keys are taken at any time, of jobs in the order in which they began;
        values in the same order, when there is a `probability` and, for the last of a job, when `drained`.
    query : In(signed(8) x head_dim)
        Taken with the first key of a job.
    query_scale : In(SCALE)
        Of the job whose key is taken.
    row : In(`row_layout`)
        The row that was taken in the last cycle.
    probability : Out(1)
    drained : Out(1)
    output_unit : In(SCALE)
    results : Out(stream of `result_layout`)
    done : Out(1)
        A job's last transfer is on its way to the results.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "length": In(config.length_bits),
                "room": Out(1),
                "begin": In(1),
                "weighed": Out(1),
                "take": In(TAKE),
                "query": In(data.ArrayLayout(signed(8), config.head_dim)),
                "query_scale": In(SCALE),
                "row": In(row_layout(config.head_dim)),
                "probability": Out(1),
                "drained": Out(1),
                "output_unit": In(SCALE),
                "results": Out(stream.Signature(result_layout(config))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the passes together."""
        m = Module()
        config = self.config
        delay = Delays(m)
        m.submodules.products = products = Products(config)
        m.submodules.scores = scores = Scores(config)
        m.submodules.weights = weights = Weights(config)
        m.submodules.probabilities = probabilities = Probabilities(config)
        m.submodules.outputs = outputs = Outputs(config)

        key, value = Signal(), Signal()
        m.d.comb += [
            key.eq(self.take.valid & ~self.take["values"]),
            value.eq(self.take.valid & self.take["values"]),
            products.take.eq(self.take),
            products.query.eq(self.query),
            products.probability.eq(probabilities.codes.payload),
            products.codes.eq(self.row.codes),
            probabilities.codes.ready.eq(value),
            self.probability.eq(probabilities.codes.valid),
        ]
        scored = products.scored
        m.d.comb += [
            self.room.eq(scores.room),
            scores.length.eq(self.length),
            scores.begin.eq(self.begin),
            scores.dot.eq(products.dot),
            scores.key.eq(scored),
            scores.key.valid.eq(scored.valid & ~scored["values"]),
            scores.key_scale.eq(delay(self.row.key_scale, products.latency - 1)),
            scores.query_scale.eq(delay(self.query_scale.as_value(), products.latency)),
            scores.value_scale.eq(self.row.value_scale),
            scores.value_write.eq(delay(key, 1)),
        ]
        # A job's second pass begins when all its scores are there, and the next buffer has room for its products.
        m.d.comb += [
            weights.jobs.payload.eq(scores.jobs.payload),
            weights.jobs.valid.eq(scores.jobs.valid & probabilities.room),
            scores.jobs.ready.eq(weights.jobs.ready & probabilities.room),
            probabilities.length.eq(scores.jobs.payload.length),
            probabilities.begin.eq(weights.jobs.valid & weights.jobs.ready),
            scores.read.eq(weights.read),
            weights.score.eq(scores.score),
            weights.value_scale.eq(scores.value_scale_read),
            self.weighed.eq(weights.ending),
            probabilities.weighted.eq(weights.weighted),
            probabilities.write.eq(weights.write),
        ]
        for taker in (probabilities, outputs):
            m.d.comb += [taker.known.eq(weights.known), taker.complete.eq(weights.complete)]
        m.d.comb += [
            outputs.output_unit.eq(self.output_unit),
            outputs.reserve.eq(value & self.take.last),
            outputs.sums.eq(products.sums),
            outputs.summed.eq(products.summed),
            self.drained.eq(outputs.drained),
            self.done.eq(outputs.done),
            self.results.payload.eq(outputs.results.payload),
            self.results.valid.eq(outputs.results.valid),
            outputs.results.ready.eq(self.results.ready),
        ]
        return m
