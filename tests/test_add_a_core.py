"""A core of another distribution: the example package, built and installed apart, through every command."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_packaging import ROOT

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "parity_core"
SMALL = ["--set", "lanes_in=4", "--set", "rows=2"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user who has installed the example, entry point and all."""
    folder = tmp_path_factory.mktemp("parity")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=EXAMPLE, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "site"), *filter(None, sys.path)])}


def nomul(environment: dict[str, str], *arguments: str) -> dict:
    command = [sys.executable, "-m", "nomul.cli", *arguments, "--json"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_it_is_listed_with_its_fields(environment: dict[str, str]) -> None:
    listed = nomul(environment, "engines")["engines"]
    assert listed["parity"]["fields"]["lanes_in"]["allowed"] == "1 to 256"


@pytest.mark.parametrize("command", [["verilog"], ["export", "axi-ip"]])
def test_it_is_written(environment: dict[str, str], command: list[str], tmp_path: Path) -> None:
    nomul(environment, *command, "parity", *SMALL, "-o", str(tmp_path))
    (text,) = tmp_path.glob("*.v")
    assert "module parity" in text.read_text()


@pytest.mark.bench
def test_it_is_checked_on_a_layer(environment: dict[str, str]) -> None:
    said = nomul(environment, "check", "parity", *SMALL, "--tokens", "1", "--layer", "model.layers.0.self_attn.k_proj")
    assert (said["engine"], said["mismatches"], said["cycles"]) == ("parity", 0, said["model_cycles"])


@pytest.mark.synth
def test_it_is_reported(environment: dict[str, str]) -> None:
    said = nomul(environment, "report", "parity", *SMALL, "--target", "ice40", "--once")
    assert said["lut"] > 0 and said["macs_per_cycle"] == 8


def test_it_is_searched(environment: dict[str, str]) -> None:
    """Its cost model stands on the points that its own package brings."""
    said = nomul(
        environment, "explore", "--model", "tiny", "--target", "ulx3s-85f", "--engine", "parity", "--synthesise", "0"
    )
    assert said["recommended"]["engine"] == "parity"


@pytest.mark.bench
def test_its_own_benches_pass(environment: dict[str, str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        "/dev/null",
        "--rootdir",
        str(EXAMPLE),
        "-p",
        "no:cacheprovider",
    ]
    command += ["-W", "ignore::pytest.PytestUnknownMarkWarning", str(EXAMPLE / "tests")]
    said = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0 and "6 passed" in said.stdout, said.stdout
