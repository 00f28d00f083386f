"""Every command, with and without --json: it ends well, and says something either way. What takes long is played."""

import dataclasses
import gc
import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from amaranth._unused import MustUse

import nomul.commands.selftest as selftest
from nomul.catalog import configure
from nomul.cli import main
from nomul.formats.checkpoint import save_dense
from nomul.formats.ternary import TernaryLayer
from nomul.fpga.bitstream import Bitstream, RoutedRun
from nomul.fpga.doctor_checks import Trial
from nomul.fpga.hierarchy import Parts
from nomul.fpga.yosys import Synthesis
from nomul.host.serial import Info
from nomul.jobs.pool import JobOutcome
from nomul.jobs.tools import TOOLS
from nomul.model import checkpoints
from nomul.sim.evidence import Evidence
from tests.cli_cases import COMMANDS

MARKUP = "a[/]b"
"""A name that rich would take for markup."""

LAYER = "in[/]put/layer.safetensors"
"""A checkpoint with a layer of that name."""

DESIGN = "in[/]put/design.toml"
"""A design file, of a core whose outputs are wrong."""

SMALL = ["--set", "lanes_in=8", "--set", "rows=2"]
MACHINE = ["--shape", "tiny", "--lanes", "4", "--tile", "2"]

CALLS: dict[str, list[list[str]]] = {
    "accelerator report": [
        [*MACHINE, "--target", "ecp5", "--no-synthesis"],
        [*MACHINE, "--target", "xcup", "--memory", "axi"],
    ],
    "accelerator verilog": [[*MACHINE, "-o", MARKUP]],
    "bitstream": [["icebreaker", "-o", f"{MARKUP}.bin"], ["ulx3s"]],
    "build": [[DESIGN, "-o", MARKUP], ["--init", "tint"], ["--init", "accelerator", "-o", f"{MARKUP}.toml"]],
    "calibrate": [[str(checkpoints.path()), "--text", "text", "-o", f"{MARKUP}.safetensors"]],
    "check": [
        ["tlmm", "--set", "tables=4", "--set", "fill_units=2"],
        ["tint", "--checkpoint", LAYER, *SMALL],
        ["mixpe", "--tokens", "1", *SMALL],
        ["boothflex", "--mode", "int8", *SMALL],
        ["absmax"],
    ],
    "convert": [[LAYER, MARKUP]],
    "doctor": [[]],
    "engines": [[], ["--schema"], ["--schema", "accelerator"]],
    "eval": [["--text", "text"]],
    "explore": [["--model", "tiny", "--target", "iCEBreaker", "--bandwidth", "1", "--synthesise", "0"]],
    "export axi-ip": [["tint", *SMALL, "-o", MARKUP], ["machine", *MACHINE, "-o", MARKUP]],
    "export kv260": [[*MACHINE, "--memory", "axi", "-o", MARKUP]],
    "generate": [["--prompt", "A", "--tokens", "2"]],
    "import": [[LAYER], [str(checkpoints.path()), "-o", f"{MARKUP}.safetensors"]],
    "pack": [["tint", *SMALL, "--tokens", "1", "-o", MARKUP], ["absmax", "--tokens", "1", "-o", MARKUP]],
    "report": [
        ["tint", "--target", "ice40", *SMALL, "--layer", "8x8"],
        ["absmax", "--target", "ice40", "--set", "length_max=8"],
        ["tint", "--all", "--size", "small", "--target", "ice40", "-o", MARKUP],
    ],
    "selftest": [["/dev/nosuch", "--vectors", "1"]],
    "talk": [["/dev/nosuch", "--prompt", "A", "--tokens", "3"]],
    "trace": [["--tokens", "2", "-o", f"{MARKUP}.safetensors"]],
    "train": [["--text", "text", "--steps", "1", "--batch", "1", "--device", "cpu", "-o", f"{MARKUP}.safetensors"]],
    "verilog": [["tint", *SMALL, "-o", MARKUP]],
}
"""Arguments of each command."""

MADE = Synthesis("ice40", "tint", {}, 100, 10, 50, 5, 0, 1.0, 0, 1.0, "a tool")
RIGHT = {
    "outputs": 9,
    "mismatches": 0,
    "surplus": 0,
    "first_mismatch": None,
    "differences": [],
    "cycles": 9,
    "seconds": 0,
}
FIRST = dict.fromkeys(("job", "token", "row", "tile", "vector", "index", "transfer", "expected"), 0)
FIRST |= {"output": "results", "got": None}
WRONG = RIGHT | {"mismatches": 1, "first_mismatch": FIRST, "differences": [FIRST]}
"""What a bench says of a run."""


class PlayedEvidence(Evidence):
    """Keeps nothing, under a name that looks like markup."""

    def keep(self, *arguments: Any) -> str:
        return MARKUP


