"""An exported KV260 folder, simulated: its RTL as it was written, run by its own driver on a stand-in for PYNQ."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nomul.commands.export import command
from nomul.host.machine_driver import MachineError
from nomul.host.pynq_machine import PynqMachine
from nomul.model.calibration import calibrate
from nomul.model.generation import generate_integer
from nomul.model.integer import IntegerModel
from nomul.model.store import save_model
from nomul.model.transformer import Transformer
from nomul.sim.runner import Simulator, build
from sim.test_machine import CHARACTERS, SHAPE

pytestmark = [pytest.mark.bench, pytest.mark.xdist_group("kv260 simulated")]

OPTIONS = ["--lanes", "4", "--tile", "3", "--set", "tables=4", "--set", "fill_units=2"]
MEMORIES = {"axi": (2, ["--memory", "axi", "--ports", "2", "--port-bits", "64", "--ring", "64"]), "block": (0, [])}
PROMPT, TOKENS, MORE = [3, 1, 4, 1, 5, 9, 2, 6], 4, [7, 0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, calibrated."""
    torch.set_num_threads(1)
    torch.manual_seed(11)
    model = Transformer(SHAPE).eval()
    positions = calibrate(model, torch.randint(SHAPE.vocabulary, (2, 16)))
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_model(path, model, {"characters": CHARACTERS, "integer": positions.to_dict()})
    return path


@pytest.fixture(scope="module", params=MEMORIES)
def exported(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int, Simulator]:
    """A folder, the ports of its machine, and the simulator of its RTL."""
    ports, options = MEMORIES[request.param]
    folder = tmp_path_factory.mktemp("kv260") / request.param
    arguments = ["kv260", "--checkpoint", str(checkpoint), *OPTIONS, *options, "-o", str(folder)]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    return folder, ports, build((folder / "rtl" / "machine_axi.v").read_text(), "machine_axi", target="xcup")


def test_the_exported_driver_runs_the_exported_machine(
    exported: tuple[Path, int, Simulator], checkpoint: Path, tmp_path: Path
) -> None:
    folder, ports, simulator = exported
    model = IntegerModel.load(checkpoint)

    def expected(prompt: list[int], tokens: int) -> list[int]:
        return list(generate_integer(model, torch.tensor(prompt), tokens, 0.0, 0))

    for file in (folder / "rtl").glob("*.hex"):
        shutil.copy(file, tmp_path)
    case = {"folder": str(folder), "ports": ports, "prompt": PROMPT, "tokens": TOKENS, "more": MORE}
    said = simulator.run("nomul.sim.kv260_bench", {**case, "stall": 0.3}, folder=tmp_path)
    first = expected(PROMPT, 2)
    assert said["loaded"] == ["nomul.bit"] and said["ready"]
    assert said["tokens"] == expected(PROMPT, TOKENS) and said["again"] == first
    assert said["more"] == expected([*PROMPT, *first, *MORE], 2)
    assert said["left"] == first[:1] and said["ready_again"] and said["after_left"] == first
    assert said["freed"] and said["reset"] == 1 and said["paused"] > 10_000
    if ports:
        assert said["beyond"] == "a buffer at 0x7ffff000 is beyond the 2 GiB that the machine reaches"


def test_a_folder_without_weights_or_of_other_hardware_is_refused(
    exported: tuple[Path, int, Simulator], tmp_path: Path
) -> None:
    folder, ports, _ = exported
    there: Any = tmp_path / "board"
    there.mkdir()
    shutil.copy(folder / "manifest.json", there)
    registers = {one["name"]: one["offset"] for one in json.loads((there / "manifest.json").read_text())["registers"]}

    class Board:
        """PYNQ, with other hardware."""

        def Overlay(self, file: str) -> Any:
            return type("Overlay", (), {"ip_dict": {"machine": {"phys_addr": 0, "addr_range": 65536}}})()

        def MMIO(self, address: int, length: int) -> "Board":
            return self

        def read(self, offset: int) -> int:
            return {registers["ID"]: 0x4E4F4D4D, registers["VERSION"]: 2}.get(offset, 5)

    if ports:
        with pytest.raises(MachineError, match=r"^port0.bin is not in the folder; export the machine with weights$"):
            PynqMachine(there, Board())
        for port in range(ports):
            (there / f"port{port}.bin").touch()
    with pytest.raises(MachineError, match=r"^the hardware's digest is 0+500000005; the manifest's is \w{16}$"):
        PynqMachine(there, Board())
