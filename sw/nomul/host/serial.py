"""The host's side of the serial protocol (docs/serial.md): frames as bytes, a line, and a board that answers."""

import binascii
import dataclasses
import enum
import os
import select
import struct
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from nomul.errors import InputError, ToolError

__all__ = [
    "BAUD", "BoardLink", "Damage", "EngineBoard", "Error", "Frame", "Info", "Line", "Message", "Parser", "baud_speed",
    "encode",
]  # fmt: skip

SYNC = 0xA5
VERSION = 1
BAUD = 1_000_000
"""Of every board, if it is not told otherwise."""

OVERHEAD = 7
"""Octets of a frame beside its payload."""


class Message(enum.IntEnum):
    """Types of frames."""

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
    """What a board finds wrong; the text says it to a person."""

    def __new__(cls, value: int, text: str) -> "Error":
        """Keep the text beside the number."""
        member = int.__new__(cls, value)
        member._value_ = value
        return member

    def __init__(self, value: int, text: str) -> None:
        self.text = text

    CRC = 1, "a frame was damaged on the line"
    VERSION = 2, "it speaks another version of the protocol"
    LENGTH = 3, "the request is longer than it takes"
    TIMEOUT = 4, "a frame broke off"
    LINE = 5, "an octet was damaged on the line; is the baud right?"
    TYPE = 6, "it does not know this request"
    REQUEST = 7, "the request is not legal for its model"
    BUSY = 8, "it still works on the last request"


@dataclasses.dataclass(frozen=True)
class Frame:
    """A whole frame."""

    type: int
    payload: bytes = b""


@dataclasses.dataclass(frozen=True)
class Damage:
    """Octets that began like a frame and are none."""

    error: Error
    type: int = 0
    """Of a frame that was whole, but of another version."""


def crc(octets: bytes) -> int:
    """Return CRC-16/IBM-3740 of octets."""
    return binascii.crc_hqx(octets, 0xFFFF)


def encode(type: int, payload: bytes = b"", version: int = VERSION) -> bytes:
    """Return a frame; ValueError if the payload is longer than 65535 octets."""
    if len(payload) > 0xFFFF:
        raise ValueError(f"a payload of {len(payload)} octets; allowed: up to 65535")
    body = struct.pack("<BBH", version, type, len(payload)) + payload
    return bytes([SYNC]) + body + struct.pack(">H", crc(body))


class Parser:
    """Finds frames among octets, as docs/serial.md tells a receiver to.

    Parameters
    ----------
    payload_max : int
        Octets of the longest payload that is taken.
    """

    def __init__(self, payload_max: int = 0xFFFF) -> None:
        self.payload_max = payload_max
        self._octets = bytearray()

    def feed(self, octets: bytes) -> list[Frame | Damage]:
        """Take octets; return what has ended with them, in order."""
        found: list[Frame | Damage] = []
        for octet in octets:
            if self._octets or octet == SYNC:
                self._octets.append(octet)
                end = self._end()
                if end is not None:
                    found.append(end)
                    self._octets.clear()
        return found

    def silence(self, error: Error = Error.TIMEOUT) -> list[Frame | Damage]:
        """Say that the line was silent for the time of TIMEOUT, or that an octet had no stop bit (LINE)."""
        inside = bool(self._octets)
        self._octets.clear()
        return [Damage(error)] if inside else []

    def _end(self) -> Frame | Damage | None:
        size = len(self._octets)
        if size < 5:
            return None
        version, type, length = struct.unpack("<BBH", self._octets[1:5])
        if length > self.payload_max:
            return Damage(Error.LENGTH)
        if size < length + OVERHEAD:
            return None
        if crc(bytes(self._octets[1:])) != 0:
            return Damage(Error.CRC)
        if version != VERSION:
            return Damage(Error.VERSION, type)
        return Frame(type, bytes(self._octets[5:-2]))


def baud_speed(baud: int) -> int:
    """Return what the operating system calls a baud; InputError if it does not know it."""
    speed: int | None = getattr(termios, f"B{baud}", None) if baud else None
    if speed is None:
        known = sorted(int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit())
        raise InputError(f"baud is {baud}; allowed: {', '.join(str(rate) for rate in known if rate >= 9600)}")
    return speed


