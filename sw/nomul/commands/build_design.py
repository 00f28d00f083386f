"""A design file that was read: what it says, what it leaves to the defaults, and on which line a key stands."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from nomul.catalog import choose_variant, configure
from nomul.commands.build_schema import CELLS, MACHINE, allowed, schema_of
from nomul.cores.discover import cores
from nomul.errors import InputError
from nomul.formats.checkpoint import suggest
from nomul.model import checkpoints
from nomul.names import canonical
from nomul.report.figures import check_routable
from nomul.toml_lines import Lines, read_toml

__all__ = ["Design", "load_design"]

OPTIONS = {
    "pnr": "place_and_route",
    "no_synthesis": "synthesise",
    "name": "top",
    "clock": "clock_mhz",
}
"""Keys of a design file that are called otherwise than the options of commands."""

SUBJECT = r"(?:\w+ )?field '(\w+)'(?: of \w+)?|--([\w-]+)|(\w+)(?= is )"
"""What the sentence of an error is about, where it begins with that: a field, an option, or a bare name."""


@dataclass(frozen=True, eq=False)
class Design:
    """What a design file says.

    Raises
    ------
    InputError
        If a key or a value is not in its schema, or keys do not go together; the message begins with FILE:LINE.
    """

    file: Path
    values: Mapping[str, Any]
    lines: Lines
    schema: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuse the first of what is wrong."""
        validator = Draft202012Validator(dict(self.schema))
        found = [sentence for error in validator.iter_errors(self.values) for sentence in self._sentences(error)]
        found += self._numbers(self.values, ())
        if found:
            path, sentence = min(found, key=lambda each: self.line(*each[0]))
            raise self.error(sentence, *path)
        self._check_files()
        self._check_weights()
        self._check_report()
        if self.is_core:
            with self.blaming():
                engine, settings, _ = choose_variant(self.name, self.settings)
                configure(engine, settings, None)

    @property
    def name(self) -> str:
        """The core, or `accelerator`."""
        return str(self.values["design"])

    @property
    def is_core(self) -> bool:
        """Whether a core is built, and not a machine."""
        return self.name != MACHINE

    @property
    def settings(self) -> tuple[str, ...]:
        """Fields that are given of the core, or of a machine's engine, as 'field=value'."""
        fields = self.values.get("fields" if self.is_core else "engine_fields", {})
        return tuple(f"{name}={value}" for name, value in fields.items())

    def given(self, *path: str) -> bool:
        """Say whether the file has a key."""
        return path in self.lines

    def get(self, *path: str) -> Any:
        """Return the value of a key; its default, or None, if the file does not have it."""
        value: Any = self.values
        schema: Mapping[str, Any] = self.schema
        for key in path:
            schema = schema.get("properties", {}).get(key, {})
            value = value.get(key) if isinstance(value, dict) else None
        return schema.get("default") if value is None else value

    def file_of(self, *path: str) -> str | None:
        """Return the file that a key names, which is seen from the folder of the design file."""
        value = self.get(*path)
        return None if value is None else str(self.file.parent / value)

    def line(self, *path: str) -> int:
        """Return the line of a key; of what it is in if the file does not have it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.lines.get(("design",), 1))

    def error(self, sentence: str, *path: str) -> InputError:
        """Return the error that a key is wrong, in a sentence."""
        return InputError(f"{self.file}:{self.line(*path)}: {sentence}")

    def blame(self, error: InputError, *section: str) -> InputError:
        """Return a command's error as one of the key that it is about: of a section, if it names none of the file."""
        message = str(error)
        found = re.match(
            r"(?:\w+ )?field '(?P<field>\w+)'(?: of \w+)?|--(?P<option>[\w-]+)|(?P<name>\w+)(?= is )", message
        )
        name = next((each for each in found.groups() if each), "") if found else ""
        name = OPTIONS.get(name.replace("-", "_"), name.replace("-", "_"))
        paths = [path for path in self.lines if path[-1] == name and len(path) < 3]
        path = next((path for path in paths if path[: len(section)] == section), paths[0] if paths else None)
        if found and path:
            return self.error(f"{'.'.join(path)}{message[found.end() :]}", *path)
        spoken = (path for path in self.lines if isinstance(self.get(*path), str) and repr(self.get(*path)) in message)
        return self.error(message, *next((path for path in spoken if path[:1] == section[:1]), section))

    def _sentences(self, error: ValidationError) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield what a schema finds wrong: the path of a key, and a sentence."""
        path = tuple(str(part) for part in error.absolute_path)
        where, schema = ".".join(path), error.schema
        assert isinstance(schema, Mapping)
        if error.validator == "additionalProperties":
            known = list(schema["properties"])
            place = f"[{where}] of {self.name}" if path else f"a design of {self.name}"
            for key in error.instance.keys() - set(known):
                yield (*path, key), f"{place} has no key {key!r}; {suggest(key, known)}"
            return
        value = error.instance
        shown = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else _toml(value)
        yield path, f"{where} is {shown}; allowed: {allowed(schema)}"

    def _numbers(self, values: Mapping[str, Any], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
        """Return what is wrong with numbers that no schema refuses: those that are none."""
        found = []
        for key, value in values.items():
            if isinstance(value, dict):
                found += self._numbers(value, (*path, key))
            elif isinstance(value, float) and not math.isfinite(value):
                found.append(((*path, key), f"{'.'.join((*path, key))} is {value}; allowed: a number that is finite"))
        return found

    def _check_files(self) -> None:
        """Refuse files that are not there; a checkpoint may also be the name of a committed model."""
        for path in (("weights", "checkpoint"), ("check", "activations"), ("report", "liberty")):
            value = self.get(*path) or []
            for name in value if isinstance(value, list) else [value]:
                known = path[-1] == "checkpoint" and canonical(name, checkpoints.NAMES) in checkpoints.NAMES
                if not known and not (self.file.parent / name).exists():
                    raise self.error(f"{'.'.join(path)} is {name!r}, which is not there", *path)

    def _check_weights(self) -> None:
        """Refuse weights of two kinds."""
        random = self.given("weights", "random")
        for key in ("checkpoint", "layer") if random else ():
            if self.given("weights", key):
                raise self.error(
                    f"weights.{key} goes with a checkpoint, and weights.random makes weights", "weights", key
                )
        if self.is_core and self.given("weights", "shape") and not random:
            raise self.error("weights.shape goes with weights.random only; a layer has its own", "weights", "shape")
        if not self.is_core and random and not self.given("weights", "shape"):
            raise self.error("weights.random goes with weights.shape, the shape of a model", "weights", "random")

    def _check_report(self) -> None:
        """Refuse what no report can be made of."""
        cells, synthesise = self.get("target") == CELLS, self.get("report", "synthesise")
        for key in ("liberty", "clock_ns"):
            if self.given("report", key) and not cells:
                raise self.error(f"report.{key} goes with target = {CELLS!r} only", "report", key)
        if cells and synthesise and not self.given("report", "liberty"):
            why = "target cells needs report.liberty, files of standard cells, or report.synthesise = false"
            raise self.error(why, "target")
        if self.get("report", "place_and_route"):
            if not synthesise:
                raise self.error("report.place_and_route needs report.synthesise", "report", "place_and_route")
            with self.blaming("report"):
                check_routable(self.get("target"))

    @contextlib.contextmanager
    def blaming(self, *section: str) -> Iterator[None]:
        """Say what commands refuse while the block runs as wrong in the file (`blame`)."""
        try:
            yield
        except InputError as error:
            raise self.blame(error, *section) from error


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)


def load_design(file: Path) -> Design:
    """Read a design file; raise `InputError` that begins with FILE:LINE for what is wrong in it."""
    values, lines = read_toml(file)
    names = [*cores(), MACHINE]
    if "design" not in values:
        raise InputError(f"{file}:1: design is missing; it names what is built: {', '.join(names)}")
    name = values["design"]
    known = canonical(name, names) if isinstance(name, str) else name
    if known not in names:
        why = suggest(name, names) if isinstance(name, str) else f"allowed: {', '.join(names)}"
        raise InputError(f"{file}:{lines[('design',)]}: design is {_toml(name)}, which Nomul does not have; {why}")
    return Design(file, {**values, "design": known}, lines, schema_of(known))
