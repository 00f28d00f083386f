"""Gains, constants and the embedding in DRAM (`nomul.accelerators.memory_map`).

After reset the header's digest is compared and all constants are read; a norm's gains are read into a buffer when it
begins; rows of the embedding pass as they come.
"""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import CODE_BITS, AcceleratorConfig
from nomul.accelerators.memory_map import CONSTANT_BYTES, DIGEST_BITS, MemoryMap, digest
from nomul.accelerators.norms import Norm
from nomul.accelerators.parameters import parameter_members
from nomul.accelerators.scale_programs import CONSTANTS
from nomul.accelerators.weights import ADDRESS_BITS
from nomul.memory.gearbox import Gearbox
from nomul.memory.striped import command_layout
from nomul.vector.scale import SCALE

__all__ = ["DramParameters"]


class DramParameters(Component):
    """Parameters over a client of `nomul.memory.striped.StripedReader`.

    Members beside those of `nomul.accelerators.parameters.parameter_members`
    ----------------------------------------------------------------------
    commands : Out(stream)
    words : In(stream)
    ready : Out(1)
        The constants have come, and the image is one for this machine.
    mismatch : Out(1)
        It is not.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config, self.map = config, MemoryMap(config)
        super().__init__(
            {
                **parameter_members(config),
                "commands": Out(stream.Signature(command_layout(config.port_bits, ADDRESS_BITS))),
                "words": In(stream.Signature(config.ports * config.port_bits)),
                "ready": Out(1),
                "mismatch": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the control, and the ways to the constants, the gains and the embedding."""
        m = Module()
        config, shape, place = self.config, self.config.shape, self.map
        codes = self.codes.payload.shape()
        m.submodules.constant_memory = constants = Memory(shape=SCALE, depth=shape.layers * CONSTANTS, init=[])
        m.submodules.gain_memory = gains = Memory(shape=codes, depth=config.words_max, init=[])
        write_constant, read_constant = constants.write_port(), constants.read_port()
        write_gain, read_gain = gains.write_port(), gains.read_port()
        m.submodules.numbers = numbers = Gearbox(8, place.word_bytes, CONSTANT_BYTES)
        m.submodules.elements = elements = Gearbox(signed(CODE_BITS), place.word_bytes, config.lanes)
        m.d.comb += [read_constant.addr.eq(self.constant_address), read_gain.addr.eq(self.gain_address)]
        m.d.sync += [self.constant.eq(read_constant.data), self.gains.eq(read_gain.data)]

        left, words = Signal(range(max(shape.layers * CONSTANTS, config.words_max) + 1)), Signal(24)
        address, asking = Signal(self.commands.payload.address.shape()), Signal()
        gain_base, length, gain_count = Signal(address.shape()), Signal(range(config.words_max + 1)), Signal(24)
        with m.Switch(self.norm):
            for norm in Norm:
                with m.Case(norm):
                    m.d.comb += [
                        gain_base.eq(place.gains + self.layer * place.layer_gain_words + place.norm_offset(norm)),
                        gain_count.eq(place.words(place.norm_length(norm))),
                        length.eq(config.words(place.norm_length(norm))),
                    ]
        m.d.comb += [
            self.commands.valid.eq(asking),
            self.commands.payload.address.eq(address),
            self.commands.payload.count.eq(words),
        ]
        with m.If(self.commands.ready):
            m.d.sync += asking.eq(0)

        def ask(first: Value | int, count: Value | int) -> list[object]:
            return [address.eq(first), words.eq(count), asking.eq(1)]

        # The end of a run: its last word ends a vector in the gearbox, which then drops what is left over.
        come, last = Signal(24), Signal()
        taken = self.words.valid & self.words.ready
        m.d.comb += last.eq(come == words - 1)
        with m.If(taken):
            m.d.sync += come.eq(Mux(last, 0, come + 1))
        for gearbox in (numbers, elements):
            m.d.comb += [
                Value.cast(gearbox.input.payload["values"]).eq(self.words.payload),
                gearbox.input.payload.last.eq(last),
            ]
        take = Signal()  # a value that belongs to the run comes out of a gearbox
        m.d.comb += [
            write_constant.addr.eq(shape.layers * CONSTANTS - left),
            write_constant.data.eq(Value.cast(numbers.output.payload)),
            write_gain.addr.eq(length - left),
            write_gain.data.eq(elements.output.payload),
            self.codes.payload.eq(elements.output.payload),
        ]
        with m.If(take):
            m.d.sync += left.eq(left - 1)
        over = Signal()  # every word has come, and every value has been taken
        m.d.comb += over.eq((left == 0) & (come == 0) & ~asking)
        expected = digest(config)
        # A norm may begin while the rest of a row is still on its way, and dropped.
        waiting, begins = Signal(), Signal()
        m.d.comb += begins.eq(self.load | waiting)
        with m.If(self.load):
            m.d.sync += waiting.eq(1)
        with m.FSM():
            with m.State("RESET"):
                m.d.sync += ask(0, 1)
                m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += self.words.ready.eq(1)
                with m.If(self.words.valid):
                    wide = min(DIGEST_BITS, len(self.words.payload))
                    with m.If(self.words.payload[:wide] == expected % (1 << wide)):
                        m.d.sync += [*ask(place.constants, place.constant_words), left.eq(shape.layers * CONSTANTS)]
                        m.next = "CONSTANTS"
                    with m.Else():
                        m.next = "MISMATCH"
            with m.State("MISMATCH"):
                m.d.comb += self.mismatch.eq(1)
            with m.State("CONSTANTS"):
                self._pass(m, numbers)
                m.d.comb += [
                    numbers.output.ready.eq(1),
                    take.eq(numbers.output.valid & (left != 0)),
                    write_constant.en.eq(take),
                ]
                with m.If(over & ~numbers.output.valid):
                    m.d.sync += self.ready.eq(1)
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.comb += self.rows.ready.eq(~begins)
                with m.If(begins):
                    m.d.sync += [*ask(gain_base, gain_count), left.eq(length), waiting.eq(0)]
                    m.next = "GAINS"
                with m.Elif(self.rows.valid):
                    m.d.sync += [
                        *ask(place.embedding + self.rows.payload * place.row_words, place.row_words),
                        left.eq(config.words(shape.width)),
                    ]
                    m.next = "ROW"
            with m.State("GAINS"):
                self._pass(m, elements)
                m.d.comb += [
                    elements.output.ready.eq(1),
                    take.eq(elements.output.valid & (left != 0)),
                    write_gain.en.eq(take),
                ]
                with m.If(over & ~elements.output.valid):
                    m.d.comb += self.loaded.eq(1)
                    m.next = "IDLE"
            with m.State("ROW"):
                self._pass(m, elements)
                m.d.comb += [
                    elements.output.ready.eq(self.codes.ready | (left == 0)),
                    self.codes.valid.eq(elements.output.valid & (left != 0)),
                    take.eq(self.codes.valid & self.codes.ready),
                ]
                with m.If(over & ~elements.output.valid):
                    m.next = "IDLE"
        return m

    def _pass(self, m: Module, gearbox: Gearbox) -> None:
        """Let the words go into a gearbox."""
        m.d.comb += [gearbox.input.valid.eq(self.words.valid), self.words.ready.eq(gearbox.input.ready)]
