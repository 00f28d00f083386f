"""The residual stream of a tile: made from embeddings, and added to by projections.

    x = requantise(embedding[token], EMBED)                 docs/numerics.md
    x = saturate(x + requantise(sums, scale), 20 bits)

A token's stream is `length` transfers of `lanes` words; that of token t begins at transfer t * length. A projection
that is cut into chunks adds to as many parts of it.

Cycle schedule: sums or codes taken at t enter the requantiser at t + 2; the stream's old word meets the result
`latency` cycles later, is added in the next cycle and written, saturated, in the one after.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import CODE_BITS, WORD_BITS, AcceleratorConfig, Projection
from nomul.accelerators.projection import results_layout
from nomul.accelerators.sequencer import chunks_max
from nomul.arith.pipeline import Delays
from nomul.vector.requantise import Requantise
from nomul.vector.scale import SCALE

__all__ = ["ResidualStream"]


class ResidualStream(Component):
    """The stream's memory and what changes it.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    embed : In(1)
        Begin a token: the next `length` transfers of `codes` become the stream of place `token`.
    add : In(1)
        Begin a token: the next transfers of `results`, a chunk of them, are added to the stream of place `token`.
    down : In(1)
        They are results of the down projection, not of attention's.
    token, chunk : In
        Taken, as `down` is, with `embed` or `add`, of which one may come when `idle`.
    scale : In(SCALE)
        From codes or sums to words; until `idle`.
    idle : Out(1)
    codes, results : In(stream)
    read_address : In
    read_words : Out
        The stream, two cycles after its address.
    written, words : Out
        What is written, for a trace.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.length = config.words(config.shape.width)
        self.depth = config.tile * self.length
        words = data.ArrayLayout(signed(WORD_BITS), config.lanes)
        super().__init__(
            {
                "embed": In(1),
                "add": In(1),
                "token": In(range(max(config.tile, 2))),
                "down": In(1),
                "chunk": In(range(max(chunks_max(config), 2))),
                "scale": In(SCALE),
                "idle": Out(1),
                "codes": In(stream.Signature(data.ArrayLayout(signed(CODE_BITS), config.lanes))),
                "results": In(stream.Signature(results_layout(config))),
                "read_address": In(range(self.depth)),
                "read_words": Out(words),
                "written": Out(1),
                "words": Out(words),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memories, the requantiser and the adders."""
        m = Module()
        config, length = self.config, self.length
        delay = Delays(m)
        words = self.words.shape()
        m.submodules.memory = memory = Memory(shape=words, depth=self.depth, init=[], attrs={"no_rw_check": 1})
        write, old, out = memory.write_port(), memory.read_port(), memory.read_port()
        m.submodules.requantise = requantise = Requantise(config.lanes, config.sum_bits, WORD_BITS)
        m.d.comb += out.addr.eq(self.read_address)
        m.d.sync += self.read_words.eq(out.data)

        parts = [length // config.chunks(projection) for projection in (Projection.OUT, Projection.DOWN)]
        busy, embedding_now = Signal(), Signal()
        left = Signal(range(length + 1))
        address = Signal(range(self.depth))
        issue = Signal()
        m.d.comb += [
            self.results.ready.eq(busy & ~embedding_now),
            self.codes.ready.eq(busy & embedding_now),
            issue.eq(busy & Mux(embedding_now, self.codes.valid, self.results.valid)),
        ]
        with m.If(issue):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), busy.eq(left != 1)]
        with m.If(self.embed | self.add):
            m.d.sync += [
                busy.eq(1),
                embedding_now.eq(self.embed),
                left.eq(Mux(self.embed, length, Mux(self.down, parts[1], parts[0]))),
                address.eq(self.token * length + self.chunk * Mux(self.down, parts[1], parts[0])),
            ]

        first, second = (Signal(self.results.payload["values"].shape(), name=name) for name in ("first", "second"))
        for lane in range(config.lanes):
            m.d.sync += first[lane].eq(
                Mux(embedding_now, self.codes.payload[lane], self.results.payload["values"][lane])
            )
        m.d.sync += second.eq(first)
        m.d.comb += requantise.values.eq(second)
        m.d.comb += [
            requantise.mantissa.eq(self.scale.mantissa),
            requantise.exponent.eq(self.scale.exponent),
        ]
        taken = 2 + requantise.latency
        m.d.comb += old.addr.eq(delay(address, taken - 2))
        fetched = Signal(words)
        m.d.sync += fetched.eq(old.data)
        limit = (1 << (WORD_BITS - 1)) - 1
        for lane in range(config.lanes):
            total = Signal(signed(WORD_BITS + 1), name=f"total{lane}", reset_less=True)
            addend: Value = Mux(embedding_now, 0, fetched[lane])
            m.d.sync += total.eq(requantise.words[lane] + addend)
            m.d.sync += self.words[lane].eq(Mux(total > limit, limit, Mux(total < -limit, -limit, total)))
        m.d.comb += [
            write.addr.eq(delay(address, taken + 2)),
            write.data.eq(self.words),
            write.en.eq(self.written),
            self.written.eq(delay(issue, taken + 2)),
            self.idle.eq(~busy & ~Cat(delay(issue, stage) for stage in range(1, taken + 3)).any()),
        ]
        return m
