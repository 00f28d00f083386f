"""What a check that found a difference leaves behind: a folder in which everything of the run can be looked at.

Streams are written as text, a transfer a line in hexadecimal, as `$readmemh` reads it; those that came out and those
that were expected have the same form, so that `diff` compares them.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nomul.sim.runner import Simulator

__all__ = ["DIFFERENCES", "Evidence", "got_file", "write_got", "write_hex"]

DIFFERENCES = 8
"""Differences that a bench lists at most."""


def got_file(output: str) -> str:
    """Return the name of the file with the transfers that came out of a stream."""
    return f"{output}_got.hex"


def write_hex(file: Path, payloads: Iterable[int], width: int) -> None:
    """Write payloads of `width` bits, one a line, in whole bytes."""
    file.write_text("".join(f"{payload:0{2 * -(-width // 8)}x}\n" for payload in payloads))


def write_got(outputs: Mapping[str, tuple[Sequence[int], int]]) -> None:
    """In a bench whose outputs differ: write (payloads, width) of each, unless an earlier case has."""
    for name, (payloads, width) in outputs.items():
        if not Path(got_file(name)).exists():
            write_hex(Path(got_file(name)), payloads, width)


class Evidence:
    """The folder that a check runs in; it is removed when the check has ended, unless `keep` was called.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nomul-check-"))
        self._kept = False

    def __enter__(self) -> "Evidence":
        return self

    def __exit__(self, *error: object) -> None:
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def keep(
        self,
        simulator: Simulator,
        operands: Mapping[str, npt.NDArray[Any]],
        streams: Mapping[str, npt.NDArray[np.uint8]],
        differences: Sequence[Mapping[str, Any]],
    ) -> str:
        """Write the design, the operands (.npy), the streams (.hex) and the differences; return the folder's name."""
        self._kept = True
        shutil.copy(simulator.source, self.folder / "design.v")
        for name, array in operands.items():
            np.save(self.folder / f"{name}.npy", array)
        for name, transfers in streams.items():
            payloads = (int.from_bytes(transfer.tobytes(), "little") for transfer in transfers)
            write_hex(self.folder / f"{name}.hex", payloads, 8 * transfers.shape[1])
        (self.folder / "differences.json").write_text(json.dumps(list(differences), indent=2) + "\n")
        return str(self.folder)
