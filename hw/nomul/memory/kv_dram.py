"""The cache of keys and values in a striped memory (`nomul.memory.striped`), with the streams of
`nomul.memory.kv_cache`.

Layout, in words of W bits from word `base` on. A row takes R = ceil(8 * head_dim / W) words, code i in byte i; the rest
of the last word has no meaning. S = W / 32 tokens make a block. Of each layer, of each key-value head in turn:

    keys      ceil(context / S) blocks of 1 + S * R words:
                one word with the scales of token i of the block in bits 32 i: 16 of the key, above them 16 of the value
                S rows of keys
    values    context * R words: rows

So a pass over a head's keys reads length * R + ceil(length / S) consecutive words, one over its values length * R: at
96 codes and W = 768, 25 words for 24 rows of keys. A token's scales are written with strobes, each with its row.

A write becomes R + 1 stores, a word each: its row, then its scale. A read is asked for once all writes before it have
been answered.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.memory.kv_cache import SCALE_BITS, read_layout, row_layout, write_layout
from nomul.memory.striped import command_layout, store_layout, word_bits

__all__ = ["KvDram", "KvLayout"]

PAIR_BITS = 2 * SCALE_BITS


class KvLayout:
    """Where things are, in words from the base on; the module says how.

    Raises
    ------
    ValueError
        If a size is not positive, or a word holds no whole number of pairs of scales.
    """

    def __init__(self, layers: int, kv_heads: int, context: int, head_dim: int, word: int) -> None:
        for name, value in (("layers", layers), ("kv_heads", kv_heads), ("context", context), ("head_dim", head_dim)):
            if value < 1:
                raise ValueError(f"KvDram {name} is {value}; allowed: 1 or more")
        if word < PAIR_BITS or word % PAIR_BITS:
            raise ValueError(f"KvDram word is {word} bits; allowed: multiples of {PAIR_BITS}")
        self.layers, self.kv_heads, self.context, self.head_dim, self.word = layers, kv_heads, context, head_dim, word

    @property
    def row(self) -> int:
        """Words of a row."""
        return -(-8 * self.head_dim // self.word)

    @property
    def tokens(self) -> int:
        """Tokens of a block."""
        return self.word // PAIR_BITS

    @property
    def block(self) -> int:
        """Words of a block of keys."""
        return 1 + self.tokens * self.row

    @property
    def values(self) -> int:
        """Words from a head's keys to its values."""
        return -(-self.context // self.tokens) * self.block

    @property
    def head(self) -> int:
        """Words of a head."""
        return self.values + self.context * self.row

    @property
    def size(self) -> int:
        """Words of everything."""
        return self.layers * self.kv_heads * self.head

    def blocks(self, tokens: Value) -> Value:
        """Return floor(tokens / `tokens`), for values up to context + tokens."""
        divisor, most = self.tokens, self.context + self.tokens
        if not divisor & (divisor - 1):
            return tokens >> (divisor.bit_length() - 1)
        # Exact for n <= most: with m = ceil(2^k / d), m d - 2^k < d <= 2^k / most.
        shift = (divisor * most - 1).bit_length()
        return (tokens * -(-(1 << shift) // divisor)) >> shift


class KvDram(Component):
    """Keys and values of all layers, behind a client of a `StripedReader` and a `StripedWriter`.

    Cycles: a write is taken while the queue has room, and takes R + 5 cycles of it or more. A command is given 4
    cycles after a read, if no write is under way; a row is offered a cycle after its last word, one every R cycles, and
    besides a cycle for the scales of S tokens.

    A reset does not change what is in the memory, but of writes under way any part may be missing.

    Parameters
    ----------
    layers, kv_heads, context, head_dim : int
        As of `nomul.memory.kv_cache.KvCache`.
    ports, port_bits, address_bits : int
        The memory, as of `nomul.memory.striped`.
    reads_most : int
        Reads that may be under way.
    writes_most : int
        Writes that wait.

    Members
    -------
    writes : In(stream of `write_layout`)
    reads : In(stream of `read_layout`)
    rows : Out(stream of `row_layout`)
        Those of the reads, in order. Scales come with keys only.
    base : In
        First word; constant while there are reads or writes.
    commands : Out(stream of `nomul.memory.striped.command_layout`), words : In(stream of W bits)
        To and from a client of the reader.
    stores : Out(stream of `nomul.memory.striped.store_layout`)
    stores_idle : In(1)
        To and from the writer.

    Raises
    ------
    ValueError
        If a size is not positive, or the cache does not fit the memory's addresses.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        context: int,
        head_dim: int,
        ports: int,
        port_bits: int,
        address_bits: int,
        reads_most: int = 16,
        writes_most: int = 32,
    ) -> None:
        self.layout = KvLayout(layers, kv_heads, context, head_dim, ports * port_bits)
        address = word_bits(port_bits, address_bits)
        if self.layout.size > 1 << address:
            raise ValueError(f"KvDram has {self.layout.size} words; allowed: {1 << address}, by its addresses")
        for name, value in (("reads_most", reads_most), ("writes_most", writes_most)):
            if value < 3:
                raise ValueError(f"KvDram {name} is {value}; allowed: 3 or more")
        self.reads_most, self.writes_most = reads_most, writes_most
        super().__init__(
            {
                "writes": In(stream.Signature(write_layout(layers, kv_heads, context, head_dim))),
                "reads": In(stream.Signature(read_layout(layers, kv_heads, context))),
                "rows": Out(stream.Signature(row_layout(head_dim))),
                "base": In(address),
                "commands": Out(stream.Signature(command_layout(port_bits, address_bits))),
                "words": In(stream.Signature(ports * port_bits)),
                "stores": Out(stream.Signature(store_layout(ports, port_bits, address_bits))),
                "stores_idle": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the two ways."""
        m = Module()
        self._read(m, self._write(m))
        return m

    def _head(self, place: data.View) -> Value:
        """Return the number of a head."""
        return place.layer * self.layout.kv_heads + place.head

    def _write(self, m: Module) -> Value:
        """Turn writes into stores; return whether any is under way here."""
        layout, words = self.layout, self.layout.row
        m.submodules.waiting = waiting = Fifo(self.writes.payload.shape(), self.writes_most)
        m.submodules.room = room = Credit(self.writes_most)
        done = Signal()
        m.d.comb += [
            self.writes.ready.eq(room.available),
            waiting.write.eq(self.writes.valid & self.writes.ready),
            waiting.payload.eq(self.writes.payload),
            room.take.eq(waiting.write),
            room.give.eq(done),
            waiting.output.ready.eq(done),
        ]
        write, store = waiting.output.payload, self.stores.payload
        width = len(self.base)
        number = Signal(range(layout.layers * layout.kv_heads), reset_less=True)
        head, place, row, scales = (
            Signal(width, name=name, reset_less=True) for name in ("head", "place", "row_address", "scales_address")
        )
        block = Signal(range(layout.context), reset_less=True)
        rest = Signal(range(max(layout.tokens, 2)), reset_less=True)
        part = Signal(range(words + 1))
        address = Signal(width, name="store_address", reset_less=True)
        codes, scale = Value.cast(write.codes), Signal()
        lanes = Cat((rest == token).replicate(PAIR_BITS // 8) for token in range(layout.tokens))
        kinds = Cat(bit.replicate(SCALE_BITS // 8) for bit in (~write["values"], write["values"]))
        strobe = Signal(layout.word // 8, reset_less=True)  # of the scale
        m.d.comb += [store.address.eq(address), scale.eq(part == words)]
        for this in range(words):
            with m.If(part == this):
                word = codes[this * layout.word : (this + 1) * layout.word]
                m.d.comb += [store.data.eq(word), store.strobe.eq(-1)]
        with m.If(scale):
            m.d.comb += [store.data.eq(write.scale.replicate(2 * layout.tokens)), store.strobe.eq(strobe)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [number.eq(self._head(write)), block.eq(layout.blocks(write.token)), part.eq(0)]
                m.d.sync += place.eq(write.token * words)
                with m.If(waiting.output.valid):
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [
                    head.eq(number * layout.head),
                    rest.eq(write.token - block * layout.tokens),
                    scales.eq(block * layout.block),
                    # Before the row of a key, there are `block` + 1 words of scales.
                    place.eq(place + Mux(write["values"], layout.values, block + 1)),
                ]
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += [row.eq(head + place), scales.eq(head + scales)]
                m.next = "BASE"
            with m.State("BASE"):
                m.d.sync += [address.eq(self.base + row), scales.eq(self.base + scales)]
                m.d.sync += [strobe.eq(lanes & kinds.replicate(layout.tokens)), self.stores.valid.eq(1)]
                m.next = "STORE"
            with m.State("STORE"), m.If(self.stores.ready):
                m.d.sync += [address.eq(Mux(part == words - 1, scales, address + 1)), part.eq(part + 1)]
                with m.If(scale):
                    m.d.comb += done.eq(1)
                    m.d.sync += self.stores.valid.eq(0)
                    m.next = "IDLE"
        return ~room.idle

    def _read(self, m: Module, writing: Value) -> None:
        """Ask for the words of reads, and make rows of them."""
        layout = self.layout
        kind = data.StructLayout({"values": 1, "length": self.reads.payload.length.shape()})
        m.submodules.expected = expected = Fifo(kind, self.reads_most)
        m.submodules.under_way = under_way = Credit(self.reads_most)
        read, command = self.reads.payload, self.commands.payload
        held = Signal(kind, reset_less=True)
        number = Signal(range(layout.layers * layout.kv_heads), reset_less=True)
        blocks = Signal(range(layout.context + layout.tokens), reset_less=True)
        offset = Signal(layout.size.bit_length(), reset_less=True)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.reads.ready.eq(under_way.available)
                m.d.sync += [
                    held["values"].eq(read["values"]),
                    held.length.eq(read.length),
                    number.eq(self._head(read)),
                    blocks.eq(layout.blocks(read.length + layout.tokens - 1)),
                ]
                with m.If(self.reads.valid & self.reads.ready):
                    m.d.comb += under_way.take.eq(1)
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [
                    offset.eq(number * layout.head),
                    command.count.eq(held.length * layout.row + Mux(held["values"], 0, blocks)),
                    command.address.eq(self.base + Mux(held["values"], layout.values, 0)),
                ]
                m.d.comb += [expected.write.eq(1), expected.payload.eq(held)]
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += command.address.eq(command.address + offset)
                m.next = "WAIT"
            with m.State("WAIT"), m.If(~writing & self.stores_idle):
                m.d.sync += self.commands.valid.eq(1)
                m.next = "COMMAND"
            with m.State("COMMAND"), m.If(self.commands.ready):
                m.d.sync += self.commands.valid.eq(0)
                m.next = "IDLE"

        current = expected.output.payload
        scales = Signal(layout.word, reset_less=True)
        pair = Signal(PAIR_BITS, reset_less=True)
        row = Signal(range(layout.context), name="row")
        token = Signal(range(layout.tokens + 1))  # of the block; the scales come before the first
        part = Signal(range(layout.row), name="part")
        take, ends, last = Signal(), Signal(), Signal()
        codes = Signal(layout.row * layout.word, name="codes", reset_less=True)
        m.d.comb += [
            self.words.ready.eq(expected.output.valid & (~self.rows.valid | self.rows.ready)),
            take.eq(self.words.valid & self.words.ready),
            last.eq(row == current.length - 1),
            expected.output.ready.eq(ends & last),
            under_way.give.eq(ends & last),
            self.rows.payload.eq(Cat(codes[: 8 * layout.head_dim], pair)),
        ]
        with m.If(self.rows.ready):
            m.d.sync += self.rows.valid.eq(0)
        with m.If(take):
            with m.If(~current["values"] & (token == 0)):
                m.d.sync += [token.eq(1), scales.eq(self.words.payload)]
            with m.Else():
                m.d.sync += codes.eq(Cat(codes, self.words.payload)[layout.word :])
                m.d.sync += part.eq(part + 1)
                m.d.comb += ends.eq(part == layout.row - 1)
        with m.If(ends):
            m.d.sync += [
                self.rows.valid.eq(1),
                pair.eq(scales.word_select((token - 1)[: len(token)], PAIR_BITS)),
                part.eq(0),
                row.eq(Mux(last, 0, row + 1)),
                token.eq(Mux(last | (token == layout.tokens) | current["values"], 0, token + 1)),
            ]
