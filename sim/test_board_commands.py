"""`nomul selftest` and `nomul talk` as commands, from the simulated board to the standard output."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nomul.commands.selftest as selftest
from nomul.cli import main
from nomul.errors import ToolError
from nomul.model.calibration import calibrate
from nomul.model.generation import generate_integer
from nomul.model.integer import IntegerModel
from nomul.model.store import save_model
from nomul.model.transformer import Transformer
from sim.test_machine import CHARACTERS, SHAPE

pytestmark = pytest.mark.bench


def nomul(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "nomul.cli", *arguments], input=typed, capture_output=True, text=True, timeout=300
    )


def test_selftest_compares_a_simulated_board_with_pytorch() -> None:
    done = nomul("selftest", "sim", "--vectors", "2", "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("seconds") > 0
    results = said.pop("results")
    assert said == {"port": "sim", "board": "icebreaker", "engine": "tint", "products": 2, "mismatches": 0}
    assert 64 < results <= 128


def test_selftest_sees_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = selftest.engine_words

    def wrong(name, config, weight, activations):
        weight[5, 0] = 1 - weight[5, 0]
        activations[0] = 100
        words, octets = packed(name, config, weight, activations)
        weight[5, 0] = 1 - weight[5, 0]
        return words, octets

    monkeypatch.setattr(selftest, "engine_words", wrong)
    with pytest.raises(ToolError, match=r"^product 0 of 64 x 256: result 5 is -?\d+, and should be -?\d+; 1 of 64 "):
        selftest.command.main(["sim", "--vectors", "1"], standalone_mode=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, calibrated."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = Transformer(SHAPE).eval()
    positions = calibrate(model, torch.randint(SHAPE.vocabulary, (2, 16)))
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_model(path, model, {"characters": CHARACTERS, "integer": positions.to_dict()})
    return path


def test_talk_prints_what_the_integer_model_says(checkpoint: Path) -> None:
    model = IntegerModel.load(checkpoint)

    def expected(prompt: str, count: int) -> str:
        tokens = torch.tensor([CHARACTERS.index(character) for character in prompt])
        return "".join(CHARACTERS[token] for token in generate_integer(model, tokens, count, 0.0, 0))

    common = ["talk", "sim", "--checkpoint", str(checkpoint), "--tokens", "6"]
    done = nomul(*common, "--prompt", "badge", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["text"], said["tokens"]) == (expected("badge", 6), 6)
    assert said["tokens_per_second"] == round(1e6 * said["clock_mhz"] / said["cycles_per_token"])

    done = nomul(*common, typed="cab\nCAB\nmad\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"cab{expected('cab', 6)}\nmad{expected('mad', 6)}\n"
    assert "nomul: " in done.stderr and "'C'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["selftest", "sim", "--vectors", "0"], "--vectors is 0; allowed: 1 to 65535"),
        (["selftest", "sim", "--board", "ulx3s"], "has no demonstration of an engine; it takes a language model"),
        (["talk"], "port is missing; give a serial port such as /dev/ttyUSB0, or sim"),
        (["talk", "sim", "--tokens", "0"], "tokens is 0; allowed: 1 or more"),
        (["talk", "sim", "--json"], "--json wants one prompt: give it with --prompt"),
        (["talk", "sim", "--board", "icebreaker"], "is too small for a language model; give it an engine"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2 and said.out == ""
    assert said.err.startswith("nomul: ") and said.err.count("\n") == 1 and sentence in said.err
