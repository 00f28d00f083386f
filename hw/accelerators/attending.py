"""Attention for a tile: queries wait in a memory with their scales, and go to the attention unit token by token."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hw.accelerators.config import CODE_BITS, AcceleratorConfig
from hw.vector.scale import SCALE

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
        m.d.comb += [
            write.addr.eq(self.write_token * shape.heads + self.write_head),
            write.data.row.eq(self.row),
            write.data.scale.eq(self.scale),
            write.en.eq(self.write),
            read.addr.eq(place),
        ]
        group = shape.heads // shape.kv_heads
        token, member, head = Signal(range(self.config.tile + 1)), Signal(range(group)), Signal(range(shape.kv_heads))
        held = Signal(entry, reset_less=True)
        job, query = Signal(), Signal()
        m.d.comb += [
            self.queries.payload.eq(held.row),
            self.jobs.payload.layer.eq(self.layer),
            self.jobs.payload.head.eq(head),
            self.jobs.payload.length.eq(self.position + token + 1),
            self.jobs.payload.query_scale.eq(held.scale),
            self.jobs.valid.eq(job),
            self.queries.valid.eq(query),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [token.eq(0), member.eq(0), head.eq(0), place.eq(0)]
                with m.If(self.start):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "HOLD"
            with m.State("HOLD"):
                m.d.sync += [held.eq(read.data), job.eq(1), query.eq(1)]
                m.next = "OFFER"
            with m.State("OFFER"):
                with m.If(self.jobs.ready):
                    m.d.sync += job.eq(0)
                with m.If(self.queries.ready):
                    m.d.sync += query.eq(0)
                with m.If((~job | self.jobs.ready) & (~query | self.queries.ready)):
                    m.d.sync += [place.eq(place + 1), member.eq(member + 1)]
                    m.next = "READ"
                    with m.If(member == group - 1):
                        m.d.sync += [member.eq(0), head.eq(head + 1)]
                        with m.If(head == shape.kv_heads - 1):
                            m.d.sync += [head.eq(0), token.eq(token + 1)]
                            with m.If(token == self.tokens - 1):
                                m.next = "IDLE"
        return m
