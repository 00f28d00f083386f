"""What every subcommand shares: the `--json` flag, the two consoles, and how an error ends a command."""

import contextlib
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from sw.errors import InputError, ToolError
from sw.model import checkpoints
from sw.names import canonical

stderr = Console(stderr=True)
"""Progress and messages; never part of a command's result."""

stdout = Console()
"""Tables and text: the result, unless `--json` is given."""


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json` to a click command; the flag arrives as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")(command)


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


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr while the block runs; call what it yields once for each of the `total` steps.

    The bar ends with the block, also when the block raises. (A `rich.progress.track` inside a generator does not: it
    ends when the generator is collected.)
    """
    with Progress(console=stderr) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


def print_json(result: dict[str, Any]) -> None:
    """Print `result` as the one JSON object of a command that was given `--json`."""
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def fail(message: str) -> None:
    """Print `message` as one sentence on stderr and exit with code 2."""
    sys.stderr.write(f"nomul: {message}\n")
    sys.exit(2)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors that a user can cause into one sentence on stderr and exit code 2."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (InputError, ToolError) as error:
            fail(str(error))
        except FileNotFoundError as error:
            fail(f"file not found: {error.filename}")
        except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
            fail(f"{error.strerror}: {error.filename}")
        except BrokenPipeError:
            # The reader (head, less) has gone; there is nobody left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    return wrapper


def write_atomically(path: Path, data: bytes) -> bool:
    """Write `data` to `path` only if it differs from what is there, and never half of it.

    Returns True if the file was written.
    """
    if path.exists() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def write_folder(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write files into a folder, each only if it differs; a folder that is new appears whole or not at all.

    Returns the names of those that were written.
    """
    if folder.exists():
        return [name for name, content in files.items() if write_atomically(folder / name, content)]
    whole = folder.absolute()
    temporary = whole.with_name(f".{whole.name}.{os.getpid()}.tmp")
    try:
        for name, content in files.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        temporary.rename(whole)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return list(files)


def print_files(result: Mapping[str, Any]) -> None:
    """Print which of a command's files it wrote: `files` with their folder, `written` by their names within it."""
    for file in result["files"]:
        changed = any(file.endswith(f"{os.sep}{name}") for name in result["written"])
        stdout.print(f"{file}: {'written' if changed else 'unchanged'}", highlight=False, soft_wrap=True)
