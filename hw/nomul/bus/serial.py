"""Frames over a serial line; docs/serial.md is the specification, `nomul.host.serial` the host's side.

    SYNC  VERSION  TYPE  LENGTH (2 octets, low first)  PAYLOAD  CRC (2 octets, high first)

The check is CRC-16/IBM-3740 over all between SYNC and itself. A receiver looks for SYNC; what is none of a frame is
dropped. A frame that is too long, broken off, damaged or of another version becomes an event with its error, and the
receiver looks for SYNC again.
"""

import enum
from collections.abc import Sequence

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream
from amaranth.lib.crc.catalog import CRC16_IBM_3740
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = [
    "SYNC",
    "VERSION",
    "Error",
    "FrameReceiver",
    "FrameSender",
    "Kind",
    "Message",
    "event_layout",
    "fill_frame",
    "frame_layout",
]

SYNC = 0xA5
"""First octet of a frame."""

VERSION = 1
"""Of the protocol."""


class Message(enum.IntEnum):
    """Types of frames; those from 0x80 up come from the board. docs/serial.md has the payloads."""

    PING = 0x01
    PROMPT = 0x02
    LOAD = 0x10
    RUN = 0x11
    INFO = 0x81
    TOKEN = 0x82
    END = 0x83
    LOADED = 0x90
    VALUE = 0x91
    ERROR = 0xFF


class Error(enum.IntEnum):
    """What is wrong with a frame or a request."""

    NONE = 0
    CRC = 1
    """The check does not agree."""
    VERSION = 2
    """A whole frame of another version."""
    LENGTH = 3
    """The payload is longer than the board takes."""
    TIMEOUT = 4
    """The line fell silent within a frame."""
    LINE = 5
    """An octet within a frame had no stop bit."""
    TYPE = 6
    """A whole frame of a type that the board does not know."""
    REQUEST = 7
    """A payload that is no request: its length, a count or a token."""
    BUSY = 8
    """A request came while the last was still worked on."""


class Kind(enum.IntEnum):
    """What answers on the board."""

    MACHINE = 1
    ENGINE = 2


HEADER = data.StructLayout({"version": 8, "type": 8, "length": 16})
"""What follows SYNC."""


def event_layout(payload_max: int) -> data.StructLayout:
    """Return what a receiver says of a frame: an error, or NONE and the frame's type and length."""
    return data.StructLayout({"error": unsigned(8), "type": unsigned(8), "length": range(payload_max + 1)})


def frame_layout(payload_max: int) -> data.StructLayout:
    """Return a frame to be sent: `length` octets of the payload, the first lowest."""
    return data.StructLayout(
        {"type": unsigned(8), "length": range(payload_max + 1), "payload": unsigned(8 * payload_max)}
    )


def fill_frame(frame: data.View, message: Message, fields: Sequence[tuple[Value, int]]) -> list[Value]:
    """Return the assignments that make a frame of a message and of values of so many octets, low octet first."""
    payload = Cat(Cat(value, C(0, 8 * octets))[: 8 * octets] for value, octets in fields)
    return [frame.type.eq(message), frame.length.eq(sum(octets for _, octets in fields)), frame.payload.eq(payload)]


