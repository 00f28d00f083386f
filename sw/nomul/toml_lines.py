"""TOML files with the line of every key, which `tomllib` does not tell."""

import re
import tomllib
from pathlib import Path
from typing import Any

from nomul.errors import InputError
from nomul.files import plain_file

__all__ = ["BYTES_MAX", "Lines", "key_lines", "read_toml"]

BYTES_MAX = 1 << 16
"""Of a file: a design has some hundred lines."""

Lines = dict[tuple[str, ...], int]
"""By the path of a key, the line where it begins, from 1."""


def read_toml(file: Path) -> tuple[dict[str, Any], Lines]:
    """Return what a TOML file says, and the lines of its keys.

    Raises
    ------
    InputError
        If it is no TOML, with the line where it stops being that, or larger than `BYTES_MAX`.
    """
    with plain_file(file).open("rb") as opened:
        data = opened.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise InputError(f"{file} has more than {BYTES_MAX:,} bytes; a design file is a short text")
    try:
        text = data.decode().replace("\r\n", "\n")
        return tomllib.loads(text), key_lines(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{file}:{line}: this is no text in UTF-8, and a design file is one in TOML") from None
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        why, line = (found[1], int(found[2] or text.rstrip().count("\n") + 1)) if found else (str(error), 1)
        raise InputError(f"{file}:{line}: this is no TOML: {why[:1].lower()}{why[1:]}") from None
    except RecursionError:
        raise InputError(f"{file}: lists or tables are nested too deeply") from None


def key_lines(text: str) -> Lines:
    """Return the lines of the keys of a TOML text, which is right.

    A statement (a table's header, or a key and its value) is TOML by itself, and no beginning of it that ends with a
    line is. So each is found, and read, by `tomllib` alone. A key within another's value has that one's line.
    """
    found: Lines = {}
    table: tuple[str, ...] = ()
    statement, begin = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        try:
            said = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = _note(found, (), said, begin)
        else:
            _note(found, table, said, begin)
        statement, begin = "", number + 1
    return found


def _note(found: Lines, path: tuple[str, ...], value: Any, line: int) -> tuple[str, ...]:
    """Note the keys of a value at a path; return the path of the last, innermost one."""
    deepest = path
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        for key, inner in value.items():
            found.setdefault((*path, key), line)
            deepest = _note(found, (*path, key), inner, line)
    return deepest
