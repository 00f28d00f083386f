"""What every subcommand shares: the `--json` flag, the two consoles, and how an error ends a command."""

import contextlib
import functools
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from nomul.errors import InputError, ToolError

# Names of layers, files and models come from outside: what is printed is text, and never markup.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}

stderr = Console(stderr=True, **PLAIN)
"""Progress and messages; never part of a command's result."""

stdout = Console(**PLAIN)
"""Tables and text: the result, unless `--json` is given."""

SENTENCE = 2000
"""Characters of an error's sentence, at most."""


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json` to a click command; the flag arrives as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")(command)


class _Lines(Progress):
    """A bar; where there is no terminal, a line when it begins, and one for each tenth of what takes long."""

    SECONDS = 5.0
    """Between two lines, at least."""

    def __init__(self, *columns: ProgressColumn, **options: Any) -> None:
        self._plain = not stderr.is_terminal
        self._said: dict[TaskID, tuple[int, float]] = {}
        super().__init__(*columns, console=stderr, disable=self._plain, **options)

    def add_task(self, description: str, *args: Any, **options: Any) -> TaskID:
        """Begin a task."""
        task = super().add_task(description, *args, **options)
        if self._plain:
            self._said[task] = 0, self.get_time()
            stderr.print(description)
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Count steps of a task."""
        super().advance(task_id, advance)
        self._say(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Set how far a task is."""
        super().update(task_id, **changes)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        tenth, when = self._said.get(task_id, (10, 0.0))
        task = self._tasks[task_id]
        if task.percentage // 10 > tenth and self.get_time() - when >= self.SECONDS:
            self._said[task_id] = int(task.percentage // 10), self.get_time()
            stderr.print(f"{task.description}: {task.percentage:.0f} %")


def progress_bar(*columns: ProgressColumn, **options: Any) -> Progress:
    """Return a bar on stderr: the description as text, the bar, and more columns; what is left by default."""
    more = columns or (TaskProgressColumn(), TimeRemainingColumn())
    return _Lines(TextColumn("{task.description}", markup=False), BarColumn(), *more, **options)


@contextlib.contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """Say on stderr what is being done while the block runs; call what it yields with what is done next."""
    if not stderr.is_terminal:
        stderr.print(text)
        yield stderr.print
        return
    with stderr.status(Text(text)) as shown:
        yield lambda following: shown.update(Text(following))


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr while the block runs; call what it yields once for each of the `total` steps.

    The bar ends with the block, also when the block raises. (A `rich.progress.track` inside a generator does not: it
    ends when the generator is collected.)
    """
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


def print_json(result: dict[str, Any]) -> None:
    """Print `result` as the one JSON object of a command that was given `--json`."""
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def fail(message: str) -> NoReturn:
    """Print `message` as one line on stderr and exit with code 2."""
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in message)
    if len(line) > SENTENCE:
        line = f"{line[: SENTENCE // 2]} ... {line[-SENTENCE // 4 :]}"
    with contextlib.suppress(OSError):
        sys.stderr.write(f"nomul: {line}\n")
        sys.stderr.flush()
    _leave(2)


def _leave(code: int) -> NoReturn:
    """Exit; what the standard output did not take is dropped, or Python would speak of it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_streams() -> None:
    """See to it that the three standard streams are there, and take every text; refuse to write to a closed one."""
    while (filled := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a file that is opened later must not become one of the three
    os.close(filled)
    closed = sys.stdout is None
    if None in (sys.stdin, sys.stdout, sys.stderr):
        nothing = open(os.devnull, "r+")  # noqa: SIM115 (until the process ends)
        sys.stdin, sys.stdout, sys.stderr = (each or nothing for each in (sys.stdin, sys.stdout, sys.stderr))
    if closed:
        fail("the standard output is closed; the result has nowhere to go")
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _usage(error: click.ClickException) -> str:
    """Return the sentence of what click finds wrong, and where to read what is right."""
    sentence = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f"; see {context.command_path} --help" if context is not None else ""
    return sentence[:1].lower() + sentence[1:] + where


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors that a user can cause into one sentence on stderr and exit code 2."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _open_streams()
        try:
            try:
                return function(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except (InputError, ToolError) as error:
            fail(str(error))
        except getattr(click.exceptions, "NoArgsIsHelpError", ()) as error:
            error.show()
            _leave(2)
        except click.ClickException as error:
            fail(_usage(error))
        except click.Abort:
            click.echo("Aborted!", err=True)
            _leave(1)
        except FileNotFoundError as error:
            fail(f"file not found: {error.filename}")
        except BrokenPipeError:
            # The reader (head, less) has gone; there is nobody left to tell.
            _leave(1)
        except OSError as error:
            reason = error.strerror or str(error)
            fail(f"reading or writing failed: {reason}" if error.filename is None else f"{reason}: {error.filename}")
        except MemoryError as error:
            fail(f"out of memory: {error}" if str(error) else "out of memory")

    return wrapper


def print_files(result: Mapping[str, Any]) -> None:
    """Print which of a command's files it wrote: `files` with their folder, `written` by their names within it."""
    for file in result["files"]:
        changed = any(file.endswith(f"{os.sep}{name}") for name in result["written"])
        stdout.print(f"{file}: {'written' if changed else 'unchanged'}", highlight=False, soft_wrap=True)
