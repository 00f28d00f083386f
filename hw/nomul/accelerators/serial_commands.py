"""A machine behind a serial line: requests in frames become jobs, tokens become frames (docs/serial.md)."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.sequencer import job_layout
from nomul.bus.serial import Error, FrameReceiver, FrameSender, Kind, Message, event_layout, fill_frame, frame_layout

__all__ = ["REPLY_OCTETS", "MachineCommands", "MachineSerial", "request_octets"]

REPLY_OCTETS = 9
"""Payload of the longest frame that a machine sends."""

TOKEN_BITS = 16


def request_octets(config: AcceleratorConfig) -> int:
    """Return the payload of the longest request: a count, and a prompt that fills the context."""
    return 2 + 2 * config.shape.context


class MachineCommands(Component):
    """Answers the requests of a host with what a machine does.

    PROMPT becomes a job, each result a TOKEN, and its end an END. PING is answered at any time; another PROMPT, while a
    job is in work, with the error BUSY. What is no legal job is refused here with the error REQUEST.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.
    number : int
        Of the model, 32 bits, as INFO tells it.

    Members
    -------
    events, address, octet, hold
        Of `nomul.bus.serial.FrameReceiver`, with payloads up to `request_octets(config)`.
    frames : Out(stream)
        To `nomul.bus.serial.FrameSender`, with payloads up to `REPLY_OCTETS`.
    jobs, prompt : Out(stream)
    results : In(stream)
    busy, fault : In(1)
        Of `nomul.accelerators.machine.Machine`.

    Raises
    ------
    ValueError
        If tokens do not fit in 16 bits, or `number` not in 32.
    """

    def __init__(self, config: AcceleratorConfig, number: int) -> None:
        shape = config.shape
        for name in ("vocabulary", "context"):
            if getattr(shape, name) >= 1 << TOKEN_BITS:
                raise ValueError(f"{name} is {getattr(shape, name)}; allowed behind a serial line: up to 65535")
        if not 0 <= number < 1 << 32:
            raise ValueError(f"number is {number}; allowed: 0 to 4294967295")
        self.config, self.number = config, number
        token = range(shape.vocabulary)
        octets = request_octets(config)
        super().__init__(
            {
                "events": In(stream.Signature(event_layout(octets))),
                "address": Out(range(octets)),
                "octet": In(8),
                "hold": Out(1),
                "frames": Out(stream.Signature(frame_layout(REPLY_OCTETS))),
                "jobs": Out(stream.Signature(job_layout(config))),
                "prompt": Out(stream.Signature(token)),
                "results": In(stream.Signature(data.StructLayout({"token": token, "last": 1}))),
                "busy": In(1),
                "fault": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build two state machines, one for requests and one for the job in work, and let them share the sender."""
        m = Module()
        reply, report = Signal(self.frames.payload.shape()), Signal(self.frames.payload.shape())
        replying, reporting, reported = Signal(), Signal(), Signal()
        start, idle, refused = Signal(), Signal(), Signal()
        with m.If(~self.frames.valid | self.frames.ready):
            m.d.sync += self.frames.valid.eq(replying | reporting)
            m.d.sync += self.frames.payload.eq(Mux(replying, reply.as_value(), report.as_value()))
            m.d.comb += reported.eq(~replying)
            m.d.sync += replying.eq(0)
        self._answer(m, reply, replying, start, idle, refused)
        self._work(m, report, reporting, reported, start, idle, refused, replying)
        return m

    def _answer(
        self, m: Module, reply: data.View, replying: Signal, start: Signal, idle: Signal, refused: Signal
    ) -> None:
        """Take events, and put the replies to them into a register."""
        event, shape = self.events.payload, self.config.shape

        def say(message: Message, *fields: tuple[Value, int]) -> None:
            m.d.sync += [replying.eq(1), *fill_frame(reply, message, fields)]

        m.d.comb += self.events.ready.eq(~replying & ~refused)
        with m.If(refused & ~replying):
            say(Message.ERROR, (C(Error.REQUEST), 1), (C(Message.PROMPT), 1))
        with m.Elif(self.events.valid & self.events.ready):
            with m.If(event.error != Error.NONE):
                whole = (event.error == Error.VERSION) | (event.error == Error.BUSY)
                say(Message.ERROR, (event.error, 1), (Mux(whole, event.type, 0), 1))
            with m.Elif(event.type == Message.PING):
                numbers = ((Kind.MACHINE, 1), (shape.context, 2), (shape.vocabulary, 2), (self.number, 4))
                say(Message.INFO, *((C(number, 8 * octets), octets) for number, octets in numbers))
            with m.Elif(event.type != Message.PROMPT):
                say(Message.ERROR, (C(Error.TYPE), 1), (event.type, 1))
            with m.Elif(~idle):
                say(Message.ERROR, (C(Error.BUSY), 1), (event.type, 1))
            with m.Elif((event.length < 4) | event.length[0]):
                say(Message.ERROR, (C(Error.REQUEST), 1), (event.type, 1))
            with m.Else():
                m.d.comb += start.eq(1)

    def _work(
        self,
        m: Module,
        report: data.View,
        reporting: Signal,
        reported: Signal,
        start: Signal,
        idle: Signal,
        refused: Signal,
        replying: Signal,
    ) -> None:
        """Check a prompt, give it to the machine, and send what comes."""
        shape = self.config.shape
        length, place = Signal(range(shape.context + 2)), Signal(range(shape.context + 2))
        half, wait = Signal(), Signal()
        word, wanted, count = Signal(TOKEN_BITS), Signal(TOKEN_BITS), Signal(TOKEN_BITS)
        feeding = Signal()
        m.d.comb += [
            self.address.eq(Cat(half, place)),
            self.jobs.payload.prompt.eq(length),
            self.jobs.payload.tokens.eq(wanted),
            self.prompt.payload.eq(word),
        ]

        def fetch(following: str) -> None:
            """Read the word at `place` into `word`, low octet first."""
            m.d.sync += wait.eq(~wait)
            with m.If(wait):
                m.d.sync += [word.eq(Cat(word[8:], self.octet)), half.eq(~half)]
                with m.If(half):
                    m.d.sync += place.eq(place + 1)
                    m.next = following

        with m.FSM() as work:
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                m.d.sync += [place.eq(0), count.eq(0), feeding.eq(0)]
                with m.If(start):
                    m.d.sync += length.eq((self.events.payload.length >> 1) - 1)
                    m.next = "FETCH COUNT"
            with m.State("FETCH COUNT"):
                fetch("COUNT")
            with m.State("COUNT"):
                m.d.sync += wanted.eq(word)
                m.next = "FETCH"
                with m.If((word == 0) | (word + length - 1 > shape.context)):
                    m.next = "REFUSE"
            with m.State("FETCH"):
                fetch("CHECK")
            with m.State("CHECK"):
                with m.If(feeding):
                    m.d.comb += self.prompt.valid.eq(1)
                    with m.If(self.prompt.ready | ~self.busy):
                        m.next = "FETCH"
                        with m.If((place == length + 1) | ~self.busy):
                            m.next = "RESULTS"
                with m.Elif(word >= shape.vocabulary):
                    m.next = "REFUSE"
                with m.Elif(place == length + 1):
                    m.next = "JOB"
                with m.Else():
                    m.next = "FETCH"
            with m.State("JOB"):
                m.d.comb += self.jobs.valid.eq(1)
                m.d.sync += [place.eq(1), feeding.eq(1)]
                with m.If(self.jobs.ready):
                    m.next = "FETCH"
            with m.State("RESULTS"):
                token = self.results.payload.token
                m.d.comb += [
                    reporting.eq(self.results.valid | ~self.busy),
                    self.results.ready.eq(reported),
                    *fill_frame(report, Message.TOKEN, ((count, 2), (token, 2))),
                ]
                with m.If(~self.results.valid):
                    m.d.comb += fill_frame(report, Message.END, ((count, 2), (self.fault, 1)))
                with m.If(reporting & reported):
                    m.d.sync += count.eq(count + 1)
                    with m.If(~self.results.valid):
                        m.next = "IDLE"
            with m.State("REFUSE"):
                m.d.comb += refused.eq(1)
                with m.If(~replying):
                    m.next = "IDLE"
        m.d.comb += self.hold.eq(~idle & ~work.ongoing("RESULTS"))


