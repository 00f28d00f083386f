"""`nomul talk`: prompts to a board with a language model, over its serial line, and its text back."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click
import torch

from nomul import console
from nomul.board_designs import find_board, machine_for, model_number, open_model
from nomul.errors import InputError
from nomul.host.serial import BAUD, BoardLink, Info, Line, baud_speed
from nomul.model import checkpoints
from nomul.model.integer import IntegerModel
from nomul.model.text import encode
from nomul.options import POSITIVE, CheckpointPath, Integer, bundle, refuse_given

SIMULATED_BAUD_RATIO = 16
"""Cycles of a bit of the simulated line: a real one would spend most of its cycles in waiting."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the board is: a serial port, or a simulated board."""

    port: str | None
    port_option: str | None
    board: str
    baud: int
    timeout: float | None


@click.command("talk")
@bundle(
    "place",
    Place,
    click.argument("port", required=False),
    click.option("--port", "port_option", help="The same as the argument; `sim` is a simulated board."),
    click.option("--board", default="ulx3s", show_default=True, help="With port sim: the board that is simulated."),
    click.option("--baud", type=Integer(1), default=BAUD, show_default=True),
    click.option("--timeout", type=POSITIVE, help="Seconds to wait for an answer; 2, or 600 for a simulated board."),
)
@click.option("--checkpoint", type=CheckpointPath(), help="The board's model; 'tiny' if absent.")
@click.option("--prompt", help="One prompt; without it, each line of the standard input is one.")
@click.option("--tokens", type=Integer(1), default=80, show_default=True, help="Characters to generate.")
@console.json_option
def command(place: Place, checkpoint: Path | None, prompt: str | None, tokens: int, as_json: bool) -> None:
    """Give prompts to a board and print the text that comes back.

    PORT is a serial port such as /dev/ttyUSB0, or `sim`.
    """
    name, port, baud = place.port or place.port_option, place.port, place.baud
    if name is None:
        raise InputError("port is missing; give a serial port such as /dev/ttyUSB0, or sim")
    if as_json and prompt is None:
        raise InputError("--json wants one prompt: give it with --prompt")
    if port is not None and place.port_option is not None and port != place.port_option:
        raise InputError(f"the port is {port!r} and --port is {place.port_option!r}; give one of them")
    if name != "sim":
        refuse_given(("board",), "goes with port sim only, which simulates it")
    torch.set_num_threads(1)
    path = checkpoint or checkpoints.path()
    model, characters = open_model(path)
    if prompt is not None:
        _start(prompt, characters, model.config.context)
    baud_speed(baud)
    figures: dict[str, Any] = {}
    out = sys.stdout  # a simulation hides what is printed while it runs
    with contextlib.ExitStack() as stack:
        device = (
            stack.enter_context(_simulated(path, model, characters, place.board, figures))
            if name == "sim"
            else Path(name)
        )
        line = Line(device, baud)
        stack.callback(line.close)
        host = BoardLink(line, place.timeout or (600 if name == "sim" else 2))
        info = host.info()
        if info.number != model_number(path):
            raise InputError(f"the board's model is not {path.name}: name its checkpoint with --checkpoint")
        console.stderr.print(f"{name}: a model of {info.vocabulary} characters and a context of {info.context}")
        if prompt is not None:
            text, seconds = _speak(host, info, characters, prompt, tokens, None if as_json else out)
            found: dict[str, Any] = {
                "port": name, "checkpoint": str(path), "prompt": prompt, "text": text, "tokens": len(text),
                "seconds": round(seconds, 3),
            }  # fmt: skip
        else:
            _converse(host, info, characters, tokens, out)
    if prompt is not None and figures and found["tokens"] > 1:
        # From the first octet of the first TOKEN to the last of END: the end of the last token stands for the first's.
        cycles = figures["answer_cycles"] / (found["tokens"] - 1)
        figures |= {
            "cycles_per_token": round(cycles, 1),
            "tokens_per_second": round(1e6 * figures["clock_mhz"] / cycles),
        }
        console.stderr.print(
            f"{cycles:,.0f} cycles a character, {figures['tokens_per_second']:,} characters a second at "
            f"{figures['clock_mhz']:g} MHz",
            highlight=False,
        )
    if as_json:
        console.print_json(found | figures)


@contextlib.contextmanager
def _simulated(path: Path, model: IntegerModel, characters: str, name: str, figures: dict[str, Any]) -> Iterator[Path]:
    """Run a simulated board; yield its port; fill `figures` when it has ended."""
    from nomul.sim.board import simulated_board

    board = find_board(name)
    config = machine_for(board, model)
    console.stderr.print(f"building the simulated {board.title}: {config.engine.name}, {config.lanes} lanes")
    baud = board.clock_hz / SIMULATED_BAUD_RATIO
    with simulated_board(model, config, characters, model_number(path), board.clock_hz, baud, 50e-6) as simulated:
        yield simulated.port
    figures["answer_cycles"] = simulated.result["answer_cycles"]
    figures["clock_mhz"] = board.clock_hz / 1e6


def _start(prompt: str, characters: str, context: int) -> list[int]:
    """Return a prompt as tokens; InputError if it is empty, too long, or has a character that the model lacks."""
    start: list[int] = encode(prompt, characters).tolist()
    if not 1 <= len(start) <= context:
        raise InputError(f"the prompt has {len(start)} characters; the board takes 1 to {context}, its context")
    return start


def _speak(
    host: BoardLink, info: Info, characters: str, prompt: str, tokens: int, out: TextIO | None
) -> tuple[str, float]:
    """Give one prompt; write the text as it comes, if `out` is given; return it, and the seconds it took."""
    start = _start(prompt, characters, info.context)
    begin = time.perf_counter()
    text = ""
    for token in host.generate(start, min(tokens, info.context + 1 - len(start)), len(characters)):
        text += characters[token]
        if out is not None:
            out.write(text[-1] if len(text) > 1 else prompt + text)
            out.flush()
    if out is not None:
        out.write("\n")
        out.flush()
    return text, time.perf_counter() - begin


def _converse(host: BoardLink, info: Info, characters: str, tokens: int, out: TextIO) -> None:
    """Take each line of the standard input as a prompt; say what is wrong with one and go on."""
    for prompt in sys.stdin:
        try:
            _, seconds = _speak(host, info, characters, prompt.rstrip("\r\n"), tokens, out)
        except InputError as error:
            console.stderr.print(f"nomul: {error}", markup=False)
        else:
            console.stderr.print(f"{seconds:.1f} s", highlight=False)
