"""Runs Yosys scripts in a process of their own, and believes only the files that they write."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomul.errors import ToolError

LAUNCHER = "from pyosys import libyosys; libyosys.Design().run_pass('script script.ys')"
MEND = "install it with `pip install -c constraints.txt pyosys`, and see `nomul doctor`"


@dataclass(frozen=True)
class YosysRun:
    """What a script left behind: its `log`, and the text of each output file by name."""

    log: str
    files: dict[str, str]


def run_yosys(
    script: str, inputs: Mapping[str, str], outputs: Sequence[str], *, timeout: float | None = None
) -> YosysRun:
    """Run `script` with Yosys (pyosys, a native library) in a temporary folder.

    Parameters
    ----------
    script
        Yosys commands, one a line. File names are relative to the temporary folder.
    inputs
        Files to write there before, by name.
    outputs
        Files that the script writes. Each must exist and hold something afterwards: Yosys has been seen to stop in ABC
        without a message and with exit code 0, so the exit code alone proves nothing.
    timeout
        Seconds after which the run is given up.

    Raises
    ------
    ToolError
        If Yosys is missing, reports an error, runs out of time or leaves an output out. The message carries Yosys' own
        error line.

    """
    with tempfile.TemporaryDirectory(prefix="nomul-yosys-") as name:
        folder = Path(name)
        for path, text in inputs.items():
            (folder / path).write_text(text)
        (folder / "script.ys").write_text(script)
        try:
            done = subprocess.run(
                [sys.executable, "-c", LAUNCHER],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"Yosys did not finish within {timeout:g} seconds") from None
        if "No module named 'pyosys'" in done.stdout:
            raise ToolError(f"Yosys (the Python package pyosys) is missing: {MEND}")
        error = _error(done.stdout)
        if error:
            raise ToolError(f"Yosys stopped: {error}")
        if done.returncode != 0:
            raise ToolError(f"Yosys ended with exit code {done.returncode} and no message: {MEND}")
        files = {}
        for path in outputs:
            written = folder / path
            if not written.exists() or not written.stat().st_size:
                raise ToolError(f"Yosys ended without an error but left no {path}: {MEND}")
            files[path] = written.read_text()
        return YosysRun(done.stdout, files)


def _error(log: str) -> str:
    """Return the error of a log, or nothing; an error of the pass `check` is said in the words of its first warning."""
    message = warning = ""
    for line in log.splitlines():
        if re.match(r"[\d.]+ Executing ", line):
            warning = ""
        elif line.startswith("Warning: ") and not warning:
            warning = line.removeprefix("Warning: ").rstrip(":")
        elif found := re.match(r"(?:\S+:\d+: )?ERROR: ?(.*)", line):
            message = re.sub("ERROR: ?", "", found[0], count=1).strip()
            break
    return warning.replace("\\", "") if "'check" in message and warning else message