class FrameReceiver(Component):
    """Frames out of octets. The payload of the last whole frame lies in a memory.

    Parameters
    ----------
    payload_max : int
        Octets of the longest payload.
    timeout : int
        Cycles of silence within a frame after which it is given up.

    Members
    -------
    octets : In(stream of 8 bits)
        Always ready.
    broken : In(1)
        An octet has come damaged.
    hold : In(1)
        The payload in the memory is in use: frames with a payload that come end with the error BUSY.
    events : Out(stream of `event_layout`)
        What comes while one waits to be taken is lost, and so is its payload.
    address : In
    octet : Out(8)
        The payload's octet at `address`, a cycle later.

    Raises
    ------
    ValueError
        If payload_max is not 1 to 65535, or timeout is not positive.
    """

    def __init__(self, payload_max: int, timeout: int) -> None:
        if not 1 <= payload_max <= 65535:
            raise ValueError(f"payload_max is {payload_max}; allowed: 1 to 65535")
        if timeout < 1:
            raise ValueError(f"timeout is {timeout}; allowed: 1 or more")
        self.payload_max, self.timeout = payload_max, timeout
        super().__init__(
            {
                "octets": In(stream.Signature(8)),
                "broken": In(1),
                "hold": In(1),
                "events": Out(stream.Signature(event_layout(payload_max))),
                "address": In(range(max(payload_max, 2))),
                "octet": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk through a frame octet by octet."""
        m = Module()
        m.submodules.crc = crc = CRC16_IBM_3740(8).create()
        m.submodules.payload = memory = Memory(shape=8, depth=max(self.payload_max, 2), init=[])
        write, read = memory.write_port(), memory.read_port()
        octet, valid = self.octets.payload, self.octets.valid
        header, length = Signal(HEADER), Signal(16)
        count, silence = Signal(range(max(self.payload_max, 4))), Signal(range(self.timeout + 1))
        inside, lost, kept, refused, ended = (
            Signal(name=name) for name in ("inside", "lost", "kept", "refused", "ended")
        )
        error = Signal(8)
        m.d.comb += [
            self.octets.ready.eq(1),
            crc.data.eq(octet),
            write.addr.eq(count),
            write.data.eq(octet),
            read.addr.eq(self.address),
            self.octet.eq(read.data),
            length.eq(Cat(header.length[8:], octet)),
            kept.eq(self.hold | self.events.valid),
            lost.eq(~valid & (self.broken | (silence == self.timeout))),
        ]
        m.d.sync += silence.eq(silence + 1)
        with m.If(valid | ~inside):
            m.d.sync += silence.eq(0)
        with m.If(self.events.ready):
            m.d.sync += self.events.valid.eq(0)
        with m.If(ended & (self.events.ready | ~self.events.valid)):
            m.d.sync += [
                self.events.valid.eq(1),
                self.events.payload.error.eq(error),
                self.events.payload.type.eq(header.type),
                self.events.payload.length.eq(header.length),
            ]
        with m.FSM():
            with m.State("SYNC"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += count.eq(0)
                with m.If(valid & (octet == SYNC)):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [inside.eq(1), crc.valid.eq(valid)]
                m.d.sync += refused.eq(0)
                with m.If(valid):
                    m.d.sync += [header.eq(Cat(Value.cast(header)[8:], octet)), count.eq(count + 1)]
                    with m.If(count == 3):
                        m.d.sync += count.eq(0)
                        m.next = "PAYLOAD"
                        with m.If(length == 0):
                            m.next = "CHECK"
                        with m.Elif(length > self.payload_max):
                            m.d.comb += [ended.eq(1), error.eq(Error.LENGTH)]
                            m.next = "SYNC"
                with m.Elif(lost):
                    m.d.comb += [ended.eq(1), error.eq(Mux(self.broken, Error.LINE, Error.TIMEOUT))]
                    m.next = "SYNC"
            with m.State("PAYLOAD"):
                m.d.comb += [inside.eq(1), crc.valid.eq(valid), write.en.eq(valid & ~kept & ~refused)]
                with m.If(valid):
                    m.d.sync += [count.eq(count + 1), refused.eq(refused | kept)]
                    with m.If(count == header.length - 1):
                        m.d.sync += count.eq(0)
                        m.next = "CHECK"
                with m.Elif(lost):
                    m.d.comb += [ended.eq(1), error.eq(Mux(self.broken, Error.LINE, Error.TIMEOUT))]
                    m.next = "SYNC"
            with m.State("CHECK"):
                m.d.comb += [inside.eq(1), crc.valid.eq(valid)]
                with m.If(valid):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 1):
                        m.next = "END"
                with m.Elif(lost):
                    m.d.comb += [ended.eq(1), error.eq(Mux(self.broken, Error.LINE, Error.TIMEOUT))]
                    m.next = "SYNC"
            with m.State("END"):
                m.d.comb += [ended.eq(1), crc.start.eq(1)]
                m.d.sync += count.eq(0)
                m.next = "SYNC"
                with m.If(valid & (octet == SYNC)):
                    m.next = "HEADER"
                with m.If(~crc.match_detected):
                    m.d.comb += error.eq(Error.CRC)
                with m.Elif(header.version != VERSION):
                    m.d.comb += error.eq(Error.VERSION)
                with m.Elif(refused):
                    m.d.comb += error.eq(Error.BUSY)
        return m


class FrameSender(Component):
    """Octets out of frames.

    Parameters
    ----------
    payload_max : int
        Octets of the longest payload, 1 to 64: it is in registers.

    Members
    -------
    frames : In(stream of `frame_layout`)
    octets : Out(stream of 8 bits)

    Raises
    ------
    ValueError
        If payload_max is not 1 to 64.
    """

    def __init__(self, payload_max: int) -> None:
        if not 1 <= payload_max <= 64:
            raise ValueError(f"payload_max is {payload_max}; allowed: 1 to 64")
        self.payload_max = payload_max
        frames = stream.Signature(frame_layout(payload_max))
        super().__init__({"frames": In(frames), "octets": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        """Shift header and payload out, then the check."""
        m = Module()
        m.submodules.crc = crc = CRC16_IBM_3740(8).create()
        bits = Signal(8 * (5 + self.payload_max))
        left, checks = Signal(range(6 + self.payload_max)), Signal(range(3))
        asked = self.frames.payload
        m.d.comb += [
            self.frames.ready.eq((left == 0) & (checks == 0)),
            self.octets.valid.eq((left != 0) | (checks != 0)),
            self.octets.payload.eq(bits[:8]),
            crc.data.eq(bits[:8]),
        ]
        first = Signal()
        with m.If(self.frames.ready):
            m.d.comb += crc.start.eq(1)
            m.d.sync += first.eq(1)
            with m.If(self.frames.valid):
                m.d.sync += [
                    bits.eq(Cat(C(SYNC, 8), C(VERSION, 8), asked.type, asked.length | C(0, 16), asked.payload)),
                    left.eq(asked.length + 5),
                ]
        with m.Elif(left != 0), m.If(self.octets.ready):
            m.d.comb += crc.valid.eq(~first)
            m.d.sync += [first.eq(0), bits.eq(bits >> 8), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += checks.eq(2)
        with m.Else():
            m.d.comb += self.octets.payload.eq(Mux(checks == 2, crc.crc[8:], crc.crc[:8]))
            with m.If(self.octets.ready):
                m.d.sync += checks.eq(checks - 1)
        return m