class MachineSerial(Component):
    """The whole way between the octets of a line and a machine.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.
    number : int
        Of the model, 32 bits.
    timeout : int
        Cycles of silence within a frame after which it is given up.

    Members
    -------
    received : In(stream of 8 bits)
        Always ready.
    broken : In(1)
        An octet has come damaged.
    sent : Out(stream of 8 bits)
    jobs, prompt : Out(stream)
    results : In(stream)
    busy, fault : In(1)
        Of `nomul.accelerators.machine.Machine`.
    wrong : Out(1)
        A frame was wrong; for a cycle or more.
    """

    def __init__(self, config: AcceleratorConfig, number: int, timeout: int) -> None:
        self._commands = commands = MachineCommands(config, number)
        self._receiver = FrameReceiver(request_octets(config), timeout)
        self._sender = FrameSender(REPLY_OCTETS)
        machine = {name: commands.signature.members[name] for name in ("jobs", "prompt", "results", "busy", "fault")}
        octets = stream.Signature(8)
        super().__init__({"received": In(octets), "broken": In(1), "sent": Out(octets), "wrong": Out(1), **machine})

    def elaborate(self, platform: object) -> Module:
        """Chain the parts."""
        m = Module()
        m.submodules.commands = commands = self._commands
        m.submodules.receiver = receiver = self._receiver
        m.submodules.sender = sender = self._sender
        connect(m, flipped(self.received), receiver.octets)
        connect(m, receiver.events, commands.events)
        connect(m, commands.frames, sender.frames)
        connect(m, sender.octets, flipped(self.sent))
        connect(m, commands.jobs, flipped(self.jobs))
        connect(m, commands.prompt, flipped(self.prompt))
        connect(m, flipped(self.results), commands.results)
        m.d.comb += [
            receiver.broken.eq(self.broken),
            receiver.hold.eq(commands.hold),
            receiver.address.eq(commands.address),
            commands.octet.eq(receiver.octet),
            commands.busy.eq(self.busy),
            commands.fault.eq(self.fault),
            self.wrong.eq(receiver.events.valid & (receiver.events.payload.error != Error.NONE)),
        ]
        return m
