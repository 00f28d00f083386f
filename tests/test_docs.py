"""Every command in README and docs is run as it stands there.

A command that takes minutes has further options in the text behind it, `[test: ...]`, with which it is run here; such
a mark at the begin of a block of code is for all of its commands.
"""

import dataclasses
import re
import shlex
import shutil
import string
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import torch

from nomul.cli import cli, main
from nomul.fpga import doctor_checks as trials
from nomul.help import EXAMPLES
from nomul.model.calibration import calibrate
from nomul.model.store import save_model
from nomul.model.transformer import Transformer
from sim.test_machine import CHARACTERS, SHAPE
from tests import gguf_files
from tests.conftest import ROOT
from tests.tiny_liberty import tiny

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"\[test: ([^\]]*)\]")
SIMULATES = {"build", "check", "generate", "selftest", "talk"}
SYNTHESISES = {"bitstream", "build", "explore", "report"}


@dataclasses.dataclass
class Block:
    """The commands of a block of code."""

    place: str
    commands: list[list[str]]

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        names = {words[0] for words in self.commands}
        marks = [pytest.mark.bench] * bool(names & SIMULATES) + [pytest.mark.synth] * bool(names & SYNTHESISES)
        return [*marks, pytest.mark.slow]


def code(file: Path) -> list[tuple[int, list[str]]]:
    """Return the blocks of code of a Markdown file, indented or fenced, each with the number of its first line."""
    found: list[tuple[int, list[str]]] = []
    fenced = inside = False
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.startswith("```"):
            fenced, inside = not fenced, False
        elif fenced or line.startswith("    "):
            if not inside:
                found.append((number, []))
            found[-1][1].append(line.strip())
            inside = True
        elif line:
            inside = False
    return found


def joined(lines: list[str]) -> list[str]:
    """Return lines, those that end with a backslash with their next."""
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def blocks() -> list[Block]:
    """Return every block that has a command; one that stands in several is in the first alone."""
    found: list[Block] = []
    seen: set[str] = set()
    for file in FILES:
        for number, lines in code(file):
            commands: list[list[str]] = []
            variables: dict[str, str] = {}
            every: list[str] = []
            for line in joined(lines):
                if assigned := re.fullmatch(r'(\w+)="(.*)"', line):
                    variables[assigned[1]] = assigned[2]
                if line.startswith("nomul "):
                    text = string.Template(line).safe_substitute(variables)
                    commands.append([*shlex.split(text, comments=True)[1:], *every])
                if mark := MARK.search(line):
                    further = mark[1] if shutil.which("iverilog") else mark[1].replace("--sim icarus", "")
                    (commands[-1] if commands else every).extend(shlex.split(further))
            commands = [words for words in commands if shlex.join(words) not in seen]
            seen |= {shlex.join(words) for words in commands}
            if commands:
                found.append(Block(f"{file.name}:{number}", commands))
    return found


BLOCKS = blocks()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the files that commands in the text name."""
    monkeypatch.chdir(tmp_path)
    # `nomul doctor` waits so many seconds for a tool, which is not long where many tests run.
    monkeypatch.setattr(trials, "TIMEOUT", 600)
    torch.manual_seed(1)
    model = Transformer(SHAPE).eval()
    positions = calibrate(model, torch.randint(SHAPE.vocabulary, (2, 16)))
    save_model(tmp_path / "little.safetensors", model, {"characters": CHARACTERS, "integer": positions.to_dict()})
    gguf_files.write(tmp_path / "model.gguf", gguf_files.model(lambda weights: gguf_files.quantised(weights, "TQ2_0")))
    (tmp_path / "cells.lib").write_text(tiny())
    (tmp_path / "tinyshakespeare.txt").write_text("Shall I compare thee to a summer's day?\n" * 80)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("block", [pytest.param(block, id=block.place, marks=block.marks) for block in BLOCKS])
def test_commands_run(block: Block) -> None:
    for words in block.commands:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert not ended.value.code, shlex.join(words)


def test_the_text_has_the_commands() -> None:
    """The reader of Markdown above finds them, every subcommand among them."""
    assert {words[0] for block in BLOCKS for words in block.commands} >= set(cli.list_commands(None))


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that words begin with, and the other words."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        inner = command.get_command(click.Context(command), words[0])
        assert inner is not None, f"nomul has no command {words[0]!r}"
        command, words = inner, words[1:]
    return command, words


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_mentioned_exists(file: Path) -> None:
    """Commands within sentences, with their options; targets of make; modules; files of tests."""
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    sentences = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", sentences)]
    lines = [line for _, block in code(file) for line in joined(block)]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in (
        shlex.split(text, comments=True) for text in [*spans, *lines] if re.match(r"(nomul|make|pytest|python) ", text)
    ):
        if words[0] == "nomul":
            command, rest = resolve(words[1:])
            known = {name for option in command.params for name in option.opts}
            assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, words
        elif words[0] == "make":
            assert words[1] in targets, words
        elif words[0] == "pytest":
            assert all((ROOT / word).exists() for word in words[1:]), words
        else:
            assert words[1] == "-m" and find_spec(words[2]), words


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_help_are_commands(name: str) -> None:
    for example in EXAMPLES[name]:
        command, rest = resolve(shlex.split(example)[1:])
        command.make_context(name, rest)
