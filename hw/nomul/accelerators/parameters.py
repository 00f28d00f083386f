"""Where a machine's small parameters are: gains, constants, and rows of the embedding; here, in read-only memories.

The ports are those of any such store (`nomul.accelerators.parameters_dram` has them in DRAM): rows of the embedding
come as a stream when asked for; gains of a norm and constants are read by address, after they were asked for.
"""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.accelerators.config import CODE_BITS, AcceleratorConfig
from nomul.accelerators.norms import gain_offsets, gain_words
from nomul.accelerators.scale_programs import CONSTANTS
from nomul.memory.rom import Rom
from nomul.vector.scale import SCALE

__all__ = ["BlockParameters", "parameter_members"]


def parameter_members(config: AcceleratorConfig) -> dict[str, Member]:
    """Return the ports of a store of parameters.

    rows : In(stream of token identities)
    codes : Out(stream)
        For each, the transfers of its row of the embedding.
    load : In(1)
        Norm `norm` of layer `layer` begins; its gains are there when `loaded`.
    norm, layer : In
    loaded : Out(1)
    gain_address : In
        A transfer of gains of that norm; they come two cycles later.
    gains : Out
    constant_address : In
        A constant: 32 for each layer; it comes two cycles later.
    constant : Out(SCALE)
    """
    shape = config.shape
    codes = data.ArrayLayout(signed(CODE_BITS), config.lanes)
    return {
        "rows": In(stream.Signature(range(shape.vocabulary))),
        "codes": Out(stream.Signature(codes)),
        "load": In(1),
        "norm": In(range(len(gain_offsets(config)))),
        "layer": In(range(max(shape.layers, 2))),
        "loaded": Out(1),
        "gain_address": In(range(config.words_max + 1)),
        "gains": Out(codes),
        "constant_address": In(range(shape.layers * CONSTANTS)),
        "constant": Out(SCALE),
    }


class BlockParameters(Component):
    """Parameters in read-only memories: `embedding.hex`, `gains.hex`, `constants.hex`.

    Cycle schedule: a row asked for at t begins at t + 3; a transfer is taken in every cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(parameter_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build the memories."""
        m = Module()
        config, shape = self.config, self.config.shape
        length = config.words(shape.width)
        codes = self.codes.payload.shape()
        m.submodules.embedding = embedding = Rom(codes, shape.vocabulary * length, "embedding.hex")
        m.submodules.gain_memory = gains = Rom(codes, gain_words(config), "gains.hex")
        m.submodules.constant_memory = constants = Rom(SCALE, shape.layers * CONSTANTS, "constants.hex")
        m.d.comb += [
            constants.enable.eq(1),
            constants.address.eq(self.constant_address),
            self.constant.eq(constants.data),
        ]

        base = Signal(range(gain_words(config)))
        layer_words = gain_offsets(config)[-1]
        with m.Switch(self.norm):
            for norm, offset in enumerate(gain_offsets(config)):
                with m.Case(norm):
                    m.d.sync += base.eq(self.layer * layer_words + offset)
        m.d.comb += [
            self.loaded.eq(1),
            gains.enable.eq(1),
            gains.address.eq(base + self.gain_address),
            self.gains.eq(gains.data),
        ]

        left, address = Signal(range(length + 1)), Signal(range(shape.vocabulary * length))
        valid, step = Signal(Rom.LATENCY), Signal()
        m.d.comb += [
            step.eq(~self.codes.valid | self.codes.ready),
            self.rows.ready.eq(left == 0),
            embedding.enable.eq(step),
            embedding.address.eq(address),
            self.codes.valid.eq(valid[-1]),
            self.codes.payload.eq(embedding.data),
        ]
        with m.If(step):
            m.d.sync += [valid[0].eq(left != 0), valid[1].eq(valid[0])]
            with m.If(left != 0):
                m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
        with m.If(self.rows.valid & self.rows.ready):
            m.d.sync += [left.eq(length), address.eq(self.rows.payload * length)]
        return m
