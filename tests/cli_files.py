"""A folder of files, good and bad, for the fuzzer of the commands."""

import contextlib
import os
from pathlib import Path

import numpy as np

from nomul.model import checkpoints
from tests.tiny_liberty import tiny

HEADER = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
HUGE = b"\x93NUMPY\x01\x00v\x00" + HEADER.ljust(117) + b"\n"
"""An .npy file that promises petabytes and holds none."""

NESTED = "[" * 100_000 + "]" * 100_000

LONG = "x" * 5000
"""A name that no file can have."""

DESIGNS = {
    "core.toml": 'design = "tint"\n[fields]\nlanes_in = 8\nrows = 2\n[report]\nsynthesise = false\n',
    "machine.toml": 'design = "accelerator"\n[weights]\nshape = "tiny"\n',
    "wrong.toml": 'design = "tint"\n[fields]\n"a[/]b" = nan\n',
}
"""Design files."""

NAMES = (
    "missing", "empty", "text", "small.txt", "binary", "pipe", "folder", "full", "zero", "null", "loop", "dangling",
    "a[/]b.safetensors", "cut.safetensors", "huge.npy", "floats.npy", "good.npy", "wrong.npy", "zip.npy", "nested.json",
    "m[/red]", "piped", "noindex", "good.lib", "cut.lib", *DESIGNS, "text/below", "missing/below",
    "folder/below", "", ".", "..",
    "/", "/proc/nosuch", "/dev/full/x", ":smile:", "line\nbreak", "esc\x1b[31m", "bad\udcff", LONG,
)  # fmt: skip
"""What is there, and what is not."""


def fill(folder: Path, checkpoint: bytes) -> None:
    """Make the files; `checkpoint` is a good safetensors file."""
    for name in ("folder", "m[/red]", "a[", "piped", "noindex"):
        (folder / name).mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "text").write_text(checkpoints.sample_text())
    (folder / "small.txt").write_text("a")
    (folder / "binary").write_bytes(bytes(range(256)))
    for name in ("pipe", "piped/model.safetensors", "noindex/model.safetensors.index.json"):
        os.mkfifo(folder / name)
    for name in ("full", "zero", "null"):
        (folder / name).symlink_to(f"/dev/{name}")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "a[/]b.safetensors").write_bytes(checkpoint)
    (folder / "cut.safetensors").write_bytes(checkpoint[:100])
    (folder / "huge.npy").write_bytes(HUGE)
    np.save(folder / "floats.npy", np.zeros((2, 8)))
    np.save(folder / "good.npy", np.zeros((2, 8), dtype=np.int64))
    np.save(folder / "wrong.npy", np.full((2, 3, 4), 1 << 40))
    (folder / "zip.npy").write_bytes(b"PK\x03\x04 no archive")
    (folder / "nested.json").write_text(NESTED)
    (folder / "m[/red]" / "config.json").write_text(NESTED)
    (folder / "m[/red]" / "model.safetensors").write_bytes(checkpoint)
    for name, text in DESIGNS.items():
        (folder / name).write_text(text)
    (folder / "good.lib").write_text(tiny())
    (folder / "cut.lib").write_text(tiny()[:500])
    for name in (":smile:", "line\nbreak", "esc\x1b[31m", "bad\udcff"):
        with contextlib.suppress(OSError):  # a file system may refuse such a name
            (folder / name).write_text("a")


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what is in a folder: kind, size and time of change of everything in it, by its path there."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            said = path.lstat()
            size = 0 if path.is_dir() and not path.is_symlink() else said.st_size
            found[str(path.relative_to(folder))] = (said.st_mode, size, said.st_mtime_ns if size else 0)
    return found
