"""The first pass of attention: scores in base-2 logarithms, their largest, and the buffer in which they wait for it.

    score = saturate(round_half_even(dot * key_scale * query_scale), 20 bits)

Beside its score waits the scale of the token's value. Room in the buffer is reserved when a job begins, so that no row
of keys ever waits.

Cycle schedule of a dot product at t: in registers t + 1, times the key's scale t + 2, the score after the latency of
`Requantise`, then written and compared; the largest of the job is known in the cycle after, and offered two later.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.attention.attention_config import WORD_BITS, AttentionConfig
from nomul.attention.products import TAKE
from nomul.memory.fifo import Fifo
from nomul.memory.kv_cache import SCALE_BITS
from nomul.memory.wide import WideMemory
from nomul.vector.requantise import Requantise
from nomul.vector.scale import SCALE

__all__ = ["Scores", "scored_layout"]


def scored_layout(config: AttentionConfig) -> data.StructLayout:
    """Return what is known of a job when its last score is: the largest score, and how many there are."""
    return data.StructLayout({"largest": signed(WORD_BITS), "length": config.length_bits})


class Scores(Component):
    """Scores keys and keeps what the second pass needs.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    length : In(unsigned)
        Keys of a job that may begin.
    room : Out(1)
        There is room for them.
    begin : In(1)
        It begins: the room is its own.
    dot : In(signed(dot_bits))
    key : In(TAKE)
        The key whose dot product it is.
    key_scale : In(16)
        Its scale.
    query_scale : In(SCALE)
        That of its job.
    value_scale : In(16)
        Of the row that was taken in the last cycle.
    value_write : In(1)
        That was a row of keys.
    jobs : Out(stream of `scored_layout`)
        Jobs whose scores are all in the buffer, in order.
    read : In(1)
        Take the oldest entry out of the buffer.
    score, value_scale_read : Out
        The entry, two cycles later.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "length": In(config.length_bits),
                "room": Out(1),
                "begin": In(1),
                "dot": In(signed(config.dot_bits)),
                "key": In(TAKE),
                "key_scale": In(SCALE_BITS),
                "query_scale": In(SCALE),
                "value_scale": In(SCALE_BITS),
                "value_write": In(1),
                "jobs": Out(stream.Signature(scored_layout(config))),
                "read": In(1),
                "score": Out(signed(WORD_BITS)),
                "value_scale_read": Out(SCALE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build scores, buffer and maximum."""
        m = Module()
        config = self.config
        free = Signal(range(config.ring + 1), init=config.ring)
        m.d.comb += self.room.eq(self.length <= free)
        m.d.sync += free.eq(free - Mux(self.begin, self.length, 0) + self.read)

        delay = Delays(m)
        m.submodules.requantise = requantise = Requantise(1, config.scaled_bits, WORD_BITS)
        dot = Signal(signed(config.dot_bits), reset_less=True)
        key_scale = Signal(SCALE_BITS, reset_less=True)
        scaled = Signal(signed(config.scaled_bits), reset_less=True)
        m.d.sync += [dot.eq(self.dot), key_scale.eq(self.key_scale), scaled.eq(dot * key_scale)]
        query_scale = data.View(SCALE, delay(self.query_scale.as_value(), 2))
        m.d.comb += [
            requantise.values[0].eq(scaled),
            requantise.mantissa.eq(query_scale.mantissa),
            requantise.exponent.eq(query_scale.exponent),
        ]
        score = requantise.words[0]
        key = data.View(TAKE, delay(self.key.as_value(), 2 + requantise.latency))

        known = Signal(scored_layout(config), reset_less=True)
        complete = Signal()
        m.d.sync += complete.eq(key.valid & key.last)
        with m.If(key.valid):
            m.d.sync += known.length.eq(Mux(key.first, 1, known.length + 1))
            with m.If(key.first | (score > known.largest)):
                m.d.sync += known.largest.eq(score)
        m.submodules.waiting = waiting = Fifo(known.shape(), config.jobs)
        m.d.comb += [
            waiting.write.eq(complete),
            waiting.payload.eq(known),
            self.jobs.payload.eq(waiting.output.payload),
            self.jobs.valid.eq(waiting.output.valid),
            waiting.output.ready.eq(self.jobs.ready),
        ]

        m.submodules.scores = scores = WideMemory(WORD_BITS, config.ring, config.target)
        m.submodules.value_scales = value_scales = WideMemory(SCALE_BITS, config.ring, config.target)
        scored, held, reading = (Signal(range(config.ring), name=name) for name in ("scored", "held", "reading"))
        m.d.sync += [
            scored.eq(scored + key.valid),
            held.eq(held + self.value_write),
            reading.eq(reading + self.read),
        ]
        m.d.comb += [
            scores.write.eq(key.valid),
            scores.write_address.eq(scored),
            scores.write_data.eq(score),
            value_scales.write.eq(self.value_write),
            value_scales.write_address.eq(held),
            value_scales.write_data.eq(self.value_scale),
        ]
        for name, memory, output in (("score", scores, self.score), ("scale", value_scales, self.value_scale_read)):
            fetched, read_out = (Signal(output.shape(), name=f"{name}_{when}", reset_less=True) for when in "12")
            m.d.comb += [memory.read_address.eq(reading), output.eq(read_out)]
            m.d.sync += [fetched.eq(memory.read_data), read_out.eq(fetched)]
        return m
