"""Types of the options that commands have: numbers, and files to write; what is wrong is refused before any work."""

import contextlib
import dataclasses
import functools
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nomul.errors import InputError
from nomul.model import checkpoints
from nomul.names import canonical
from nomul.numerals import read_integer, read_number

__all__ = ["POSITIVE", "CheckpointPath", "Integer", "Number", "Output", "Seed", "bundle", "refuse_given"]


class _Ranged(click.ParamType):
    """Numbers between two bounds, either of which may be absent; the sentence of a wrong one names the option."""

    kind: str
    read: Callable[[str], Any]
    min: Any
    max: Any
    min_open: bool

    def allowed(self) -> str:
        """Say in words what is allowed."""
        if self.max is not None:
            return f"{self.min} to {self.max}"
        return f"above {self.min}" if self.min_open else f"{self.min} or more"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; a default is one already."""
        option = param.opts[0] if param is not None else "the value"
        try:
            number = type(self).read(value) if isinstance(value, str) else value
        except ValueError:
            bounds = "" if self.min is None else f", {self.allowed()}"
            raise InputError(f"{option} is {value!r}; allowed: {self.kind}{bounds}") from None
        low = self.min is not None and (number <= self.min if self.min_open else number < self.min)
        if low or (self.max is not None and number > self.max):
            raise InputError(f"{option} is {value}; allowed: {self.allowed()}")
        return number

    def _describe_range(self) -> str:
        """Return what click's help says of the bounds."""
        return "" if self.min is None else super()._describe_range()  # type: ignore[misc]


class Integer(_Ranged, click.IntRange):
    """A whole number."""

    name = "integer"
    kind = "a whole number"
    read = staticmethod(read_integer)


class Number(_Ranged, click.FloatRange):
    """A number, never nan and never infinite."""

    name = "number"
    kind = "a number"
    read = staticmethod(read_number)


POSITIVE = Number(0, min_open=True)


class Seed(Integer):
    """What PyTorch takes as a seed: 64 bits, with a sign or without."""

    def __init__(self) -> None:
        super().__init__(-(1 << 63), (1 << 64) - 1)

    def _describe_range(self) -> str:
        return ""


class Output(click.Path):
    """A file or a folder that is written.

    It is tried at once, since minutes of work may come before the writing: the folder that is to hold it must take a
    file. The command itself makes folders that are not there.

    Parameters
    ----------
    file, folder : bool
        Which of the two may be there already.
    """

    def __init__(self, *, file: bool = False, folder: bool = False) -> None:
        super().__init__(file_okay=file, dir_okay=folder, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; InputError if it cannot be written."""
        if not str(value):
            raise InputError(f"{param.opts[0] if param is not None else 'the output'} is empty; it must be a path")
        path = Path(value)
        try:
            with contextlib.suppress(FileNotFoundError):
                mode = path.stat().st_mode
                allowed = (stat.S_ISREG(mode) and self.file_okay) or (stat.S_ISDIR(mode) and self.dir_okay)
                if not allowed:
                    names = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder"}
                    what = names.get(stat.S_IFMT(mode), "a device, a pipe or a socket")
                    raise InputError(f"{path} cannot be written: it is {what}")
            folder = path.absolute()
            while not folder.is_dir():
                folder = folder.parent
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        return path


def bundle(argument: str, kind: type[Any], *options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give a command some parameters as one object, `argument`: a dataclass that has a field for each.

    `options` are the decorators of click that declare them, in the order of the help.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.init]

    def decorate(callback: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(callback)
        def wrapper(*before: Any, **given: Any) -> Any:
            made = kind(**{name: given.pop(name) for name in names})
            return callback(*before, **given, **{argument: made})

        for option in reversed(options):
            wrapper = option(wrapper)
        return wrapper

    return decorate


def refuse_given(names: tuple[str, ...], why: str) -> None:
    """Refuse those of a command's options that were given, for a reason that is the rest of a sentence.

    An option that has no effect is never passed over in silence.
    """
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise InputError(f"{option.opts[0]} {why}")


class CheckpointPath(click.Path):
    """The type of an option that takes a checkpoint: a path, or the name of a model that comes with Nomul."""

    name = "path"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a file or folder of a model's name comes before the model."""
        name = canonical(str(value), checkpoints.NAMES)
        if name in checkpoints.NAMES and not Path(value).exists():
            return checkpoints.path(name)
        return super().convert(value, param, ctx)
