"""The memory of hidden vectors: gated products, or the output of attention, until a norm has read them.

Cycle schedule: words given at t are written at the end of t; an address given at t has its words in `words` from t + 2.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import WORD_BITS, AcceleratorConfig, Projection
from nomul.accelerators.sequencer import chunks_max

__all__ = ["HiddenVectors"]


class HiddenVectors(Component):
    """Keeps the hidden vectors of a tile, one after the other.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    begin : In(1)
        A step begins: attention's words of `tokens` tokens come, if any do, head by head for each
        `AcceleratorConfig.queries` tokens in a row.
    tokens : In(unsigned)
    gate : In(1)
        Gated products of `token` begin, or those of its `chunk`.
    token, chunk : In(unsigned)
    gated_valid, attended_valid : In(1)
        At most one of them.
    gated, attended : In
        `lanes` products, or as many words of attention.
    attended_all : Out(1)
        All words of attention have been written.
    written : Out(1)
    write_words : Out
        What is written, for traces.
    address : In(unsigned)
    words : Out
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.depth = config.tile * config.words_max
        products = data.ArrayLayout(signed(config.product_bits), config.lanes)
        super().__init__(
            {
                "begin": In(1),
                "tokens": In(range(config.tile + 1)),
                "gate": In(1),
                "token": In(range(max(config.tile, 2))),
                "chunk": In(range(max(chunks_max(config), 2))),
                "gated_valid": In(1),
                "gated": In(products),
                "attended_valid": In(1),
                "attended": In(data.ArrayLayout(signed(WORD_BITS), config.lanes)),
                "attended_all": Out(1),
                "written": Out(1),
                "write_words": Out(products),
                "address": In(range(self.depth)),
                "words": Out(products),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory and the address that is written."""
        m = Module()
        config, shape = self.config, self.config.shape
        m.submodules.memory = memory = Memory(
            shape=self.words.shape(), depth=self.depth, init=[], attrs=config.large_memory
        )
        write, read = memory.write_port(), memory.read_port()
        address, left = Signal(range(self.depth + 1)), Signal(range(self.depth + 1))
        for lane in range(config.lanes):
            m.d.comb += self.write_words[lane].eq(Mux(self.attended_valid, self.attended[lane], self.gated[lane]))
        m.d.comb += [
            self.written.eq(self.gated_valid | self.attended_valid),
            write.addr.eq(address),
            write.data.eq(self.write_words),
            write.en.eq(self.written),
            read.addr.eq(self.address),
            self.attended_all.eq(left == 0),
        ]
        m.d.sync += self.words.eq(read.data)
        with m.If(self.written):
            m.d.sync += address.eq(address + 1)
        with m.If(self.attended_valid):
            m.d.sync += left.eq(left - 1)
        if config.queries > 1:
            self._scatter(m, address)
        with m.If(self.begin):
            m.d.sync += [address.eq(0), left.eq(self.tokens * config.words(shape.queries))]
        ffn = config.words(shape.ffn)
        with m.If(self.gate):
            part = ffn // config.chunks(Projection.GATE_UP)
            m.d.sync += address.eq(self.token * ffn + self.chunk * part)
        return m

    def _scatter(self, m: Module, address: Signal) -> None:
        """Put the outputs of several tokens where each belongs: a head of one token follows that of another."""
        config, shape = self.config, self.config.shape
        row, words = config.words(shape.queries), config.words(shape.head_dim)
        word, head, element = Signal(range(words)), Signal(range(shape.heads)), Signal(range(config.queries))
        first, rest = Signal.like(address), Signal.like(self.tokens)  # of a head, and tokens from its first on
        last_word, last_head, last_token = Signal(), Signal(), Signal()
        m.d.comb += [
            last_word.eq(word == words - 1),
            last_head.eq(head == shape.heads - 1),
            last_token.eq((element == config.queries - 1) | (element == rest - 1)),
        ]
        with m.If(self.attended_valid):
            m.d.sync += word.eq(word + 1)
            with m.If(last_word):
                m.d.sync += [word.eq(0), element.eq(element + 1), address.eq(address + 1 + row - words)]
                with m.If(last_token):
                    m.d.sync += [element.eq(0), head.eq(head + 1), first.eq(first + words), address.eq(first + words)]
                    with m.If(last_head):
                        beyond = first + words + (config.queries - 1) * row
                        m.d.sync += [head.eq(0), rest.eq(rest - config.queries), first.eq(beyond), address.eq(beyond)]
        with m.If(self.begin):
            m.d.sync += [word.eq(0), head.eq(0), element.eq(0), first.eq(0), rest.eq(self.tokens)]
