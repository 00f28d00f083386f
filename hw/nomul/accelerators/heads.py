"""Queries, keys and values: sums of the first projection become INT8 codes with a scale for each head.

    q, k = absmax(rotate(sums)),  v = absmax(sums)          docs/numerics.md

The packer puts rotary partners into one transfer: transfer j of a head of queries or keys holds elements j * lanes / 2
and up, then those half a head above. A head's codes keep this order, in queries as in keys, so their products do not
change. Values pass the same rotation with cosine 2^10 and sine 0, which is exactly nothing.

The quantiser's codes are gathered to the row of a head, while the scale processor makes its scale from the maximum.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import CODE_BITS, AcceleratorConfig, Projection
from nomul.accelerators.projection import results_layout
from nomul.accelerators.scale_programs import Program
from nomul.accelerators.sequencer import chunks_max
from nomul.arith.pipeline import Delays
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.vector.rope import RopeTable, Rotate

__all__ = ["HeadRotation", "Heads", "vectors_of_chunk"]

UNITY = 1 << 10
"""The cosine that leaves a value as it is: `Rotate` keeps four bits of fourteen."""

WAITING = 32
"""Transfers that may wait for the quantiser."""


def vectors_of_chunk(config: AcceleratorConfig) -> int:
    """Return the vectors of a token that a chunk of the first projection makes."""
    return config.shape.vectors // config.chunks(Projection.QKV)


class HeadRotation(Component):
    """Rotates the sums of a tile, in order of tokens; the codes of positions are made when a tile begins.

    Members
    -------
    prepare : In(1)
        Make sines and cosines of `tokens` positions from `position` up.
    prepared : Out(1)
        They are made.
    start : In(1)
        Sums of `tokens` tokens follow.
    position, tokens, chunk : In
        The chunk of the projection: so many vectors of each token.
    results : In(stream)
    values : Out(stream of lanes)
        To the quantiser.
    """

    def __init__(self, config: AcceleratorConfig, value_bits: int) -> None:
        self.config, self.value_bits = config, value_bits
        self.pairs = config.lanes // 2
        super().__init__(
            {
                "prepare": In(1),
                "prepared": Out(1),
                "start": In(1),
                "position": In(range(config.shape.context)),
                "tokens": In(range(config.tile + 1)),
                "chunk": In(range(max(chunks_max(config), 2))),
                "results": In(stream.Signature(results_layout(config))),
                "values": Out(stream.Signature(data.ArrayLayout(signed(value_bits), config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory of sines and cosines, and the rotation."""
        m = Module()
        config, pairs = self.config, self.pairs
        shape, transfers = config.shape, config.words(config.shape.head_dim)
        angle = data.StructLayout({"cosine": signed(16), "sine": signed(16)})
        row = data.ArrayLayout(angle, pairs)
        m.submodules.angles = angles = Memory(shape=row, depth=max(config.tile * transfers, 2), init=[])
        write, read = angles.write_port(), angles.read_port()
        m.submodules.table = table = RopeTable(config.steps)

        # Pairs come one a cycle; a row of them is written when it is whole.
        written = Signal(range(config.tile * transfers + 1))
        token, running = Signal(range(config.tile + 1)), Signal()
        gathered = Signal(row)
        place, whole = Signal(range(max(pairs, 2))), Signal()
        m.d.comb += [
            table.position.eq(self.position + token),
            write.addr.eq(written),
            write.data.eq(gathered),
            write.en.eq(whole),
        ]
        m.d.sync += whole.eq(table.valid & (place == pairs - 1))
        with m.If(table.valid):
            m.d.sync += [
                gathered.eq(Cat(gathered.as_value()[32:], table.cosine[:16], table.sine[:16])),
                place.eq(Mux(place == pairs - 1, 0, place + 1)),
            ]
        with m.If(whole):
            m.d.sync += written.eq(written + 1)
        last = Signal()
        m.d.comb += last.eq(table.valid & (table.pair == shape.head_dim // 2 - 1))
        with m.If(last):
            m.d.sync += token.eq(token + 1)
        with m.If(self.prepare):
            m.d.sync += [written.eq(0), token.eq(0), running.eq(1)]
        began = Signal()
        m.d.sync += began.eq((self.prepare | last) & ~(last & (token == self.tokens - 1)))
        m.d.comb += table.start.eq(began)
        with m.If(last & (token == self.tokens - 1)):
            m.d.sync += running.eq(0)
        m.d.comb += self.prepared.eq(~running & ~whole)

        # Transfers of sums, with the sines and cosines of their token and place.
        m.submodules.room = room = Credit(WAITING)
        part = vectors_of_chunk(config)
        transfer, vector, member = Signal(range(transfers)), Signal(range(shape.vectors)), Signal(range(part))
        base, issue = Signal(range(config.tile * transfers + 1)), Signal()
        m.d.comb += [
            issue.eq(self.results.valid & room.available),
            self.results.ready.eq(room.available),
            room.take.eq(issue),
            read.addr.eq(base + transfer),
        ]
        with m.If(issue):
            m.d.sync += transfer.eq(transfer + 1)
            with m.If(transfer == transfers - 1):
                m.d.sync += [transfer.eq(0), member.eq(member + 1)]
                with m.If(member == part - 1):
                    m.d.sync += [member.eq(0), base.eq(base + transfers)]
        with m.If(self.start):
            m.d.sync += [base.eq(0), transfer.eq(0), member.eq(0)]
        m.d.comb += vector.eq(self.chunk * part + member)
        m.submodules.rotate = rotate = Rotate(config.lanes, config.sum_bits)
        delay = Delays(m)
        plain = Signal()
        m.d.comb += plain.eq(vector >= shape.heads + shape.kv_heads)
        sums = self.results.payload["values"]
        first, second = (Signal(sums.shape(), name=name, reset_less=True) for name in ("first", "second"))
        factors = Signal(row, reset_less=True)
        m.d.sync += [first.eq(sums), second.eq(first)]
        for pair in range(pairs):
            m.d.sync += [
                factors[pair].cosine.eq(Mux(delay(plain, 1), UNITY, read.data[pair].cosine)),
                factors[pair].sine.eq(Mux(delay(plain, 1), 0, read.data[pair].sine)),
            ]
            m.d.comb += [
                rotate.cosines[pair].eq(factors[pair].cosine),
                rotate.sines[pair].eq(factors[pair].sine),
            ]
        m.submodules.waiting = waiting = Fifo(self.values.payload.shape(), WAITING)
        m.d.comb += rotate.values.eq(second)
        for lane in range(config.lanes):
            m.d.comb += waiting.payload[lane].eq(rotate.rotated[lane])
        m.d.comb += [
            waiting.write.eq(delay(issue, 2 + rotate.latency)),
            room.give.eq(waiting.taken),
            self.values.payload.eq(waiting.output.payload),
            self.values.valid.eq(waiting.output.valid),
            waiting.output.ready.eq(self.values.ready),
        ]
        return m


class Heads(Component):
    """Gathers rows of codes, has their scales made, and says where each goes.

    Members
    -------
    start : In(1)
        Vectors of `tokens` tokens follow.
    tokens, chunk : In
    codes : In(stream of {values, last})
        Of the quantiser.
    maxima : In(stream)
        Of the quantiser; taken with the row.
    scale_start : Out(1)
    program : Out(3)
    token : Out
        To the scale processor.
    scale_done : In(1)
    row : Out
        Codes of a head; while `queries` or `cached` is set.
    queries : Out(1)
        The row is that of query head `head`; the processor's `result` is its scale.
    cached : Out(1)
        The row belongs into the cache; the processor's `word` is its scale.
    accepted : In(1)
        The cache takes it.
    values : Out(1)
        It is one of values, not of keys.
    head : Out
    done : Out(1)
        No token is left.
    """

    def __init__(self, config: AcceleratorConfig, maximum_bits: int) -> None:
        self.config = config
        codes = data.StructLayout({"values": data.ArrayLayout(signed(CODE_BITS), config.lanes), "last": 1})
        maxima = data.StructLayout({"values": data.ArrayLayout(maximum_bits, 1), "last": 1})
        super().__init__(
            {
                "start": In(1),
                "tokens": In(range(config.tile + 1)),
                "chunk": In(range(max(chunks_max(config), 2))),
                "codes": In(stream.Signature(codes)),
                "maxima": In(stream.Signature(maxima)),
                "scale_start": Out(1),
                "program": Out(Program),
                "token": Out(range(max(config.tile, 2))),
                "scale_done": In(1),
                "row": Out(data.ArrayLayout(signed(CODE_BITS), config.shape.head_dim)),
                "queries": Out(1),
                "cached": Out(1),
                "accepted": In(1),
                "values": Out(1),
                "head": Out(range(max(config.shape.heads, 2))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Gather rows, and count heads and tokens."""
        m = Module()
        config, shape = self.config, self.config.shape
        row = Signal(config.shape.head_dim * CODE_BITS, reset_less=True)
        whole, busy, asked, made = Signal(), Signal(), Signal(), Signal()
        kind, left = Signal(2), Signal(self.tokens.shape())
        m.d.comb += [
            self.row.as_value().eq(row),
            self.codes.ready.eq(busy & ~whole),
            self.program.eq(Mux(kind == 0, Program.QUERY, Mux(kind == 1, Program.KEY, Program.VALUE))),
            self.done.eq(~busy),
            self.values.eq(kind == 2),
        ]
        with m.If(self.codes.valid & self.codes.ready):
            m.d.sync += row.eq(Cat(row[config.lanes * CODE_BITS :], self.codes.payload["values"]))
            m.d.sync += whole.eq(self.codes.payload.last)
        m.d.comb += self.scale_start.eq(busy & self.maxima.valid & ~asked)
        with m.If(self.scale_start):
            m.d.sync += asked.eq(1)
        with m.If(self.scale_done & asked):
            m.d.sync += made.eq(1)
        part = vectors_of_chunk(config)
        complete, vector = Signal(), Signal(range(shape.vectors))
        member = Signal(range(part))
        m.d.comb += [
            complete.eq(whole & made & ((kind == 0) | self.accepted)),
            self.maxima.ready.eq(complete),
            self.queries.eq(complete & (kind == 0)),
            self.cached.eq(whole & made & (kind != 0)),
            vector.eq(self.chunk * part + member),
            kind.eq((vector >= shape.heads) + (vector >= shape.heads + shape.kv_heads)),
            self.head.eq(Mux(kind == 0, vector, vector - Mux(kind == 1, shape.heads, shape.heads + shape.kv_heads))),
        ]
        with m.If(complete):
            m.d.sync += [whole.eq(0), asked.eq(0), made.eq(0), member.eq(member + 1)]
            with m.If(member == part - 1):
                m.d.sync += [member.eq(0), self.token.eq(self.token + 1), left.eq(left - 1), busy.eq(left != 1)]
        with m.If(self.start):
            m.d.sync += [busy.eq(1), left.eq(self.tokens), self.token.eq(0), member.eq(0)]
        return m
