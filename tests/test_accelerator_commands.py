"""`nomul accelerator`: what is written, that it fits together, figures, and wrong input."""

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nomul.accelerators.cycles import CycleModel
from nomul.accelerators.memory_map import MemoryMap, digest
from nomul.accelerators.sequencer import Step
from nomul.cli import main
from nomul.commands import accelerator_verilog, generate_rtl
from nomul.commands.accelerator import command
from nomul.commands.generate import RtlOptions
from nomul.errors import InputError, ToolError
from nomul.host.machine_driver import Machine, MachineError
from nomul.jobs.yosys_run import run_yosys
from nomul.machines import Choice
from nomul.model.calibration import calibrate
from nomul.model.generation import generate_integer
from nomul.model.integer import IntegerModel
from nomul.model.store import save_model
from nomul.model.transformer import Transformer
from sim.test_machine import CHARACTERS, SHAPE
from tests.lint import warnings

SMALL = ["--lanes", "4", "--tile", "3", "--set", "tables=4", "--set", "fill_units=2"]
REPORT = ["report", "--shape", "tiny", "--target", "ecp5"]
AXI = ["--memory", "axi", "--ports", "2", "--port-bits", "64", "--ring", "64"]


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


@pytest.fixture
def no_verilog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no Verilog, which takes the longest."""
    monkeypatch.setattr(accelerator_verilog, "AxiMachine", lambda config: None)
    monkeypatch.setattr(accelerator_verilog, "verilog", lambda component, name: "module\n")


def run(*arguments: str) -> dict[str, Any]:
    """Run a subcommand with --json."""
    done = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def refused(*arguments: str) -> str:
    """Return the sentence with which a subcommand is refused."""
    with pytest.raises(InputError) as error:
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    return str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["block", "axi"])
def test_verilog_writes_what_a_host_needs(memory: str, checkpoint: Path, tmp_path: Path) -> None:
    options = ["--checkpoint", str(checkpoint), *SMALL, *(AXI if memory == "axi" else [])]
    result = run("verilog", *options, "-o", str(tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    text = (tmp_path / "machine_axi.v").read_text()
    assert {Path(name).name for name in result["files"]} == {path.name for path in tmp_path.iterdir()}
    assert run("verilog", *options, "-o", str(tmp_path))["written"] == []

    assert warnings(text, "machine_axi", "portable", tmp_path / "lint") == ""

    body = re.search(r"^module machine_axi\b.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    assert body is not None
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body[0], re.MULTILINE)
    assert {name: (direction, int(high or 0) + 1) for direction, high, name in found} == {
        name: (port["direction"], port["width"]) for name, port in manifest["ports"].items()
    }
    offsets = [register["offset"] for register in manifest["registers"]]
    assert sorted(set(offsets)) == offsets
    assert all(register["meaning"] for register in manifest["registers"])

    axi = memory == "axi"
    choice = Choice(
        checkpoint, None, None, "tlmm", ("tables=4", "fill_units=2"),
        {"memory": memory, "lanes": 4, "tile": 3, **({"ports": 2, "port_bits": 64, "ring": 64} if axi else {})},
    )  # fmt: skip
    config, _ = choice.build()
    assert manifest["digest"] == f"{digest(config):016x}"
    if memory == "block":
        for name, size in manifest["memory"]["files"].items():
            lines = (tmp_path / name).read_text().splitlines()
            assert len(lines) == size["depth"] and {len(line) for line in lines} == {-(-size["width"] // 4)}
        script = (
            f'read_verilog -DNOMUL_DATA="{tmp_path}" machine.v\nhierarchy -check -top machine_axi\nwrite_rtlil o.il\n'
        )
        assert "cell $meminit" in run_yosys(script, {"machine.v": text}, ["o.il"]).files["o.il"]
    else:
        stripes = [(tmp_path / f"port{port}.bin").read_bytes() for port in range(2)]
        assert {len(stripe) for stripe in stripes} == {MemoryMap(config).cache * 8}
        assert stripes[0][:8] == digest(config).to_bytes(8, "little")
        regions = manifest["memory"]["regions"].values()
        assert all(region["words"] > 0 for region in regions)
        assert sum(region["words"] for region in regions) * 8 <= manifest["memory"]["bytes_per_port"]


@pytest.mark.usefixtures("no_verilog")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_the_c_header_reaches_registers_by_an_address(checkpoint: Path, tmp_path: Path) -> None:
    """The header's functions over a memory, in which no machine is ready: sim/test_axi_machine.py has one that is."""
    run("verilog", "--checkpoint", str(checkpoint), *SMALL, *AXI, "-o", str(tmp_path))
    (tmp_path / "host.c").write_text(
        """#include "machine.h"
        #include <stdio.h>
        int main(void) {
            volatile uint32_t registers[64] = {0};
            uint32_t bases[NOMUL_PORTS] = {0x1000, 0x2000}, prompt[2] = {5, 7}, token = 0;
            registers[NOMUL_ID / 4] = NOMUL_ID_VALUE;
            registers[NOMUL_VERSION / 4] = NOMUL_VERSION_VALUE;
            registers[NOMUL_DIGEST_LOW / 4] = NOMUL_DIGEST_LOW_VALUE;
            registers[NOMUL_DIGEST_HIGH / 4] = NOMUL_DIGEST_HIGH_VALUE;
            printf("%d ", nomul_is_ours(registers));
            nomul_begin(registers, bases);
            printf("%u %u ", registers[NOMUL_BASE0 / 4], registers[NOMUL_BASE1 / 4]);
            printf("%d ", (nomul_start(registers, prompt, 2, 3, 1) & NOMUL_STATUS_REFUSED) != 0);
            printf("%u %u ", registers[NOMUL_PROMPT / 4], registers[NOMUL_START / 4]);
            registers[NOMUL_RESULT / 4] = NOMUL_RESULT_VALID | NOMUL_RESULT_LAST | 9;
            printf("%d ", nomul_token(registers, &token));
            printf("%u\\n", token);
            return 0;
        }
        """
    )
    program = tmp_path / "host"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", str(program), str(tmp_path / "host.c")], check=True, timeout=60)
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True, timeout=10).stdout
    assert said.split() == ["1", "4096", "8192", "1", "0", "0", "0", "9"]


