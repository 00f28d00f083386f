"""Attention for a tile: queries wait in a memory with their scales, and go to the attention unit token by token.

`queries` tokens in a row share each row of keys and values that is read: their queries of a head go together, then
those of the next head. Of the last tokens of a tile there may be fewer; the others take no part.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import CODE_BITS, AcceleratorConfig
from nomul.vector.scale import SCALE

__all__ = ["QueryBuffer"]


class QueryBuffer(Component):
    """Keeps the queries of a tile, and gives them to the attention unit.

    Members
    -------
    write : In(1)
        A query of head `write_head` of token `write_token`.
    write_token, write_head : In
    row : In
    scale : In(SCALE)
    start : In(1)
        Attend for `tokens` tokens, the first of which sees `position` + 1.
    layer, position, tokens : In
    jobs, queries : Out(stream)
        To the attention unit.
    """

    def __init__(self, config: AcceleratorConfig, jobs: data.StructLayout) -> None:
        self.config = config
        shape = config.shape
        row = data.ArrayLayout(signed(CODE_BITS), shape.head_dim)
        super().__init__(
            {
                "write": In(1),
                "write_token": In(range(max(config.tile, 2))),
                "write_head": In(range(max(shape.heads, 2))),
                "row": In(row),
                "scale": In(SCALE),
                "start": In(1),
                "layer": In(range(max(shape.layers, 2))),
                "position": In(range(shape.context)),
                "tokens": In(range(config.tile + 1)),
                "jobs": Out(stream.Signature(jobs)),
                "queries": Out(stream.Signature(row)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk the queries in the order in which they came."""
        m = Module()
        shape = self.config.shape
        entry = data.StructLayout({"row": self.row.shape(), "scale": SCALE})
        m.submodules.memory = memory = Memory(shape=entry, depth=max(self.config.tile * shape.heads, 2), init=[])
        write, read = memory.write_port(), memory.read_port()
        place = Signal(range(memory.depth))
        # Queries are written a cycle late: the way from the heads to a memory of look-up tables is long.
        written = Signal(entry, reset_less=True)
        m.d.sync += [
            write.addr.eq(self.write_token * shape.heads + self.write_head),
            written.row.eq(self.row),
            written.scale.eq(self.scale),
            write.en.eq(self.write),
        ]
        m.d.comb += [write.data.eq(written), read.addr.eq(place)]
        group, count = shape.heads // shape.kv_heads, self.config.queries
        token, member, head = Signal(range(self.config.tile + 1)), Signal(range(group)), Signal(range(shape.kv_heads))
        element, first = Signal(range(count)), Signal(range(memory.depth))
        held, scales = Signal(entry, reset_less=True), Signal(data.ArrayLayout(SCALE, count), reset_less=True)
        job, query, last_query, last_tokens = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.queries.payload.eq(held.row),
            self.jobs.payload.layer.eq(self.layer),
            self.jobs.payload.head.eq(head),
            self.jobs.valid.eq(job),
            self.queries.valid.eq(query),
            last_query.eq(element == count - 1),
            last_tokens.eq(token + count >= self.tokens),
        ]
        if count == 1:
            m.d.comb += [
                self.jobs.payload.length.eq(self.position + token + 1),
                self.jobs.payload.query_scale.eq(scales[0]),
            ]
        else:
            m.d.comb += [
                self.jobs.payload.length.eq(self.position + Mux(last_tokens, self.tokens, token + count)),
                self.jobs.payload.query_scales.eq(scales),
            ]
            for number in range(count):
                sees = self.position + token + number + 1
                m.d.comb += self.jobs.payload.lengths[number].eq(Mux(token + number < self.tokens, sees, 0))
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [token.eq(0), member.eq(0), head.eq(0), element.eq(0), place.eq(0), first.eq(0)]
                with m.If(self.start):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "HOLD"
            with m.State("HOLD"):
                m.d.sync += [held.eq(read.data), scales[element].eq(read.data.scale), job.eq(last_query), query.eq(1)]
                m.next = "OFFER"
            with m.State("OFFER"):
                with m.If(self.jobs.ready):
                    m.d.sync += job.eq(0)
                with m.If(self.queries.ready):
                    m.d.sync += query.eq(0)
                with m.If((~job | self.jobs.ready) & (~query | self.queries.ready)):
                    m.d.sync += [place.eq(place + shape.heads), element.eq(element + 1)]
                    m.next = "READ"
                    with m.If(last_query):
                        m.d.sync += [place.eq(first + 1), first.eq(first + 1), element.eq(0), member.eq(member + 1)]
                        with m.If(member == group - 1):
                            m.d.sync += [member.eq(0), head.eq(head + 1)]
                            with m.If(head == shape.kv_heads - 1):
                                beyond = first + 1 + (count - 1) * shape.heads
                                m.d.sync += [head.eq(0), token.eq(token + count), place.eq(beyond), first.eq(beyond)]
                                with m.If(last_tokens):
                                    m.next = "IDLE"
        return m
