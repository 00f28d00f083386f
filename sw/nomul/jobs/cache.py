"""A content-addressed store of results that take long to make, safe against kills and corruption."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from nomul.errors import InputError
from nomul.files import write_atomically

DEFAULT = Path()
"""Of the functions that keep results: `place` itself."""


def place() -> Path:
    """Return where everything lies that is kept between commands: NOMUL_CACHE, or else the platform's own place."""
    return Path(os.environ.get("NOMUL_CACHE") or platformdirs.user_cache_dir("nomul", appauthor=False)).absolute()


def ready(folder: Path) -> Path:
    """Return a folder of the cache, made if need be; `InputError` if it takes no files, before there is one to keep."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"the cache {folder} cannot be written: {error.strerror}; name another folder in NOMUL_CACHE"
        ) from None
    return folder


def digest(*parts: str) -> str:
    """Return a key made of texts, each with its length so that no two lists of parts give the same key."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()


class Cache:
    """A folder of JSON objects, each under a key that is the hash of all that it was made from.

    An entry holds the hash of its own contents and of the files that belong to it. One that does not agree with them,
    whether cut short, edited or left by another program, counts as absent: it is removed and made again. Entries are
    written whole or not at all, so any number of processes may share a folder and be killed at any time.

    Parameters
    ----------
    folder
        Where to keep entries, in `place` if it is relative; made when the first one is looked for. None keeps nothing.

    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = None if folder is None else place() / folder

    def path(self, key: str, suffix: str = ".json") -> Path:
        """Return where the entry of `key` is, or one of its files, by suffix."""
        if self.folder is None:
            raise ValueError("a cache without a folder has no paths")
        return self.folder / f"{key}{suffix}"

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the entry of `key`, or None if there is none that is whole.

        Raises `InputError` if there is none and none can be kept.
        """
        if self.folder is None:
            return None
        try:
            entry = json.loads(self.path(key).read_text())
            payload = entry["payload"]
            whole = entry["sha256"] == digest(json.dumps(payload, sort_keys=True)) and all(
                hashlib.sha256(self.path(key, suffix).read_bytes()).hexdigest() == expected
                for suffix, expected in entry["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            ready(self.folder)
            self.path(key).unlink(missing_ok=True)
            return None
        return dict(payload)

    def put(self, key: str, payload: dict[str, Any], files: dict[str, str] | None = None) -> None:
        """Keep `payload` and the texts of its `files`, by suffix, under `key`."""
        if self.folder is None:
            return
        hashes = {}
        for suffix, text in (files or {}).items():
            data = text.encode()
            write_atomically(self.path(key, suffix), data)
            hashes[suffix] = hashlib.sha256(data).hexdigest()
        entry = {
            "sha256": digest(json.dumps(payload, sort_keys=True)),
            "files": hashes,
            "payload": payload,
        }
        write_atomically(self.path(key), (json.dumps(entry, indent=1) + os.linesep).encode())