class PlayedBoard:
    """A board that says the same token again and again, and whose products are right."""

    kind = 1

    def __init__(self, *arguments: Any) -> None:
        self.board = self

    def info(self) -> Info:
        return Info(self.kind, 256, 65, 7)

    def load(self, weight: torch.Tensor) -> None:
        self.weight = weight

    def run(self, activations: torch.Tensor, n_in: int, n_out: int) -> list[int]:
        return list((self.weight.long() @ activations.long()).tolist())

    def generate(self, prompt: list[int], tokens: int, vocabulary: int) -> Iterator[int]:
        yield from [20] * tokens


class PlayedEngine(PlayedBoard):
    """A board with an engine."""

    kind = selftest.KIND


def played_work(*arguments: Any, **named: Any) -> SimpleNamespace:
    return SimpleNamespace(close=lambda: None)


@pytest.fixture(scope="module")
def played() -> Iterator[None]:
    """Stand in for simulators, synthesis and boards."""
    config = configure("tint", ["lanes_in=8", "rows=2"])
    run = RoutedRun(1, "clk", 30.0, 25.0, None, {}, 1.0)
    trials = [Trial(tool, None, works, "it [/] fails", 0.1) for tool, works in zip(TOOLS, (True, False), strict=False)]
    trials = [dataclasses.replace(each, tool=dataclasses.replace(each.tool, required=False)) for each in trials]
    stand_ins = {
        "nomul.sim.check.build_core": played_work,
        "nomul.sim.check.bench_core": lambda *arguments, **named: [WRONG],
        "nomul.sim.check.Evidence": PlayedEvidence,
        "nomul.commands.accelerator_report.synthesise_machine": lambda *arguments: Parts({MARKUP: MADE}, MADE),
        "nomul.commands.accelerator_verilog.verilog": lambda *arguments: "module\n",
        "nomul.commands.bitstream.board_design": lambda *arguments: None,
        "nomul.commands.bitstream.make_bitstream": lambda *arguments, **named: Bitstream(b"", MADE, run, (run,), None),
        "nomul.commands.doctor.run_trials": lambda finished: trials,
        "nomul.commands.report.convert": lambda *arguments: "",
        "nomul.report.figures.synthesise": lambda *arguments, **named: MADE,
        "nomul.commands.report_all.run_jobs": lambda jobs, **named: [
            JobOutcome(job, None, "it [/] fails") for job in jobs
        ],
        "nomul.commands.selftest.Line": played_work,
        "nomul.commands.selftest.EngineBoard": PlayedEngine,
        "nomul.commands.selftest.engine_design": lambda *arguments: SimpleNamespace(
            name="tint", config=config, number=7, depth=8192
        ),
        "nomul.commands.selftest.engine_words": lambda name, config, weight, activations: (weight, activations),
        "nomul.commands.verilog.verilog": lambda *arguments: "module\n",
        "nomul.commands.talk.Line": played_work,
        "nomul.commands.talk.BoardLink": PlayedBoard,
        "nomul.commands.talk.model_number": lambda path: 7,
    }
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for place, stand_in in stand_ins.items():
            module, _, name = place.rpartition(".")
            patch.setattr(importlib.import_module(module), name, stand_in)
        # Gateware is made here and never elaborated.
        patch.setattr(MustUse, "_MustUse__silence", True)
        yield
        gc.collect()


@pytest.mark.usefixtures("played")
def test_typed_prompts_end_with_a_line_whatever_ends_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("AB\r\nC\n", newline=""))
    with pytest.raises(SystemExit):
        main(["talk", "/dev/nosuch", "--tokens", "1"])
    said = capsys.readouterr()
    assert [line[:-1] for line in said.out.splitlines()] == ["AB", "C"] and "nomul: " not in said.err


def test_every_command_has_a_call() -> None:
    assert {" ".join(words) for words, _ in COMMANDS} == set(CALLS)


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("words,arguments", [(name, call) for name, calls in CALLS.items() for call in calls])
def test_a_command_speaks_to_people_and_to_programs(
    words: str,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = []
    for more in ([], ["--json"]):
        (work := tmp_path / f"work{len(more)}").mkdir()
        monkeypatch.chdir(work)
        Path("text").write_text(checkpoints.sample_text())
        Path(MARKUP).parent.mkdir()
        save_dense(Path(LAYER), [TernaryLayer(MARKUP, torch.eye(8, dtype=torch.int8), 0.5)], {}, {})
        Path(DESIGN).write_text('design = "tint"\ntarget = "ice40"\n[fields]\nlanes_in = 8\nrows = 2\n')
        with pytest.raises(SystemExit) as ended:
            main([*words.split(), *arguments, *more])
        codes.append(ended.value.code or 0)
        said = capsys.readouterr()
        assert "nomul: " not in said.err, said.err
        assert said.out.strip()
        if more:
            assert isinstance(json.loads(said.out), dict)
    assert codes == ([1, 1] if words == "check" or DESIGN in arguments else [0, 0])