class Line:
    """A serial port, or anything else that is a file descriptor, as octets.

    Parameters
    ----------
    port : Path
        A terminal device, for example /dev/ttyUSB0; it is set to 8 data bits, no parity, one stop bit, raw.
    baud : int

    Raises
    ------
    InputError
        If the device is none, cannot be opened, or does not know the baud.
    """

    def __init__(self, port: Path, baud: int = BAUD) -> None:
        speed = baud_speed(baud)
        try:
            self.fd = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise InputError(f"port {port} cannot be opened: {error.strerror}") from None
        try:
            tty.setraw(self.fd)
            attributes = termios.tcgetattr(self.fd)
        except termios.error:
            os.close(self.fd)
            raise InputError(f"port {port} is not a serial port") from None
        attributes[2] = (attributes[2] & ~(termios.PARENB | termios.CSTOPB | termios.CRTSCTS)) | termios.CLOCAL
        attributes[4] = attributes[5] = speed
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)
        termios.tcflush(self.fd, termios.TCIOFLUSH)

    STUCK = 10
    """Seconds after which a port that takes no octets is given up."""

    def write(self, octets: bytes) -> None:
        """Send octets; ToolError if the port is gone or takes none."""
        try:
            while octets:
                if not select.select([], [self.fd], [], self.STUCK)[1]:
                    raise ToolError(f"the serial port takes no octets for {self.STUCK} s")
                octets = octets[os.write(self.fd, octets) :]
        except OSError as error:
            raise ToolError(f"the serial port is gone: {error.strerror}") from None

    def read(self, seconds: float) -> bytes:
        """Return the octets that are there, or come first within so many seconds; ToolError if the port is gone."""
        ready, _, _ = select.select([self.fd], [], [], max(seconds, 0))
        if not ready:
            return b""
        try:
            octets = os.read(self.fd, 4096)
        except OSError as error:
            raise ToolError(f"the serial port is gone: {error.strerror}") from None
        if not octets:
            raise ToolError("the serial port is gone: it was closed")
        return octets

    def close(self) -> None:
        """Close the port."""
        os.close(self.fd)


@dataclasses.dataclass(frozen=True)
class Info:
    """What a board with a language model says of itself."""

    kind: int
    context: int
    vocabulary: int
    number: int
    """Of the model: `nomul.board_designs.model_number`."""


