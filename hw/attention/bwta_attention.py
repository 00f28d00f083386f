"""Attention of BWTA from end to end: packed queries, scores, a boolean attention by threshold, the product with values.

    scores = K ternary(q),    A = boolean(scores),    y = V^T A

ternary and boolean are thresholds of half a scale (`hw.vector.threshold`). One engine makes both products, the second
of what the first one gives; keys and values come as its weight stream, packed to two bits, as a cache holds them. All
that leaves is an exact integer: the scales of the attention and of the values are applied once, by whoever takes it
(BWTA, arXiv 2604.03957: the epilogue after attention x V multiplies by both).

Cycle schedule: the second product's activations are collected while scores still come; nothing waits for the last one.
"""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In

from hw.engines.bwta import Bwta, BwtaConfig
from hw.vector.threshold import Threshold

__all__ = ["BwtaAttention"]


class BwtaAttention(Component):
    """One head, one query a job.

    Parameters
    ----------
    config : BwtaConfig
        Of the engine: `products` is all, `lanes_in` a multiple of `rows`; both lengths of a job fit `n_in_max` and
        `n_out_max`.
    width : int
        Width of an element of a query, two's complement.

    Members
    -------
    jobs : In(stream)
        `size`, the length of a query; `keys`, the tokens attended to; `query_scale`, s of the ternary threshold, and
        `score_scale`, s of the boolean one, unsigned.
    queries : In(stream of signed(width) x lanes_in)
        A query in ceil(size / lanes_in) transfers.
    weights : In(stream)
        The keys [keys, size], then the values, transposed [size, keys], as the engine's modes `ternary` and `boolean`
        take them.
    results : Out(stream)
        As the engine's: y, [size].

    Raises
    ------
    ValueError
        If the configuration is not one of these.
    """

    def __init__(self, config: BwtaConfig, width: int) -> None:
        if config.products != "all":
            raise ValueError(f"BwtaAttention products is {config.products!r}; allowed: 'all'")
        if config.lanes_in % config.rows:
            raise ValueError(
                f"BwtaAttention lanes_in is {config.lanes_in}; allowed: a multiple of rows = {config.rows}"
            )
        self.config = config
        self.engine = Bwta(config)
        self.pack = Threshold(config.lanes_in, width)
        self.attend = Threshold(config.rows, config.total_width)
        self.names = [mode.name for mode in config.modes]
        most = min(config.n_in_max, config.n_out_max)
        job = data.StructLayout(
            {"size": range(most + 1), "keys": range(most + 1), "query_scale": width, "score_scale": config.total_width}
        )
        engine = self.engine.signature.members
        super().__init__(
            {
                "jobs": In(stream.Signature(job)),
                "queries": In(stream.Signature(data.ArrayLayout(signed(width), config.lanes_in))),
                "weights": engine["weights"],
                "results": engine["results"],
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the engine to itself through the second threshold."""
        m = Module()
        m.submodules.engine, m.submodules.pack = engine, pack = self.engine, self.pack
        m.submodules.attend = self.attend

        job = Signal.like(self.jobs.payload)
        scores, values = Signal(), Signal()  # a job of the engine that is still to be given
        querying, collecting, final = Signal(), Signal(), Signal()  # where activations come from; their last transfer
        beats = Signal(range(-(-self.config.n_in_max // self.config.lanes_in) + 1))
        asking, asked = Signal(), Signal.like(beats)  # transfers of the query are still to come
        m.d.comb += self.jobs.ready.eq(~(scores | values | querying | collecting))
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [job.eq(self.jobs.payload), scores.eq(1), values.eq(1), querying.eq(1), asking.eq(1)]
        with m.If(self.queries.valid & self.queries.ready):
            m.d.sync += asked.eq(asked + 1)
            with m.If((asked + 1) * self.config.lanes_in >= job.size):
                m.d.sync += [asking.eq(0), asked.eq(0)]

        m.d.comb += [
            engine.jobs.valid.eq(scores | values),
            engine.jobs.payload.n_in.eq(Mux(scores, job.size, job.keys)),
            engine.jobs.payload.n_out.eq(Mux(scores, job.keys, job.size)),
            engine.jobs.payload.tokens.eq(1),
            engine.jobs.payload.mode.eq(Mux(scores, self.names.index("ternary"), self.names.index("boolean"))),
        ]
        with m.If(engine.jobs.valid & engine.jobs.ready):
            m.d.sync += [scores.eq(0), values.eq(scores)]

        word, full = self._collect(m, job.score_scale)
        beat = engine.activations.valid & engine.activations.ready
        m.d.comb += [
            pack.scale.eq(job.query_scale),
            pack.values.payload.eq(self.queries.payload),
            pack.values.valid.eq(self.queries.valid & asking),
            self.queries.ready.eq(pack.values.ready & asking),
            pack.activations.ready.eq(engine.activations.ready & querying),
            engine.activations.valid.eq(Mux(querying, pack.activations.valid, full & collecting)),
            Value.cast(engine.activations.payload).eq(Mux(querying, Value.cast(pack.activations.payload), word)),
            final.eq((beats + 1) * self.config.lanes_in >= Mux(querying, job.size, job.keys)),
        ]
        with m.If(beat):
            m.d.sync += beats.eq(Mux(final, 0, beats + 1))
            with m.If(final):
                m.d.sync += [querying.eq(0), collecting.eq(querying)]
        with m.If(beat & collecting):
            m.d.sync += full.eq(0)

        m.d.comb += [
            self.weights.ready.eq(engine.weights.ready),
            engine.weights.valid.eq(self.weights.valid),
            engine.weights.payload.eq(self.weights.payload),
        ]
        return m

    def _collect(self, m: Module, scale: Value) -> tuple[Signal, Signal]:
        """Send a token's results to the second threshold or out, in turn; return a word of activations and its flag."""
        engine, attend, config = self.engine, self.attend, self.config
        out, last = Signal(), Signal()  # results are the second product's; the transfer in `attend` is a token's last
        parts = config.lanes_in // config.rows
        word, full, place = Signal(2 * config.lanes_in), Signal(), Signal(range(parts))
        taken = engine.results.valid & engine.results.ready
        m.d.comb += [
            attend.scale.eq(scale),
            attend.boolean.eq(1),
            attend.values.payload.eq(engine.results.payload.values),
            attend.values.valid.eq(engine.results.valid & ~out),
            self.results.payload.eq(engine.results.payload),
            self.results.valid.eq(engine.results.valid & out),
            engine.results.ready.eq(Mux(out, self.results.ready, attend.values.ready)),
            attend.activations.ready.eq(~full),
        ]
        with m.If(taken & engine.results.payload.last):
            m.d.sync += out.eq(~out)
        with m.If(taken & ~out):
            m.d.sync += last.eq(engine.results.payload.last)
        with m.If(attend.activations.valid & ~full):
            bits = Value.cast(attend.activations.payload)
            for part in range(parts):
                with m.If(place == part):
                    m.d.sync += word.word_select(part, len(bits)).eq(bits)
            # What follows a token's last transfer in its word is zero, since a word begins so.
            if parts > 1:
                with m.If(place == 0):
                    m.d.sync += word[len(bits) :].eq(0)
            m.d.sync += [full.eq(last | (place == parts - 1)), place.eq(Mux(last | (place == parts - 1), 0, place + 1))]
        return word, full
