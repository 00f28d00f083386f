"""`nomul export kv260`: the folder, its script in a Tcl interpreter with a model of Vivado, its RTL in Yosys."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nomul.cli import main
from nomul.commands import accelerator_verilog
from nomul.commands.accelerator import command as accelerator
from nomul.commands.export import command as export
from nomul.jobs.yosys_run import run_yosys
from nomul.model.calibration import calibrate
from nomul.model.store import save_model
from nomul.model.transformer import Transformer
from sim.test_machine import CHARACTERS, SHAPE

tkinter = pytest.importorskip("tkinter", reason="the script needs Python's tkinter, for its Tcl interpreter")
from tests.vivado import Refused, Vivado  # noqa: E402

pytestmark = pytest.mark.xdist_group("kv260")

SMALL = ["--lanes", "4", "--tile", "3", "--set", "tables=4", "--set", "fill_units=2"]
KINDS = {
    "block": (0, SMALL),
    "axi": (4, [*SMALL, "--memory", "axi", "--port-bits", "64", "--ring", "64", "--clock-mhz", "200"]),
}
"""Ports of each machine, and its options."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, calibrated."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = Transformer(SHAPE).eval()
    positions = calibrate(model, torch.randint(SHAPE.vocabulary, (2, 16)))
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_model(path, model, {"characters": CHARACTERS, "integer": positions.to_dict()})
    return path


def run(group: Any, *arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(group, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def folders(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind."""
    made = {}
    for kind, (_, options) in KINDS.items():
        made[kind] = tmp_path_factory.mktemp("kv260") / kind
        run(export, "kv260", "--checkpoint", str(checkpoint), *options, "-o", str(made[kind]))
    return made


@pytest.fixture
def folder(request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of one of them, to run its script in."""
    return Path(shutil.copytree(folders[request.param], tmp_path / "machine"))


@pytest.mark.slow
def test_the_folder_holds_the_same_machine_as_accelerator_verilog(
    folders: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--checkpoint", str(checkpoint), *KINDS["axi"][1][:-2], "--ports", "4"]
    run(accelerator, "verilog", *options, "--target", "xcup", "-o", str(tmp_path))
    for file in ("machine_axi.v", "port0.bin", "port1.bin", "registers.md", "machine.h", "machine_driver.py"):
        place = folders["axi"] / ("rtl" if file.endswith(".v") else "") / file
        both = [path.read_bytes() for path in (place, tmp_path / file)]
        if file.endswith(".v"):  # the head of each has its own command
            both = [text[text.index(b"// Configuration: ") :] for text in both]
        assert both[0] == both[1], file
    ours, theirs = (json.loads((place / "manifest.json").read_text()) for place in (folders["axi"], tmp_path))
    assert ours.pop("kv260") == {"bitstream": "nomul.bit", "cell": "machine", "clock_mhz": 200.0}
    assert ours == theirs
    assert {file.name for file in folders["block"].rglob("*.hex")} == {
        f"{name}.hex" for name in ("weights", "embedding", "gains", "constants")
    }


@pytest.mark.slow
@pytest.mark.parametrize("folder", KINDS, indirect=True)
def test_the_script_builds_a_sound_design(folder: Path, request: pytest.FixtureRequest) -> None:
    ports, _ = KINDS[request.node.callspec.params["folder"]]
    vivado = Vivado()
    vivado.source(folder / "build.tcl")
    assert vivado.problems() == [] and vivado.widths() == {}
    assert vivado.project["board_part"] == "xilinx.com:kv260_som:part0:1.4"
    for name in ("nomul.bit", "nomul.hwh", "nomul.xsa"):
        assert (folder / name).exists()
    assert vivado.cells["ps"].config["PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"] == ("200" if ports else "250")
    assert vivado.mapped == {
        ("/ps/Data", "/machine/s_axi/reg0"): (0xA0000000, 65536),
        **{(f"/machine/m_axi{port}", f"/ps/SAXIGP{port + 2}/HP{port}_DDR_LOW"): (0, 1 << 31) for port in range(ports)},
    }
    assert ("/machine/irq", "/ps/pl_ps_irq0") in vivado.nets
    memories = {Path(file).name for file, kind in vivado.files.items() if kind == "Memory Initialization Files"}
    assert memories == {file.name for file in (folder / "rtl").glob("*.hex")}
    assert vivado.files[str(folder / "kv260.xdc")] == "XDC"


@pytest.mark.parametrize("folder", ["axi"], indirect=True)
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("GP1 0", "GP1 1", "nothing drives /ps/maxihpm1_fpd_aclk; /ps/M_AXI_HPM1_FPD is open"),
        ("connect_bd_net [get_bd_pins machine/irq]", "# ", "nothing drives /ps/pl_ps_irq0"),
        ("machine/m_axi$port ps", "machine/m_axi0 ps", "is connected"),
        ("[get_bd_pins machine/irq]", "[get_bd_pins machine/interrupt]", "no pin machine/interrupt"),
        ("peripheral_aresetn", "slowest_sync_clk", "does not drive"),
        ("ps/pl_clk0", "reset/mb_reset", "is no clock for"),
        ("memory$port/aclk", "", "nothing drives /memory0/aclk"),
        ("0xA0000000", "0x80000000", "is outside of what M_AXI_HPM0_FPD reaches"),
        ("{DDR_HIGH QSPI LPS_OCM}", "{QSPI LPS_OCM}", "HP0_DDR_HIGH has no address"),
        ("__DATA_WIDTH $port_bits", "__DATA_WIDTH 256", "has no PSU__SAXIGP2__DATA_WIDTH 256"),
        ("_DDR_LOW\n", "_DDR\n", "no segment"),
        ("validate_bd_design\n", "", "validate_bd_design comes first"),
        ("save_bd_design\n", "save_the_design\n", 'invalid command name "save_the_design"'),
        ("rtl *.v", "rtl *.sv", "no files matched"),
    ],
)
def test_the_model_refuses_a_script_that_is_wrong(folder: Path, old: str, new: str, said: str) -> None:
    script = folder / "build.tcl"
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new))
    with pytest.raises((Refused, tkinter.TclError)) as refused:
        Vivado().source(script)
    assert said in str(refused.value)
    assert not (folder / "nomul.bit").exists()


