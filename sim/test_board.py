"""A whole board, simulated: a host opens its serial line, gives it prompts, and gets the integer model's tokens."""

import time

import pytest
import torch

from nomul.accelerator_image import machine_config
from nomul.bus.uart import uart_divisor
from nomul.errors import ToolError
from nomul.host.serial import BoardLink, Line, Message, Parser, encode
from nomul.model.generation import generate_integer
from nomul.sim.board import simulated_board
from sim.test_machine import CHARACTERS, SETUPS, model_of

CLOCK = 50e6
BAUD = 1e6
NUMBER = 0xCAFE1234

pytestmark = pytest.mark.bench


def test_a_board_speaks_as_the_integer_model_does():
    setup = SETUPS["boothflex"]
    model = model_of(setup)
    config = machine_config(model, setup.engine, setup.settings, lanes=setup.lanes, tile=setup.tile)
    assert uart_divisor(CLOCK, BAUD) == 50

    def expected(prompt, count):
        return list(generate_integer(model, torch.tensor(prompt), count, 0.0, 0))

    with simulated_board(model, config, CHARACTERS, NUMBER, CLOCK, BAUD, 100e-6) as simulated:
        line = Line(simulated.port)
        board = BoardLink(line, timeout=60)
        info = board.info()
        assert (info.context, info.vocabulary, info.number) == (24, model.config.vocabulary, NUMBER)
        assert list(board.generate([1, 2, 3], 4)) == expected([1, 2, 3], 4)
        assert list(board.generate([12], 1)) == expected([12], 1)
        with pytest.raises(ToolError, match=r"^the board refuses: the request is not legal for its model$"):
            list(board.generate([model.config.vocabulary], 1))
        # Noise, half a frame and a silence do no harm.
        line.write(b"\x00\xa5\xff\xa5" + encode(Message.PROMPT, bytes(6))[:9])
        time.sleep(1)
        assert board.info() == info
        # A button in mid-flight: the board forgets the request, and takes the next.
        line.write(encode(Message.PROMPT, bytes([20, 0, 1, 0])))
        parser = Parser()
        assert any(parser.feed(line.read(20)) for _ in range(20))
        simulated.press()
        while line.read(0.5):
            pass
        board = BoardLink(line, timeout=60)
        assert list(board.generate([4, 0], 2)) == expected([4, 0], 2)
        line.close()
    assert simulated.result["broken"] <= 1  # the button may cut an octet short


def test_a_person_types_at_a_terminal():
    setup = SETUPS["boothflex"]
    model = model_of(setup)
    config = machine_config(model, setup.engine, setup.settings, lanes=setup.lanes, tile=setup.tile)

    def read(line, end):
        text = b""
        while not text.endswith(end):
            more = line.read(60)
            assert more, text
            text += more
        return text

    with simulated_board(model, config, CHARACTERS, NUMBER, CLOCK, BAUD, 100e-6, terminal=True) as simulated:
        line = Line(simulated.port)
        read(line, b"\r\n> ")
        line.write(b"a?bd\x7fc")  # not a character of the model; a mistake taken back
        assert read(line, b"c") == b"abd\b \bc"
        line.write(b"\r")
        tokens = generate_integer(model, torch.tensor([0, 1, 2]), 22, 0.0, 0)
        assert read(line, b"\r\n> ").decode() == "".join(CHARACTERS[token] for token in tokens) + "\r\n> "
        line.close()
