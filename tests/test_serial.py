# amaranth: UnusedElaboratable=no
"""The serial protocol on the host: the document's examples, frames in noise, lines and boards that misbehave."""

import os
import pty
import re
import struct
import threading
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator
from hypothesis import given
from hypothesis import strategies as st

from nomul.bus import serial as gateware
from nomul.bus.uart import UartReceiver, UartTransmitter, uart_divisor
from nomul.errors import InputError, ToolError
from nomul.host.serial import BoardLink, Damage, EngineBoard, Error, Frame, Info, Line, Message, Parser, crc, encode

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "serial.md"
VECTORS = re.search(r"<!-- vectors: frames -->\n```text\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1].splitlines()


@pytest.mark.parametrize("vector", VECTORS)
def test_the_documents_examples(vector):
    octets, meaning = vector.split(" : ")
    name, *payload = meaning.split()
    frame = Frame(Message[name], bytes.fromhex("".join(payload)))
    assert encode(frame.type, frame.payload) == bytes.fromhex(octets)
    assert Parser().feed(bytes.fromhex(octets)) == [frame]


def test_the_check_is_the_catalogues():
    assert crc(b"123456789") == 0x29B1


def test_both_sides_have_the_same_numbers():
    for theirs, ours in ((gateware.Message, Message), (gateware.Error, Error)):
        assert {member.name: int(member) for member in theirs if member.name != "NONE"} == {
            member.name: int(member) for member in ours
        }
    text = DOCUMENT.read_text()
    for error in Error:
        assert re.search(rf"^\| {int(error)} \| {error.name} \|", text, re.MULTILINE)
    for message in Message:
        assert re.search(rf"^\| {int(message):02x} \| {message.name} \|", text, re.MULTILINE)


@given(st.binary(max_size=80), st.integers(0, 255), st.binary(max_size=20), st.data())
def test_after_a_silence_a_frame_is_found_in_any_cut(noise, type, payload, data):
    parser = Parser(64)
    parser.feed(noise)
    parser.silence()
    octets = encode(type, payload)
    cut = data.draw(st.integers(0, len(octets)))
    assert parser.feed(octets[:cut]) + parser.feed(octets[cut:]) == [Frame(type, payload)]


@given(st.integers(0, 255), st.binary(max_size=20), st.data())
def test_no_frame_with_a_wrong_bit_is_taken(type, payload, data):
    octets = bytearray(encode(type, payload))
    place = data.draw(st.integers(8, 8 * len(octets) - 1))
    octets[place // 8] ^= 1 << place % 8
    assert not [found for found in Parser().feed(bytes(octets)) if isinstance(found, Frame)]


def test_damages_have_their_names():
    assert Parser(4).feed(encode(2, b"12345")[:5]) == [Damage(Error.LENGTH)]
    assert Parser().feed(encode(2, b"12", version=7)) == [Damage(Error.VERSION, 2)]
    assert Parser().feed(encode(2, b"12")[:-1] + b"\x00") == [Damage(Error.CRC)]
    parser = Parser()
    assert parser.silence() == []
    parser.feed(encode(2)[:3])
    assert parser.silence() == [Damage(Error.TIMEOUT)]
    with pytest.raises(ValueError, match=r"^a payload of 65536 octets; allowed: up to 65535$"):
        encode(2, bytes(65536))


def test_lines_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"^port .*nothing cannot be opened: No such file or directory$"):
        Line(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^port .*file is not a serial port$"):
        Line(tmp_path / "file")
    with pytest.raises(InputError, match=r"^baud is 12345; allowed: 9600, 19200, .*115200.*$"):
        Line(tmp_path / "file", 12345)


class FakeBoard:
    """A board that sends what it is told to, when a frame has come."""

    def __init__(self, *answers: bytes) -> None:
        self.side, slave = pty.openpty()
        self.line = Line(Path(os.ttyname(slave)))
        os.close(slave)
        self.frames: list[Frame | Damage] = []
        self.answers = list(answers)
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        parser = Parser()
        while self.answers:
            for frame in parser.feed(os.read(self.side, 100)):
                self.frames.append(frame)
                os.write(self.side, self.answers.pop(0))


INFO = encode(Message.INFO, struct.pack("<BHHI", 1, 256, 65, 7))


def token(index, value):
    return encode(Message.TOKEN, struct.pack("<HH", index, value))


def end(count, fault=0):
    return encode(Message.END, struct.pack("<HB", count, fault))


def test_a_board_answers():
    fake = FakeBoard(b"noise" + INFO, token(0, 5) + token(1, 6) + end(2))
    board = BoardLink(fake.line)
    assert board.info() == Info(1, 256, 65, 7)
    assert list(board.generate([1, 2], 2)) == [5, 6]
    assert fake.frames == [Frame(Message.PING), Frame(Message.PROMPT, struct.pack("<3H", 2, 1, 2))]


@pytest.mark.parametrize(
    "answer, message",
    [
        (token(1, 5), r"^token 0 was lost on the line; token 1 came$"),
        (end(0, 1), r"^the machine stopped with a fault after 0 tokens$"),
        (token(0, 5) + end(1), r"^the board ended after 1 tokens, 1 of which came; 2 were asked$"),
        (encode(Message.ERROR, bytes([8, 2])), r"^the board refuses: it still works on the last request$"),
        (encode(Message.ERROR, bytes([99, 2])), r"^the board refuses: error 99$"),
        (
            token(0, 5)[:-1] + b"!",
            r"^a frame from the board was damaged after 0 tokens: a frame was damaged on the line$",
        ),
        (token(0, 5), r"^the board fell silent after 1 of 2 tokens$"),
    ],
)
def test_a_board_that_misbehaves(answer, message):
    board = BoardLink(FakeBoard(answer).line, timeout=0.3)
    with pytest.raises(ToolError, match=message):
        list(board.generate([1], 2))


def test_a_token_that_the_model_does_not_have():
    board = BoardLink(FakeBoard(token(0, 64) + token(1, 65)).line)
    with pytest.raises(ToolError, match=r"^token 1 is 65; the model has 65, from 0 on$"):
        list(board.generate([1], 2, 65))


@pytest.mark.parametrize("ask", [lambda board: list(board.generate([1], 2)), lambda board: board.info()])
def test_a_board_that_sends_good_frames_for_ever_is_given_up(ask):
    class Flood:
        def write(self, octets):
            pass

        def read(self, seconds):
            return encode(Message.LOADED, b"12") * 9

    board = BoardLink(Flood(), timeout=0.05, tries=1)
    with pytest.raises(ToolError, match=r"^(the board fell silent after 0 of 2 tokens|no board answers: .*)$"):
        ask(board)


def test_an_engine_that_sends_too_many_results():
    values = b"".join(encode(Message.VALUE, struct.pack("<Hi", index, 0)) for index in range(4))
    engine = EngineBoard(FakeBoard(values).line)
    with pytest.raises(ToolError, match=r"^the engine sends more than the 3 results that were asked$"):
        engine.run(b"", 1, 3)


def test_a_board_that_is_not_there():
    board = BoardLink(FakeBoard(b"", b"").line, timeout=0.05, tries=2)
    board.SILENCE = 0.01
    with pytest.raises(ToolError, match=r"^no board answers: 2 times PING, and nothing within 0.05 s; check the port"):
        board.info()


def test_divisors():
    assert uart_divisor(50e6, 1e6) == 50
    assert uart_divisor(50e6, 115200) == 434
    with pytest.raises(ValueError, match=r"^baud is 2e\+07; allowed at a clock of 5e\+07 Hz: above 0, to 1.25e\+07$"):
        uart_divisor(50e6, 20e6)
    with pytest.raises(
        ValueError, match=r"^baud is 2.2e\+06; a clock of 1.2e\+07 Hz makes it only with an error of 9.1%$"
    ):
        uart_divisor(12e6, 2.2e6)
    with pytest.raises(ValueError, match=r"^divisor is 3; allowed: 4 or more$"):
        UartReceiver(3)


@pytest.mark.parametrize("sender, receiver", [(4, 4), (50, 50), (52, 50), (48, 50)])
def test_octets_survive_a_line_whose_ends_differ_by_4_per_cent(sender, receiver):
    m = Module()
    m.submodules.tx = tx = UartTransmitter(sender)
    m.submodules.rx = rx = UartReceiver(receiver)
    m.d.comb += rx.rx.eq(tx.tx)
    sent = [0x00, 0xFF, 0xA5, 0x5A, 0x01, 0x80]
    got = []

    async def give(ctx):
        for octet in sent:
            ctx.set(tx.octets.payload, octet)
            ctx.set(tx.octets.valid, 1)
            await ctx.tick().until(tx.octets.ready)
        ctx.set(tx.octets.valid, 0)

    async def take(ctx):
        ctx.set(rx.octets.ready, 1)
        while len(got) < len(sent):
            _, _, valid, octet, broken = await ctx.tick().sample(rx.octets.valid, rx.octets.payload, rx.broken)
            assert not broken
            if valid:
                got.append(octet)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(give)
    simulator.add_testbench(take)
    simulator.run_until(20 * sender * 10e-6)
    assert got == sent


def test_an_octet_without_a_stop_bit_is_broken():
    rx = UartReceiver(8)

    async def bench(ctx):
        ctx.set(rx.octets.ready, 1)
        ctx.set(rx.rx, 0)
        broken = 0
        for _ in range(120):
            _, _, valid, bad = await ctx.tick().sample(rx.octets.valid, rx.broken)
            assert not valid
            broken += bad
        assert broken == 1

    simulator = Simulator(rx)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
