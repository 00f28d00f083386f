"""Random arguments for every command that click knows: plausible ones, with one to three of them spoilt."""

import dataclasses
import random
import shlex
from collections.abc import Iterator

import click

from nomul.board_designs import BOARDS
from nomul.cli import cli
from nomul.cores.discover import cores, matmul_cores
from nomul.machines import SHAPES
from nomul.model import checkpoints
from nomul.options import Integer, Number, Output
from nomul.report.shapes import DEVICES
from nomul.report.shapes import SHAPES as PUBLISHED
from tests.cli_files import LONG, NAMES

NUMBERS = (
    "", " ", "0", "-0", "-1", "1", "2", "3", "7", "0.5", "-0.5", "1.0", "1e3", "1e26", "1e400", "1e-320", "nan", "-nan",
    "inf", "-inf", "1_0", " 1", "+1", "0x10", "\u0663", "\uff14", "\u00b2", "one", "65535", "65536", "2147483647",
    "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "-9223372036854775809", "9" * 30, "9" * 900, "9" * 5000,
)  # fmt: skip

TEXTS = (
    "", " ", "a", "ROMEO:", "a[/]b", "[/red]", "[bold", ":smile:", "\x1b[31m", "line\nbreak", "bad\udcff", "\u00e9",
    "#", LONG, "../..", "-", "--", "=", "=1", "rows", "rows=", "rows=0", "rows=1_0", "rows=\u0663", "rows=" + "9" * 30,
    "rows=nan", "nosuch=1", "target=nosuch", "weight=nosuch", "lut=1_0", "lut=nan", "lut=1e400", "1x1_0", "\u0663x1",
    "0x5", "1x" + "9" * 60, "%s", "{}", "{0.x}", "tcp://localhost:1", "model.layers.0", "lm_head", "1.0", "x y", "a:b",
)  # fmt: skip

PLAUSIBLE: dict[str, tuple[str, ...]] = {
    "engine": tuple(cores()),
    "engines": tuple(matmul_cores()),
    "name": (*cores(), "machine", "machine"),
    "file": ("core.toml", "machine.toml", "wrong.toml"),
    "init": (*cores(), "accelerator"),
    "board": tuple(BOARDS),
    "board_name": tuple(BOARDS),
    "shape": tuple(SHAPES),
    "model": (*checkpoints.NAMES, *PUBLISHED),
    "target": tuple(DEVICES),
    "port": ("sim", "/dev/null", "/dev/nosuch"),
    "port_option": ("sim", "/dev/zero"),
    "layer": ("model.layers.0.mlp.down_proj", "64x64"),
    "mode": ("int8", "ternary"),
    "prompt": ("ROMEO:", "a"),
    "budget": ("lut=5000",),
    "checkpoint": checkpoints.NAMES,
    "teachers": checkpoints.NAMES,
    "text": ("text",),
    "activations": ("good.npy",),
    "liberties": ("good.lib",),
    "source": ("a[/]b.safetensors", "m[/red]"),
    "scheduler": ("tcp://localhost:1",),
    "vendor": ("nomul",),
    "library": ("ip",),
    "version": ("1.0",),
}
"""Values that are right for arguments whose type is any text, by their name."""


OFTEN = ("shape", "target", "output", "as_json")
"""Options that a command mostly wants, though click does not know it."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of the command, where its output goes, and what it may write."""

    words: tuple[str, ...]
    stdout: str
    """file, full, closed, gone, or small: a disk where no file has room."""
    cache: str | None
    """A place of the cache other than the usual."""
    outputs: tuple[str, ...]
    """Paths that are given as outputs."""

    def __str__(self) -> str:
        """Return the call as it would be typed."""
        words = (word if len(word) < 100 else f"{word[:20]}...({len(word)})" for word in self.words)
        more = "" if self.stdout == "file" else f" [stdout {self.stdout}]"
        return f"nomul {shlex.join(words)}{more}{f' [cache {self.cache}]' if self.cache else ''}"


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


def _setting(dice: random.Random, engine: str) -> str:
    """Return a field of an engine with a value that it allows."""
    specs = {name: core.gateware for name, core in cores().items()}
    field = dice.choice(dataclasses.fields(specs.get(engine, specs["tlmm"]).config))
    facts = field.metadata
    value = dice.choice(facts["choices"]) if facts["choices"] else dice.choice([facts["low"], facts["high"], 4, 8])
    return f"{field.name}={value}"


def _good(dice: random.Random, parameter: click.Parameter, engine: str) -> str:
    """Return a value that a parameter's type allows, of no great size."""
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return str(dice.choice(list(kind.choices)))
    if isinstance(kind, Integer | Number):
        low = max(kind.min or 0, 0)
        value = low + dice.choice([0, 1, 1, 2, 4, 8]) if isinstance(kind, Integer) else low + dice.random()
        return str(value if kind.max is None else min(value, kind.max))
    if isinstance(kind, Output):
        return dice.choice(["out", "new/out", "text" if kind.file_okay else "folder"])
    if parameter.name == "settings":
        return _setting(dice, engine)
    return dice.choice(PLAUSIBLE.get(parameter.name or "", TEXTS))


def _bad(dice: random.Random, parameter: click.Parameter) -> str:
    kind = parameter.type
    if isinstance(kind, Integer | Number):
        return dice.choice(NUMBERS)
    if kind.name == "path":
        return dice.choice(NAMES)
    return dice.choice([dice.choice(TEXTS), dice.choice(TEXTS), dice.choice(NUMBERS), dice.choice(NAMES)])


def case(dice: random.Random) -> Case:
    """Draw a case: each parameter that is needed and some others, good ones; then up to three of them are spoilt."""
    words, command = dice.choice(COMMANDS)
    given: list[tuple[click.Parameter, str | None]] = []
    engine = ""
    for parameter in command.params:
        likely = 0.7 if parameter.name in OFTEN else 0.15
        if not (parameter.required or isinstance(parameter, click.Argument) or dice.random() < likely):
            continue
        flag = isinstance(parameter, click.Option) and parameter.is_flag
        for _ in range(dice.choice([1, 1, 2, 3]) if parameter.multiple else 1):
            value = None if flag else _good(dice, parameter, engine)
            engine = value or "" if parameter.name in ("engine", "name") else engine
            given.append((parameter, value))
    for _ in range(dice.choice([0, 0, 1, 1, 1, 2])):
        place = dice.randrange(len(given)) if given else 0
        kind = dice.randrange(12)
        options = [each for each in command.params if isinstance(each, click.Option)]
        if kind == 0 and given:
            del given[place]
        elif kind == 1 and given:
            given.append(given[place])
        elif kind < 5:
            option = dice.choice(options)
            given.append((option, None if option.is_flag else _bad(dice, option)))
        elif given and given[place][1] is not None:
            given[place] = (given[place][0], _bad(dice, given[place][0]))
    typed = list(words)
    for parameter, value in given:
        if isinstance(parameter, click.Option):
            typed.append(dice.choice(parameter.opts))
        typed += [] if value is None else [value]
    if dice.random() < 0.1:
        typed.insert(dice.randint(len(words), len(typed)), dice.choice(["--nosuch", "-o", "--json=1", *TEXTS]))
    outputs = tuple(value for parameter, value in given if isinstance(parameter.type, Output) and value)
    return Case(
        tuple(typed),
        dice.choice([*["file"] * 16, "full", "closed", "gone", "small"]),
        dice.choice([*[None] * 18, "null/x", "text"]),
        outputs,
    )


COMMANDS = tuple(commands(cli))
"""Every command, by the words that call it."""
