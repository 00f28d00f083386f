"""An engine behind a serial line, with its weights in a memory that the host fills (docs/serial.md)."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from nomul.bus.serial import (
    Error,
    FrameReceiver,
    FrameSender,
    Kind,
    Message,
    fill_frame,
)
from nomul.memory.single_port import SinglePortMemory

__all__ = ["LOAD_WORDS", "EngineSerial", "check_behind_serial"]

LOAD_WORDS = 16
"""Words of weights in a frame, at most."""

REPLY_OCTETS = 9


def check_behind_serial(config: Any) -> None:
    """Raise `ValueError` if an engine does not fit a serial line."""
    lanes = config.activation_lanes
    if config.weight_width % 8:
        raise ValueError(f"weight_width is {config.weight_width}; allowed behind a serial line: a multiple of 8")
    if lanes & (lanes - 1):
        raise ValueError(f"activation_lanes is {lanes}; allowed behind a serial line: a power of two")
    if len(config.modes) > 1 or config.act_bits > 8:
        raise ValueError("an engine behind a serial line has one mode, and activations of up to 8 bits")
    if config.total_width > 32 or max(config.n_in_max, config.n_out_max) > 65535:
        raise ValueError("an engine behind a serial line has results of up to 32 bits and lengths up to 65535")


class EngineSerial(Component):
    """The whole way between the octets of a line and an engine.

    LOAD writes words of weights; RUN multiplies them, from the first, with one vector of activations, and each result
    comes back as a VALUE.

    Parameters
    ----------
    engine : Component
        An engine (`nomul.engines.matmul`) of one mode, with activations of up to 8 bits.
    config : MatmulConfig
        Its configuration. weight_width is a multiple of 8, and activation_lanes a power of two.
    number : int
        Of the configuration, 32 bits.
    timeout : int
        Cycles of silence within a frame after which it is given up.
    depth, kind : int, str
        Of the memory of weights, `nomul.memory.single_port.SinglePortMemory`.

    Members
    -------
    received : In(stream of 8 bits)
    broken : In(1)
    sent : Out(stream of 8 bits)
    busy : Out(1)
        A RUN is in work.
    wrong : Out(1)
        A frame was wrong; for a cycle or more.

    Raises
    ------
    ValueError
        If the engine does not fit such a line.
    """

    def __init__(self, engine: Component, config: Any, number: int, timeout: int, depth: int, kind: str) -> None:
        check_behind_serial(config)
        lanes = config.activation_lanes
        self.engine, self.config, self.number = engine, config, number
        self._memory = SinglePortMemory(config.weight_width, depth, kind)
        padded = -(-config.n_in_max // lanes) * lanes
        self._receiver = FrameReceiver(max(4 + padded, 2 + LOAD_WORDS * config.weight_width // 8), timeout)
        self._sender = FrameSender(REPLY_OCTETS)
        octets = stream.Signature(8)
        super().__init__(
            {"received": In(octets), "broken": In(1), "sent": Out(octets), "busy": Out(1), "wrong": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        """Build one state machine for requests, and one that feeds weights."""
        m = Module()
        config = self.config
        m.submodules.engine = engine = self.engine
        m.submodules.memory = memory = self._memory
        m.submodules.receiver = receiver = self._receiver
        m.submodules.sender = sender = self._sender
        connect(m, flipped(self.received), receiver.octets)
        connect(m, sender.octets, flipped(self.sent))
        event = receiver.events.payload
        m.d.comb += [
            receiver.broken.eq(self.broken),
            self.wrong.eq(receiver.events.valid & (event.error != Error.NONE)),
        ]
        octets = config.weight_width // 8
        lanes = config.activation_lanes
        frame = sender.frames.payload
        place, length, left = (Signal(event.length.shape(), name=name) for name in ("place", "length", "left"))
        step, wait = Signal(range(max(octets, lanes, 4))), Signal()
        head = Signal(32)
        word = Signal(config.weight_width)
        operands = Signal(8 * lanes)
        address = Signal(16)
        index, row = Signal(16), Signal(range(config.rows))
        values = Signal(engine.results.payload["values"].shape())
        last, kind = Signal(), Signal(8)
        m.d.comb += receiver.address.eq(place)

        def answer(message: Message, *fields: tuple[Value, int], then: str = "IDLE") -> None:
            """Send a frame, and go on."""
            m.d.comb += [sender.frames.valid.eq(1), *fill_frame(frame, message, fields)]
            with m.If(sender.frames.ready):
                m.next = then

        def gather(target: Signal, count: int, then: str) -> None:
            """Read `count` octets from `place` into a register, the first lowest."""
            m.d.sync += wait.eq(~wait)
            with m.If(wait):
                m.d.sync += [target.eq(Cat(target[8:], receiver.octet)), place.eq(place + 1), step.eq(step + 1)]
                with m.If(step == count - 1):
                    m.d.sync += step.eq(0)
                    m.next = then

        n_in, n_out = head[:16], head[16:]
        transfers = (n_in + lanes - 1) >> (lanes.bit_length() - 1)
        code = Signal(8)
        running = Signal()
        with m.FSM() as requests:
            with m.State("IDLE"):
                m.d.comb += receiver.events.ready.eq(1)
                m.d.sync += [place.eq(0), step.eq(0), wait.eq(0), length.eq(event.length), kind.eq(event.type)]
                with m.If(receiver.events.valid):
                    m.d.sync += code.eq(event.error)
                    m.next = "ERROR"
                    with m.If(event.error != Error.NONE):
                        whole = (event.error == Error.VERSION) | (event.error == Error.BUSY)
                        m.d.sync += kind.eq(Mux(whole, event.type, 0))
                    with m.Elif(event.type == Message.PING):
                        m.next = "INFO"
                    with m.Elif(event.type == Message.LOAD):
                        m.d.sync += code.eq(Error.REQUEST)
                        with m.If((event.length > 2) & ((event.length - 2) % octets == 0)):
                            m.next = "LOAD HEAD"
                    with m.Elif(event.type == Message.RUN):
                        m.d.sync += code.eq(Error.REQUEST)
                        with m.If(event.length > 4):
                            m.next = "RUN HEAD"
                    with m.Else():
                        m.d.sync += code.eq(Error.TYPE)
            with m.State("ERROR"):
                answer(Message.ERROR, (code, 1), (kind, 1))
            with m.State("INFO"):
                fields = ((Kind.ENGINE, 1), (config.n_in_max, 2), (config.n_out_max, 2), (self.number, 4))
                answer(Message.INFO, *((C(number, 8 * size), size) for number, size in fields))
            with m.State("LOAD HEAD"):
                gather(head, 2, "LOAD")
            with m.State("LOAD"):
                m.d.sync += address.eq(head[16:])
                m.next = "LOAD WORD"
            with m.State("LOAD WORD"):
                gather(word, octets, "LOAD WRITE")
            with m.State("LOAD WRITE"):
                m.d.comb += memory.write.eq(address < memory.depth)
                m.d.sync += address.eq(address + 1)
                m.next = "LOAD WORD"
                with m.If(place == length):
                    m.next = "LOADED"
            with m.State("LOADED"):
                answer(Message.LOADED, (address, 2))
            with m.State("RUN HEAD"):
                gather(head, 4, "RUN")
            with m.State("RUN"):
                m.d.sync += [index.eq(0), left.eq(transfers), code.eq(Error.REQUEST)]
                m.next = "ERROR"
                legal = (n_in != 0) & (n_in <= config.n_in_max) & (n_out != 0) & (n_out <= config.n_out_max)
                with m.If(legal & (length == transfers * lanes + 4)):
                    m.next = "JOB"
            with m.State("JOB"):
                m.d.comb += engine.jobs.valid.eq(1)
                with m.If(engine.jobs.ready):
                    m.next = "GATHER"
            with m.State("GATHER"):
                m.d.comb += running.eq(1)
                gather(operands, lanes, "GIVE")
            with m.State("GIVE"):
                m.d.comb += [running.eq(1), engine.activations.valid.eq(1)]
                with m.If(engine.activations.ready):
                    m.d.sync += left.eq(left - 1)
                    m.next = "GATHER"
                    with m.If(left == 1):
                        m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += [running.eq(1), engine.results.ready.eq(1)]
                m.d.sync += [
                    values.eq(engine.results.payload["values"]),
                    last.eq(engine.results.payload.last),
                    row.eq(0),
                ]
                with m.If(engine.results.valid):
                    m.next = "VALUE"
            with m.State("VALUE"):
                m.d.comb += running.eq(1)
                value = Value.cast(values)[: config.total_width].as_signed()
                extended = Signal(32)
                m.d.comb += extended.eq(value)
                answer(Message.VALUE, (index, 2), (extended, 4), then="NEXT")
            with m.State("NEXT"):
                m.d.comb += running.eq(1)
                m.d.sync += [
                    index.eq(index + 1),
                    row.eq(row + 1),
                    Value.cast(values).eq(Value.cast(values) >> config.total_width),
                ]
                m.next = "VALUE"
                with m.If(index == n_out - 1):
                    m.next = "END"
                with m.Elif(row == config.rows - 1):
                    m.next = "RESULT"
            with m.State("END"):
                answer(Message.END, (index, 2), (engine.fault, 1))
        m.d.comb += [
            receiver.hold.eq(~requests.ongoing("IDLE")),
            self.busy.eq(running),
            engine.jobs.payload.n_in.eq(n_in),
            engine.jobs.payload.n_out.eq(n_out),
            engine.jobs.payload.tokens.eq(1),
        ]
        for lane in range(lanes):
            m.d.comb += engine.activations.payload[lane].eq(operands.word_select(lane, 8))
        self._feed(m, running, address, word)
        return m

    def _feed(self, m: Module, running: Signal, address: Signal, word: Signal) -> None:
        """Give the engine the words of the memory in order, while it runs."""
        engine, memory = self.engine, self._memory
        read, fresh, held = Signal(range(memory.depth)), Signal(), Signal()
        m.d.comb += [
            memory.address.eq(Mux(memory.write, address, read)),
            memory.write_data.eq(word),
            Value.cast(engine.weights.payload).eq(memory.read_data),
            engine.weights.valid.eq(held),
        ]
        m.d.sync += [fresh.eq(running), held.eq((held | fresh) & running)]
        with m.If(~running):
            m.d.sync += [read.eq(0), fresh.eq(0)]
        with m.Elif(held & engine.weights.ready):
            m.d.sync += [read.eq(read + 1), held.eq(0), fresh.eq(0)]