class BoardLink:
    """A language model behind a serial line.

    Parameters
    ----------
    line : Line
    timeout : float
        Seconds to wait for an answer, and for each token.
    tries : int
        How often PING is sent before the board counts as absent; a line falls silent for `SILENCE` in between.
    """

    SILENCE = 0.25
    """Seconds after which a board has given up what was left of a broken frame, and more (docs/serial.md)."""

    def __init__(self, line: Line, timeout: float = 2.0, tries: int = 3) -> None:
        self.line, self.timeout, self.tries = line, timeout, tries
        self._parser = Parser(64)
        self._waiting: list[Frame | Damage] = []

    def info(self) -> Info:
        """Ask the board who it is; ToolError if it does not answer."""
        for _ in range(self.tries):
            self.line.write(encode(Message.PING))
            end = time.monotonic() + self.timeout
            while (frame := self._next(end)) is not None:
                if isinstance(frame, Frame) and frame.type == Message.INFO and len(frame.payload) == 9:
                    return Info(*struct.unpack("<BHHI", frame.payload))
            time.sleep(self.SILENCE)
        raise ToolError(
            f"no board answers: {self.tries} times PING, and nothing within {self.timeout:g} s; check the port, the "
            f"baud, and that the bitstream is loaded"
        )

    def generate(self, prompt: Sequence[int], tokens: int, vocabulary: int = 1 << 16) -> Iterator[int]:
        """Yield the tokens that continue a prompt, as they come.

        Raises
        ------
        ToolError
            If the board refuses, says no token in time, or one that the vocabulary does not have, or a token is lost
            on the line.
        """
        self.line.write(encode(Message.PROMPT, struct.pack(f"<{1 + len(prompt)}H", tokens, *prompt)))
        count = 0
        end = time.monotonic() + self.timeout
        while True:
            frame = self._next(end)
            if frame is None:
                raise ToolError(f"the board fell silent after {count} of {tokens} tokens")
            if isinstance(frame, Damage):
                raise ToolError(f"a frame from the board was damaged after {count} tokens: {frame.error.text}")
            if frame.type == Message.TOKEN and len(frame.payload) == 4:
                index, token = struct.unpack("<HH", frame.payload)
                if index != count:
                    raise ToolError(f"token {count} was lost on the line; token {index} came")
                if token >= vocabulary:
                    raise ToolError(f"token {count} is {token}; the model has {vocabulary}, from 0 on")
                count += 1
                yield token
                end = time.monotonic() + self.timeout  # other frames do not put it off
            elif frame.type == Message.END and len(frame.payload) == 3:
                total, fault = struct.unpack("<HB", frame.payload)
                if fault:
                    raise ToolError(f"the machine stopped with a fault after {total} tokens")
                if total != count or total != tokens:
                    raise ToolError(f"the board ended after {total} tokens, {count} of which came; {tokens} were asked")
                return
            elif frame.type == Message.ERROR and len(frame.payload) == 2:
                raise ToolError(f"the board refuses: {_error_text(frame.payload[0])}")

    def ask(self, type: int, payload: bytes) -> Frame:
        """Send a request; return the first frame that comes back; ToolError if none comes or the board refuses."""
        self.line.write(encode(type, payload))
        return self.next_frame()

    def next_frame(self) -> Frame:
        """Return the next frame; ToolError if none comes, it is damaged, or says that the board refuses."""
        frame = self._next(time.monotonic() + self.timeout)
        if frame is None:
            raise ToolError("the board fell silent")
        if isinstance(frame, Damage):
            raise ToolError(f"a frame from the board was damaged: {frame.error.text}")
        if frame.type == Message.ERROR and len(frame.payload) == 2:
            raise ToolError(f"the board refuses: {_error_text(frame.payload[0])}")
        return frame

    def _next(self, end: float) -> Frame | Damage | None:
        """Return what comes next on the line until a time, or None."""
        while not self._waiting:
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._waiting = self._parser.feed(self.line.read(left))
        return self._waiting.pop(0)


class EngineBoard:
    """An engine behind a serial line, with its weights in memory.

    Parameters
    ----------
    line : Line
    timeout : float
        Seconds to wait for an answer.
    """

    LOAD_WORDS = 16
    """Words of weights in a frame, at most."""

    def __init__(self, line: Line, timeout: float = 2.0) -> None:
        self.board = BoardLink(line, timeout)

    def load(self, words: Sequence[bytes]) -> None:
        """Write words of weights, each little-endian, from the first on; ToolError if one is not taken."""
        for start in range(0, len(words), self.LOAD_WORDS):
            part = words[start : start + self.LOAD_WORDS]
            answer = self.board.ask(Message.LOAD, struct.pack("<H", start) + b"".join(part))
            if answer.type != Message.LOADED or answer.payload != struct.pack("<H", start + len(part)):
                raise ToolError(f"the board did not take the weights from word {start}")

    def run(self, activations: bytes, n_in: int, n_out: int) -> list[int]:
        """Return the results for one vector, padded to whole transfers; ToolError if one is lost or refused."""
        answer = self.board.ask(Message.RUN, struct.pack("<HH", n_in, n_out) + activations)
        results: list[int] = []
        while answer.type == Message.VALUE and len(answer.payload) == 6:
            index, value = struct.unpack("<Hi", answer.payload)
            if index != len(results):
                raise ToolError(f"result {len(results)} was lost on the line; result {index} came")
            results.append(value)
            if len(results) > n_out:
                raise ToolError(f"the engine sends more than the {n_out} results that were asked")
            answer = self.board.next_frame()
        if answer.type != Message.END or answer.payload != struct.pack("<HB", n_out, 0) or len(results) != n_out:
            raise ToolError(f"the engine stopped after {len(results)} of {n_out} results")
        return results


def _error_text(code: int) -> str:
    return next((error.text for error in Error if error == code), f"error {code}")
