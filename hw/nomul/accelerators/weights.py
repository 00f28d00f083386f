"""Where an engine's weights come from: read-only memory, or DRAM through a ring.

Both give, for each chunk of a projection, its transfers as often as the tile has tokens. In DRAM the weights of a pass
lie in the order of their use, so that one command reads them all; while an engine, an attention or a norm is at work,
what follows comes into the ring.
"""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Member, Out, connect, flipped

from nomul.accelerators.config import AcceleratorConfig, Projection
from nomul.accelerators.memory_map import MemoryMap
from nomul.memory.replay import Replay
from nomul.memory.ring import Ring
from nomul.memory.striped import command_layout
from nomul.memory.trit_decoder import TritDecoder

__all__ = ["ADDRESS_BITS", "BlockWeights", "DramWeights", "weight_members"]

ADDRESS_BITS = 32
"""Width of a byte address on an AXI4 port."""

PASSES = 4
"""Passes whose weights may have been asked for."""


def weight_members(config: AcceleratorConfig) -> dict[str, Member]:
    """Return the ports of a source of weights.

    passes : In(stream of {head})
        A pass begins or will begin: its layers' weights, and the LM head's if `head`, will be wanted next.
    rewind : In(1)
        A pass begins.
    start : In(1)
        A chunk of `projection` begins, for `tokens` tokens; both stay until it has left.
    projection, tokens : In
    output : Out(stream)
    fault : Out(1)
        Dense weights decoded to nothing.
    """
    return {
        "passes": In(stream.Signature(data.StructLayout({"head": 1}))),
        "rewind": In(1),
        "start": In(1),
        "projection": In(Projection),
        "tokens": In(range(config.tile + 1)),
        "output": Out(stream.Signature(config.engine_config.weight_width)),
        "fault": Out(1),
    }


def _transfers(m: Module, config: AcceleratorConfig, projection: Value) -> Signal:
    """Return the transfers of a chunk."""
    transfers = Signal(range(max(config.transfers(each) for each in Projection) + 1))
    with m.Switch(projection):
        for each in Projection:
            with m.Case(each):
                m.d.comb += transfers.eq(config.transfers(each))
    return transfers


class BlockWeights(Component):
    """All weights in the file `weights.hex`, in the engine's own coding."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(weight_members(config))

    def elaborate(self, platform: object) -> Module:
        """Rewind for every pass."""
        m = Module()
        config = self.config
        m.submodules.replay = replay = Replay(
            config.engine_config.weight_width, config.weight_depth, "weights.hex", config.tile
        )
        m.d.comb += [
            self.passes.ready.eq(1),
            replay.rewind.eq(self.rewind),
            replay.start.eq(self.start),
            replay.count.eq(_transfers(m, config, self.projection)),
            replay.times.eq(self.tokens),
        ]
        connect(m, replay.output, flipped(self.output))
        return m


class DramWeights(Component):
    """Weights over a client of `nomul.memory.striped.StripedReader`, dense where the engine has a decoder for them.

    Further members
    ---------------
    commands : Out(stream)
    words : In(stream)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config, self.map = config, MemoryMap(config)
        super().__init__(
            {
                **weight_members(config),
                "commands": Out(stream.Signature(command_layout(config.port_bits, ADDRESS_BITS))),
                "words": In(stream.Signature(config.ports * config.port_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the commands, the decoder and the ring."""
        m = Module()
        config, place = self.config, self.map
        m.submodules.waiting = waiting = SyncFIFOBuffered(width=1, depth=PASSES)
        m.d.comb += [
            waiting.w_data.eq(self.passes.payload.head),
            waiting.w_en.eq(self.passes.valid),
            self.passes.ready.eq(waiting.w_rdy),
            self.commands.valid.eq(waiting.r_rdy),
            waiting.r_en.eq(self.commands.ready),
            self.commands.payload.address.eq(place.weights),
            self.commands.payload.count.eq(place.layers_words),
        ]
        with m.If(waiting.r_data):
            m.d.comb += self.commands.payload.count.eq(place.layers_words + place.head_words)

        m.submodules.ring = ring = Ring(
            config.engine_config.weight_width,
            config.ring,
            max(config.transfers(each) for each in Projection),
            config.tile,
            config.large_memory,
        )
        if place.code is None:
            self._gather(m, ring)
        else:
            m.submodules.decoder = decoder = TritDecoder(place.code, place.transfer_groups, place.units)
            m.d.comb += [
                Value.cast(decoder.dense.payload).eq(self.words.payload),
                decoder.dense.valid.eq(self.words.valid),
                self.words.ready.eq(decoder.dense.ready),
                ring.input.payload.eq(decoder.blocks.payload),
                ring.input.valid.eq(decoder.blocks.valid),
                decoder.blocks.ready.eq(ring.input.ready),
                self.fault.eq(decoder.fault),
            ]
        m.d.comb += [
            ring.start.eq(self.start),
            ring.count.eq(_transfers(m, config, self.projection)),
            ring.times.eq(self.tokens),
        ]
        connect(m, ring.output, flipped(self.output))
        return m

    def _gather(self, m: Module, ring: Ring) -> None:
        """Put the words of a transfer together."""
        count, width = self.map.transfer_words, self.config.engine_config.weight_width
        part, whole, valid = Signal(range(count)), Signal(count * len(self.words.payload)), Signal()
        m.d.comb += [
            self.words.ready.eq(~valid | ring.input.ready),
            ring.input.valid.eq(valid),
            ring.input.payload.eq(whole[:width]),
        ]
        with m.If(self.words.ready):
            m.d.sync += valid.eq(self.words.valid & (part == count - 1))
            with m.If(self.words.valid):
                m.d.sync += whole.eq(Cat(whole, self.words.payload)[len(self.words.payload) :])
                m.d.sync += part.eq(part + 1)
                with m.If(part == count - 1):
                    m.d.sync += part.eq(0)
