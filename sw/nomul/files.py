"""Files that are read, only those that end, since a pipe or a device may never; and files that are written whole."""

import contextlib
import filecmp
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nomul.errors import InputError

__all__ = ["destination", "new_folder", "plain_file", "replace_file", "write_atomically", "write_folder"]


def plain_file(path: Path) -> Path:
    """Return a path that may be read to its end; what opens it says whether it can.

    Raises
    ------
    InputError
        If it is a pipe, a device or a socket.
    OSError
        If there is nothing, or it cannot be reached.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path} is a device, a pipe or a socket; a file is needed")
    return path


def destination(path: Path) -> Path:
    """Return what a writer of `path` replaces: the file that symbolic links lead to, or one that is yet to come.

    Raises `InputError` for what is there and is no plain file, as a device or a folder, and for what cannot be reached.
    """
    real = Path(os.path.realpath(path))
    try:
        mode = real.stat().st_mode
    except FileNotFoundError:
        return real
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise InputError(f"{path} cannot be written: it is {kind}, and only a plain file is replaced")
    return real


def replace_file(path: Path, write: Callable[[Path], object]) -> bool:
    """Let `write` make a file under a name that it is given; then that takes the place of `path`, if it differs.

    Returns True if it did. What is there stays as it is if `write` raises. Symbolic links are written through; raises
    `InputError` as `destination` does. Everything that replaces a file goes this way.
    """
    real = destination(path)
    real.parent.mkdir(parents=True, exist_ok=True)
    temporary = real.with_name(f".{real.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        if real.exists() and filecmp.cmp(temporary, real, shallow=False):
            return False
        os.replace(temporary, real)
        return True
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> bool:
    """Write `data` to `path` only if it differs from what is there, and never half of it.

    Returns True if the file was written.
    """
    real = destination(path)
    if real.exists() and real.read_bytes() == data:
        return False
    return replace_file(real, lambda temporary: temporary.write_bytes(data))


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder for the block to fill; then it appears as `path`, which is new or an empty folder.

    Nothing appears if the block raises. A symbolic link is written through.
    """
    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{real.name}.", dir=real.parent) as temporary:
        complete = Path(temporary) / real.name
        complete.mkdir()
        yield complete
        os.replace(complete, real)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write files into a folder, each only if it differs; a folder that is new appears whole or not at all.

    Returns the names of those that were written.
    """
    if folder.exists():
        return [name for name, content in files.items() if write_atomically(folder / name, content)]
    with new_folder(folder) as whole:
        for name, content in files.items():
            file = whole / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return list(files)
