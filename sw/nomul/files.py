"""Files that are read: only those that end, since a pipe or a device may never."""

import os
import stat
from pathlib import Path

from nomul.errors import InputError

__all__ = ["plain_file"]


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
