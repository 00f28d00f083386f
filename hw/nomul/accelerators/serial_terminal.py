"""A machine behind a terminal: a person types a prompt, presses return, and text comes back.

Characters that the model knows are echoed, others are not taken; backspace takes the last one back. The text goes on
where the prompt ends, until `tokens` characters have come or the context is full.
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.sequencer import job_layout

__all__ = ["MachineTerminal"]

READY = b"\r\n> "
ERASE = b"\b \b"
NEWLINE = b"\r\n"
BACKSPACES = (0x08, 0x7F)
LOGIC = {"ram_style": "logic"}  # a block RAM for each of the tables would be nearly empty


class MachineTerminal(Component):
    """Makes jobs of lines, and text of tokens.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.
    characters : str
        Of the model, in order of tokens; single octets.
    tokens : int
        Characters that are made at most.

    Members
    -------
    received : In(stream of 8 bits)
    sent : Out(stream of 8 bits)
    jobs, prompt : Out(stream)
    results : In(stream)
    busy : In(1)
        Of `nomul.accelerators.machine.Machine`.

    Raises
    ------
    ValueError
        If there is not a character for each token, or one is not a single octet.
    """

    def __init__(self, config: AcceleratorConfig, characters: str, tokens: int = 200) -> None:
        shape = config.shape
        if len(characters) != shape.vocabulary:
            raise ValueError(f"{len(characters)} characters; the model has {shape.vocabulary} tokens")
        wide = [character for character in characters if ord(character) > 255]
        if wide:
            raise ValueError(f"character {wide[0]!r} is no single octet; a terminal has none for it")
        if tokens < 1:
            raise ValueError(f"tokens is {tokens}; allowed: 1 or more")
        self.config, self.characters, self.tokens = config, characters, tokens
        token = range(shape.vocabulary)
        octets = stream.Signature(8)
        super().__init__(
            {
                "received": In(octets),
                "sent": Out(octets),
                "jobs": Out(stream.Signature(job_layout(config))),
                "prompt": Out(stream.Signature(token)),
                "results": In(stream.Signature(data.StructLayout({"token": token, "last": 1}))),
                "busy": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Edit a line, run it, print what comes."""
        m = Module()
        shape = self.config.shape
        codes = [ord(character) for character in self.characters]
        entry = data.StructLayout({"token": range(shape.vocabulary), "known": 1})
        known = [{"token": codes.index(code), "known": 1} if code in codes else {} for code in range(256)]
        m.submodules.tokens = token_table = Memory(shape=entry, depth=256, init=known, attrs=LOGIC)
        m.submodules.characters = character_table = Memory(shape=8, depth=max(len(codes), 2), init=codes, attrs=LOGIC)
        m.submodules.line = line = Memory(shape=range(shape.vocabulary), depth=max(shape.context, 2), init=[])
        token_of, character_of = token_table.read_port(), character_table.read_port()
        write, read = line.write_port(), line.read_port()
        octet = Signal(8)
        length, place = Signal(range(shape.context + 1)), Signal(range(shape.context + 1))
        waiting, count = Signal(8 * len(READY)), Signal(range(len(READY) + 1))
        room = Signal(range(shape.context + 2))
        m.d.comb += [
            self.sent.valid.eq(count != 0),
            self.sent.payload.eq(waiting[:8]),
            token_of.addr.eq(self.received.payload),
            character_of.addr.eq(self.results.payload.token),
            write.addr.eq(length),
            write.data.eq(token_of.data.token),
            read.addr.eq(place),
            room.eq(shape.context + 1 - length),
            self.jobs.payload.prompt.eq(length),
            self.jobs.payload.tokens.eq(Mux(room < self.tokens, room, self.tokens)),
            self.prompt.payload.eq(read.data),
        ]

        def say(octets: bytes) -> None:
            m.d.sync += [waiting.eq(int.from_bytes(octets, "little")), count.eq(len(octets))]

        def say_octet(value: Value) -> None:
            m.d.sync += [waiting.eq(value), count.eq(1)]

        with m.If(self.sent.valid), m.If(self.sent.ready):
            m.d.sync += [waiting.eq(Cat(waiting[8:], C(0, 8))), count.eq(count - 1)]
        with m.Else(), m.FSM() as edit:
            with m.State("READY"):
                say(READY)
                m.d.sync += [length.eq(0), place.eq(0)]
                m.next = "LINE"
            with m.State("LINE"):
                m.d.comb += self.received.ready.eq(1)
                m.d.sync += octet.eq(self.received.payload)
                with m.If(self.received.valid):
                    m.next = "OCTET"
            with m.State("OCTET"):
                m.next = "LINE"
                with m.If((octet == ord("\r")) | (octet == ord("\n"))), m.If(length != 0):
                    m.next = "JOB"
                with m.Elif(Cat(octet == code for code in BACKSPACES).any()), m.If(length != 0):
                    say(ERASE)
                    m.d.sync += length.eq(length - 1)
                with m.Elif(token_of.data.known & (length != shape.context)):
                    say_octet(octet)
                    m.d.comb += write.en.eq(1)
                    m.d.sync += length.eq(length + 1)
            with m.State("JOB"):
                m.d.comb += self.jobs.valid.eq(1)
                with m.If(self.jobs.ready):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "FEED"
            with m.State("FEED"):
                m.d.comb += self.prompt.valid.eq(1)
                with m.If(self.prompt.ready | ~self.busy):
                    m.d.sync += place.eq(place + 1)
                    m.next = "FETCH"
                    with m.If((place == length - 1) | ~self.busy):
                        m.next = "RESULT"
            with m.State("RESULT"):
                with m.If(self.results.valid):
                    m.next = "SHOW"
                with m.Elif(~self.busy):
                    m.next = "READY"
            with m.State("SHOW"):
                m.d.comb += self.results.ready.eq(1)
                m.next = "RESULT"
                with m.If(character_of.data == ord("\n")):
                    say(NEWLINE)
                with m.Else():
                    say_octet(character_of.data)
        # What is typed while the machine works is dropped.
        with m.If(~(edit.ongoing("LINE") | edit.ongoing("OCTET") | edit.ongoing("READY"))):
            m.d.comb += self.received.ready.eq(1)
        return m