class Registers(dict[int, int]):
    """Registers that keep what is written, but STATUS, which stays zero."""

    def read(self, offset: int) -> int:
        return self.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset != 0x30:
            self[offset] = value


@pytest.mark.usefixtures("no_verilog")
def test_the_driver_refuses_hardware_that_is_not_the_manifests(checkpoint: Path, tmp_path: Path) -> None:
    run("verilog", "--checkpoint", str(checkpoint), *SMALL, "-o", str(tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    right = Registers({0x00: manifest["id"], 0x04: manifest["version"]})
    right[0x0C], right[0x10] = (int(manifest["digest"], 16) >> shift & 0xFFFFFFFF for shift in (0, 32))
    machine = Machine(right, manifest, sleep=lambda seconds: None)
    for offset in (0x00, 0x04, 0x0C, 0x10):
        wrong = Registers(right)
        wrong[offset] ^= 0x100
        with pytest.raises(MachineError, match=r"the hardware's \w+ is \w+; the manifest's is \w+"):
            Machine(wrong, manifest)
    with pytest.raises(MachineError, match=r"1 base addresses were given; the machine has 0 memory ports"):
        machine.begin([0])
    with pytest.raises(MachineError, match=r"did not get ready in 0\.001 seconds"):
        machine.begin(timeout=0.001)


@pytest.mark.usefixtures("no_verilog")
def test_random_weights_are_written_only_if_asked_for(tmp_path: Path) -> None:
    shape = ["verilog", "--shape", "tiny", "--engine", "tint", "--lanes", "8"]
    result = run(*shape, "-o", str(tmp_path))
    assert not result["model"]["weights"] and not list(tmp_path.glob("*.hex"))
    again = run(*shape, "--random", "3", "-o", str(tmp_path))
    assert again["model"]["random_seed"] == 3 and (tmp_path / "weights.hex").stat().st_size > 1 << 18
    assert again["digest"] == result["digest"]


def test_report_gives_cycles_and_roofline(checkpoint: Path) -> None:
    options = ["--checkpoint", str(checkpoint), *SMALL, *AXI, "--target", "xcup", "--no-synthesis"]
    result = run("report", *options, "--bandwidth", "0.25", "--prompt", "8", "--context", "24")
    decode, moved = result["decode"], result["bytes_per_token"]
    assert set(decode["steps"]) == {step.name for step in Step}
    assert sum(decode["steps"].values()) <= decode["cycles"]
    assert decode["tokens_per_second"] == pytest.approx(250e6 / decode["cycles"], rel=1e-3)
    assert moved["total"] == sum(moved[name] for name in ("weights", "head", "cache", "parameters"))
    assert result["roofline"]["tokens_per_second"] == pytest.approx(0.25e9 / moved["total"], rel=1e-3)
    assert result["roofline"]["share"] == pytest.approx(
        decode["tokens_per_second"] / result["roofline"]["tokens_per_second"], abs=1e-3
    )
    faster = run("report", *options, "--bandwidth", "2.5", "--prompt", "8", "--context", "24")
    assert faster["decode"]["cycles"] < decode["cycles"] and faster["bytes_per_token"] == moved


def test_no_pass_is_faster_than_its_weights(checkpoint: Path) -> None:
    fields = {"memory": "axi", "lanes": 4, "tile": 3, "ports": 2, "port_bits": 64, "ring": 64}
    config, _ = Choice(checkpoint, None, None, "tlmm", ("tables=4", "fill_units=2"), fields).build()
    for rate in (0.1, 0.5, 2.0):
        model = CycleModel(config)
        slow = type(model)(config, type(model.memory)(rate))
        cycles = sum(each.total for each in slow.job(3, 20))
        moved = sum(slow.traffic(1, position, True).total for position in range(3, 22))
        # The first pass's are not counted, nor what the last leaves on the chip.
        assert cycles >= moved / rate * 0.95


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["verilog", "-o", "x"], r"made for --checkpoint FILE or for --shape NAME; neither was given"),
        (["verilog", "--checkpoint", "a", "--shape", "tiny", "-o", "x"], r"--shape NAME; both were given"),
        (["verilog", "--shape", "huge", "-o", "x"], r"no shape is called 'huge'; the shapes are bitnet-0\.73b, tiny"),
        (["verilog", "--checkpoint", "a", "--random", "1", "-o", "x"], r"--random goes with --shape only"),
        (["verilog", "--shape", "tiny", "--ports", "2", "-o", "x"], r"--ports goes with --memory axi only"),
        (["verilog", "--shape", "tiny", "--lanes", "7", "-o", "x"], r"field 'lanes' is 7; allowed: an even number"),
        (["verilog", "--shape", "tiny", "--set", "tabs=3", "-o", "x"], r"tlmm has no field 'tabs'"),
        (["verilog", "--shape", "tiny", "--memory", "axi", "--ring", "4", "-o", "x"], r"field 'ring' is 4; allowed"),
        (["report", "--shape", "tiny", "--target", "xcup", "--pnr"], r"--pnr is not possible for target 'xcup'"),
        ([*REPORT, "--pnr", "--no-synthesis"], r"--pnr needs synthesis"),
        ([*REPORT, "--prompt", "999"], r"--prompt is 999; allowed: 2 to .*, 256"),
        ([*REPORT, "--clock", "0"], r"--clock is 0; allowed: above 0"),
        ([*REPORT, "--bandwidth", "-1"], r"--bandwidth is -1; allowed: above 0"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_with_a_sentence(arguments: list[str], sentence: str) -> None:
    assert re.search(sentence, refused(*arguments))
    assert not Path("x").exists()


def test_a_wrong_choice_from_right_logits_is_seen(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The taps end at the logits; what the machine chooses from them is compared as well."""
    model = IntegerModel.load(checkpoint)
    prompt = torch.tensor([1, 2, 3])
    right = list(generate_integer(model, prompt, 3, 0.0, 0))
    said = [(token, 100 * number) for number, token in enumerate([*right[:2], (right[2] + 1) % SHAPE.vocabulary])]
    monkeypatch.setattr(generate_rtl, "build_machine", lambda config: None)
    monkeypatch.setattr(generate_rtl, "generate", lambda *_: iter(said))
    options = RtlOptions("tlmm", ("tables=4", "fill_units=2"), lanes=4, tile=None, clock=100.0)
    shown = []
    with pytest.raises(ToolError, match=rf"^token 2 is {said[2][0]}; the integer model says {right[2]}$"):
        for token in generate_rtl.generate_rtl(model, prompt, 3, options, {}):
            shown.append(token)
    assert shown == right[:2]


@pytest.mark.bench
def test_generate_prints_what_the_machine_says(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text of the simulated machine reaches stdout, character by character, and is that of the integer model."""
    characters = CHARACTERS
    options = ["generate", "--checkpoint", str(checkpoint), "--prompt", characters[1:4], "--tokens", "5"]
    texts = []
    for backend in (["--backend", "rtl", *SMALL], ["--backend", "integer"]):
        with contextlib.suppress(SystemExit):
            main([*options, *backend])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith(characters[1:4]) and len(texts[0]) == 3 + 5 + 1
