"""The projections: codes of a tile of tokens, kept in a memory, times the matrices of a model, by any ternary engine.

A norm writes the codes of its tokens one after the other. A projection then reads them as often as it has matrices,
gives them to the engine with the matrix's weights, once for each token, and passes the results on.
"""

from amaranth.hdl import Module, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from nomul.accelerators.config import CODE_BITS, AcceleratorConfig, Projection
from nomul.memory.gearbox import Gearbox

__all__ = ["Projections", "results_layout"]


def results_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the payload of an engine's results."""
    return data.StructLayout({"values": data.ArrayLayout(signed(config.sum_bits), config.lanes), "last": 1})


class Projections(Component):
    """The engine, its weights, and the codes it is given.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write : In(1)
    code_address : In(unsigned)
    codes : In
        A transfer of codes.
    start : In(1)
        Begin a chunk of a projection.
    projection : In(3)
        A `Projection`, until the results have come.
    tokens : In(unsigned)
    weights : In(stream)
        The chunk's transfers, once for each token.
    results : Out(stream)
    fault : Out(1)
        The weights were not weights.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.depth = config.tile * config.words_max
        super().__init__(
            {
                "write": In(1),
                "code_address": In(range(self.depth)),
                "codes": In(data.ArrayLayout(signed(CODE_BITS), config.lanes)),
                "start": In(1),
                "projection": In(Projection),
                "tokens": In(range(config.tile + 1)),
                "weights": In(stream.Signature(config.engine_config.weight_width)),
                "results": Out(stream.Signature(results_layout(config))),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the code memory, the weights and the engine together."""
        m = Module()
        config = self.config
        m.submodules.engine = engine = config.engine.component(config.engine_config)
        n_in, n_out, words = (
            Signal(range(most + 1), name=name)
            for name, most in (
                ("n_in", config.engine_config.n_in_max),
                ("n_out", config.engine_config.n_out_max),
                ("words", config.words_max),
            )
        )
        with m.Switch(self.projection):
            for projection in Projection:
                with m.Case(projection):
                    m.d.comb += [
                        n_in.eq(config.inputs(projection)),
                        n_out.eq(config.outputs(projection) // config.chunks(projection)),
                        words.eq(config.words(config.inputs(projection))),
                    ]

        job = Signal()  # a job waits for the engine
        with m.If(self.start):
            m.d.sync += job.eq(1)
        with m.Elif(engine.jobs.ready):
            m.d.sync += job.eq(0)
        m.d.comb += [
            engine.jobs.valid.eq(job),
            engine.jobs.payload.n_in.eq(n_in),
            engine.jobs.payload.n_out.eq(n_out),
            engine.jobs.payload.tokens.eq(self.tokens),
        ]
        if len(config.engine_config.modes) > 1:
            m.d.comb += engine.jobs.payload.mode.eq(config.mode)

        m.d.comb += [
            Value.cast(engine.weights.payload).eq(self.weights.payload),
            engine.weights.valid.eq(self.weights.valid),
            self.weights.ready.eq(engine.weights.ready),
            self.fault.eq(engine.fault),
        ]
        self._codes(m, engine, words)
        connect(m, engine.results, flipped(self.results))
        return m

    def _codes(self, m: Module, engine: Component, words: Value) -> None:
        """Read the codes of all tokens, in the engine's lanes."""
        config = self.config
        lanes: ShapeLike = self.codes.shape()
        m.submodules.codes = memory = Memory(shape=lanes, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.submodules.gearbox = gearbox = Gearbox(signed(CODE_BITS), config.lanes, config.engine_config.activation_lanes)
        address, word, token = Signal(range(self.depth + 1)), Signal(words.shape()), Signal(self.tokens.shape())
        busy, read_valid, read_last, step = Signal(), Signal(), Signal(), Signal()
        held, held_valid, held_last = Signal(lanes, reset_less=True), Signal(), Signal()
        m.d.comb += [
            write.addr.eq(self.code_address),
            write.data.eq(self.codes),
            write.en.eq(self.write),
            step.eq(~held_valid | gearbox.input.ready),
            read.addr.eq(address),
            read.en.eq(step),
            gearbox.input.valid.eq(held_valid),
            gearbox.input.payload.values.eq(held),
            gearbox.input.payload.last.eq(held_last),
        ]
        with m.If(step):
            m.d.sync += [
                read_valid.eq(busy), read_last.eq(word == words - 1),
                held.eq(read.data), held_valid.eq(read_valid), held_last.eq(read_last),
            ]  # fmt: skip
            with m.If(busy):
                m.d.sync += [address.eq(address + 1), word.eq(word + 1)]
                with m.If(word == words - 1):
                    m.d.sync += [word.eq(0), token.eq(token + 1)]
                    with m.If(token == self.tokens - 1):
                        m.d.sync += busy.eq(0)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), address.eq(0), word.eq(0), token.eq(0)]
        connect(m, gearbox.output, engine.activations)