@pytest.mark.parametrize("folder", ["axi"], indirect=True)
def test_a_width_that_is_not_the_ports_is_noticed(folder: Path) -> None:
    settings = folder / "settings.tcl"
    settings.write_text(settings.read_text().replace("set port_bits 64", "set port_bits 128"))
    # SmartConnect would convert it, at half the memory's speed: the model says nothing, the settings must be right.
    vivado = Vivado()
    vivado.source(folder / "build.tcl")
    assert vivado.widths() == {f"/machine/m_axi{port}": (64, 128) for port in range(4)}


@pytest.mark.parametrize("folder", ["block"], indirect=True)
@pytest.mark.parametrize(
    ("vivado", "said"),
    [
        ({"slack": -0.25}, "the design misses its clock of 250 MHz by 0.25 ns; timing.txt has the paths"),
        ({"boards": ()}, "this Vivado has no board files of kv260_som; install them in its board store"),
    ],
)
def test_the_script_leaves_no_bitstream_that_cannot_work(folder: Path, vivado: dict[str, Any], said: str) -> None:
    with pytest.raises(tkinter.TclError, match=re.escape(said)):
        Vivado(**vivado).source(folder / "build.tcl")
    assert not list(folder.glob("nomul.*"))


@pytest.mark.synth
@pytest.mark.parametrize("kind", ["block", "axi"])
def test_yosys_reads_the_rtl_for_ultrascale(kind: str, folders: dict[str, Path]) -> None:
    rtl = folders[kind] / "rtl"
    inputs = {file.name: file.read_text() for file in rtl.iterdir()}
    script = (
        "read_verilog -lib -specify +/xilinx/cells_sim.v\nread_verilog -defer machine_axi.v\n"
        "hierarchy -check -top machine_axi\nproc\ncheck -assert\ntee -o stat.txt stat\n"
    )
    said = run_yosys(script, inputs, ["stat.txt"]).files["stat.txt"]
    # Forms of UltraScale+ arithmetic, not of another target.
    assert "LUT6" in said or "CARRY8" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shape", "tiny"], r"a machine of memory block has its weights in the bitstream; give it some with .*"),
        (["--shape", "bitnet-0.73b", "--random", "1"], r"the weights of bitnet-0.73b take \d+.\d Mbit, and .* 5.3; .*"),
        (["--shape", "tiny", "--memory", "axi", "--ports", "5"], r"--ports is 5; a KV260 has 4 HP ports"),
        (
            ["--shape", "tiny", "--memory", "axi", "--port-bits", "256"],
            r"--port-bits is 256; an HP port of a KV260 has 32, 64 or 128",
        ),
        (
            ["--shape", "tiny", "--memory", "axi", "--clock-mhz", "500"],
            r"--clock-mhz is 500; allowed on a KV260: 10 to 333",
        ),
        (["--shape", "tiny", "--ports", "2"], r"--ports goes with --memory axi only; the memory is block"),
        (["--shape", "huge"], r"no shape is called 'huge'; the shapes are .*"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["export", "kv260", *arguments, "-o", str(tmp_path / "folder")])
    assert stopped.value.code == 2
    assert re.fullmatch(f"nomul: {sentence}\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator_verilog, "AxiMachine", lambda config: None)
    monkeypatch.setattr(accelerator_verilog, "verilog", lambda component, name: "module\n")
    arguments = ["export", "kv260", "--checkpoint", str(checkpoint), *SMALL, "--json", "-o", str(tmp_path / "folder")]
    real, count = Path.write_bytes, 0

    def full(self: Path, data: bytes) -> int:
        nonlocal count
        count += 1
        if count > 5:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, data)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(Path, "write_bytes", full)
        main(arguments)
    assert stopped.value.code == 2 and count > 5
    assert not list(tmp_path.iterdir())

    group, *rest = arguments[1:]
    first, again = (run(export, group, *rest) for _ in range(2))
    assert set(first["files"]) == {str(file) for file in tmp_path.rglob("*") if file.is_file()}
    assert len(first["written"]) == len(first["files"]) and again["written"] == []
