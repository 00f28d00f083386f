"""Attention of BWTA from end to end: packed queries, scores, a boolean attention by threshold, the product with values.

    scores = K ternary(q),    A = boolean(scores),    y = V^T A

ternary and boolean are thresholds of half a scale (`nomul.vector.threshold`). One engine makes both products, the
second of what the first one gives; keys and values come as its weight stream, packed to two bits, as a cache holds
them. All that leaves is an exact integer: the scales of the attention and of the values are applied once, by whoever
takes it (BWTA, arXiv 2604.03957: the epilogue after attention x V multiplies by both).

A job is one query of one head.

    size, keys    the length of the query, and the tokens attended to
    query_scale   s of the ternary threshold, in units of the query
    score_scale   s of the boolean one; both are 1 or more, for 2 x > 0 and 2 x > 1 are the same of an integer x
    queries       the query, `lanes_in` elements a transfer; what is beyond its end may be anything
    weights       the keys [keys, size], then the values transposed, [size, keys], as `nomul.engines.bwta` takes ternary
                  weights, four codes in each lane of eight bits; what is beyond a matrix is zero
    results       y, [size], `rows` elements a transfer

Cycle schedule: the query goes through its threshold into the engine, a beat a cycle, from three cycles after the job
on. Scores are taken as they come; the last one's word enters the engine two cycles after it, so nothing but that waits
for it. The next job may be taken then, and its query while the second product is made.
"""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import Component

from nomul.attention.bwta_attention_config import BwtaAttentionConfig
from nomul.contract import JobIntake, core_members
from nomul.engines.bwta import Bwta
from nomul.vector.threshold import Threshold

__all__ = ["BwtaAttention", "BwtaAttentionConfig"]


def busy(scores: Value, values: Value, querying: Value, collecting: Value) -> Value:
    """Tell whether something of a job is still to be given to the engine: its two jobs, and both their vectors."""
    return scores | values | querying | collecting


def ends(left: Value, lanes: int) -> Value:
    """Tell whether a transfer of so many lanes is the last of what is left."""
    return left <= lanes


def fills(place: Value, last: Value, parts: int) -> Value:
    """Tell whether scores fill a word of so many parts up, or are a query's last."""
    return last | (place == parts - 1)


class BwtaAttention(Component):
    """The unit; `nomul.contract` and the module document its ports.

    Parameters
    ----------
    config : BwtaAttentionConfig
    """

    def __init__(self, config: BwtaAttentionConfig) -> None:
        self.config = config
        super().__init__(core_members(config))

    def elaborate(self, platform: object) -> Module:
        """Wire the engine to itself through the second threshold."""
        m = Module()
        config, lanes = self.config, self.config.lanes_in
        m.submodules.intake = intake = JobIntake(config.job_limits)
        m.submodules.engine = engine = Bwta(config.engine)
        m.submodules.pack = pack = Threshold(lanes, config.query_bits)
        job, modes = intake.job, [mode.name for mode in config.engine.modes]

        scores, values = Signal(), Signal()  # a job of the engine that is still to be given
        querying, collecting, final = Signal(), Signal(), Signal()  # where activations come from; their last transfer
        left = Signal(range(config.length_max + 1))  # of the vector that the engine takes
        asking, unasked = Signal(), Signal(range(config.size_max + 1))  # of the query
        m.d.comb += [
            intake.jobs.payload.eq(self.jobs.payload),
            intake.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(intake.jobs.ready),
            self.fault.eq(intake.fault),
            intake.free.eq(~busy(scores, values, querying, collecting)),
        ]
        with m.If(self.queries.valid & self.queries.ready):
            m.d.sync += [unasked.eq(unasked - lanes), asking.eq(~ends(unasked, lanes))]

        m.d.comb += [
            engine.jobs.valid.eq(scores | values),
            engine.jobs.payload.n_in.eq(Mux(scores, job["size"], job["keys"])),
            engine.jobs.payload.n_out.eq(Mux(scores, job["keys"], job["size"])),
            engine.jobs.payload.tokens.eq(1),
            engine.jobs.payload.mode.eq(Mux(scores, modes.index("ternary"), modes.index("boolean"))),
        ]
        with m.If(engine.jobs.valid & engine.jobs.ready):
            m.d.sync += [scores.eq(0), values.eq(scores)]

        beat = Signal()
        word, full = self._collect(m, engine, job["score_scale"], beat & collecting)
        m.d.comb += [
            beat.eq(engine.activations.valid & engine.activations.ready),
            pack.scale.eq(job["query_scale"]),
            pack.values.payload.eq(self.queries.payload),
            pack.values.valid.eq(self.queries.valid & asking),
            self.queries.ready.eq(pack.values.ready & asking),
            pack.activations.ready.eq(engine.activations.ready & querying),
            engine.activations.valid.eq(Mux(querying, pack.activations.valid, full & collecting)),
            Value.cast(engine.activations.payload).eq(Mux(querying, Value.cast(pack.activations.payload), word)),
            final.eq(ends(left, lanes)),
            self.weights.ready.eq(engine.weights.ready),
            engine.weights.valid.eq(self.weights.valid),
            Value.cast(engine.weights.payload).eq(Value.cast(self.weights.payload)),
        ]
        with m.If(beat):
            m.d.sync += left.eq(left - lanes)
            with m.If(final):
                m.d.sync += [querying.eq(0), collecting.eq(querying), left.eq(job["keys"])]
        with m.If(intake.start):
            m.d.sync += [
                scores.eq(1), values.eq(1), querying.eq(1), left.eq(job["size"]), asking.eq(1), unasked.eq(job["size"]),
            ]  # fmt: skip
        return m

    def _collect(self, m: Module, engine: Bwta, scale: Value, emptied: Value) -> tuple[Signal, Signal]:
        """Send a job's results to the second threshold or out, in turn; return a word of activations and its flag.

        The engine makes zero of the lanes of a word that are beyond the keys.
        """
        lanes, rows = self.config.lanes_in, self.config.rows
        m.submodules.attend = attend = Threshold(rows, self.config.engine.total_width)
        out, last = Signal(), Signal()  # results are the second product's; the transfer in `attend` is a query's last
        word, full, place = Signal(2 * lanes), Signal(), Signal(range(lanes // rows))
        taken, filled = Signal(), fills(place, last, lanes // rows)
        m.d.comb += [
            taken.eq(engine.results.valid & engine.results.ready),
            attend.scale.eq(scale),
            attend.boolean.eq(1),
            attend.values.payload.eq(engine.results.payload.values),
            attend.values.valid.eq(engine.results.valid & ~out),
            self.results.payload.eq(engine.results.payload),
            self.results.valid.eq(engine.results.valid & out),
            engine.results.ready.eq(Mux(out, self.results.ready, attend.values.ready)),
            attend.activations.ready.eq(~full | emptied),
        ]
        with m.If(taken & engine.results.payload.last):
            m.d.sync += out.eq(~out)
        with m.If(taken & ~out):
            m.d.sync += last.eq(engine.results.payload.last)
        with m.If(emptied):
            m.d.sync += full.eq(0)
        with m.If(attend.activations.valid & attend.activations.ready):
            m.d.sync += [full.eq(filled), place.eq(Mux(filled, 0, place + 1))]
            bits = Value.cast(attend.activations.payload)
            for part in range(lanes // rows):
                with m.If(place == part):
                    m.d.sync += word.word_select(part, len(bits)).eq(bits)
        return word, full
