"""`nomul generate`, `eval`, `train`, `trace`: results, and one sentence for each wrong input."""

import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nomul.cli import main
from nomul.errors import InputError
from nomul.formats.checkpoint import open_checkpoint, save_dense
from nomul.model import checkpoints
from nomul.model.activations import trace
from nomul.model.integer import IntegerModel
from nomul.model.store import load_model, save_model
from nomul.model.text import encode
from nomul.model.transformer import Transformer, TransformerConfig

CHARACTERS = open_checkpoint(checkpoints.path()).config["characters"]
SIZES = {"tiny": (1_500_000, 1_000_000), "small": (11_000_000, 3_000_000), "tiny_bwta": (1_500_000, 1_000_000)}


def nomul(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_generate_continues_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = nomul(capsys, "generate", "--prompt", "ROMEO:\n", "--tokens", 12)
    assert code == 0 and out.startswith("ROMEO:\n") and len(out) == 7 + 12 + 1
    assert "characters" in err
    code, out, _ = nomul(capsys, "generate", "--prompt", "ROMEO:\n", "--tokens", 12, "--json")
    result = json.loads(out)
    assert result["tokens"] == 12 == len(result["text"]) and result["tokens_per_second"] > 0


@torch.no_grad()
def test_a_checkpoint_may_be_a_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def text(checkpoint: str) -> str:
        code, out, _ = nomul(capsys, "generate", "--checkpoint", checkpoint, "--prompt", "ROMEO:", "--tokens", 30)
        assert code == 0
        return out

    small, tiny = (text(str(checkpoints.path(name))) for name in ("small", "tiny"))
    assert text("small") == small != tiny
    # A file of that name comes first.
    (tmp_path / "small").write_bytes(checkpoints.path("tiny").read_bytes())
    assert text("small") == tiny


def test_greedy_text_is_what_reading_it_at_once_predicts(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = nomul(capsys, "generate", "--prompt", "Shall I", "--tokens", 20, "--json")
    model = IntegerModel.load(checkpoints.path())
    tokens = encode("Shall I" + json.loads(out)["text"], CHARACTERS)
    predicted = trace(model, tokens[:-1])["token"]
    assert torch.equal(predicted[6:], tokens[7:])
    _, out, _ = nomul(capsys, "generate", "--prompt", "Shall I", "--tokens", 20, "--backend", "float", "--json")
    reference, _ = load_model(checkpoints.path())
    tokens = encode("Shall I" + json.loads(out)["text"], CHARACTERS)
    assert torch.equal(reference(tokens[None, :-1])[0].argmax(-1)[6:], tokens[7:])


@pytest.mark.parametrize("backend", ["float", "integer"])
def test_a_seed_repeats_a_sample(capsys: pytest.CaptureFixture[str], backend: str) -> None:
    common = ("generate", "--prompt", "A", "--tokens", 15, "--temperature", 1, "--backend", backend, "--json")
    texts = [json.loads(nomul(capsys, *common, "--seed", seed)[1])["text"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_eval_reports_both_models(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text(checkpoints.sample_text()[:200])
    code, out, _ = nomul(capsys, "eval", "--text", text, "--part", "all", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["characters"] == 199 and result["ternary_parameters"] == 1_267_200
    assert result["bytes"] == checkpoints.path().stat().st_size
    assert result["nats_per_char_integer"] == pytest.approx(result["nats_per_char_float"], rel=0.02)
    assert 0.9 < result["agreement"] <= 1
    code, out, _ = nomul(
        capsys, "eval", "--text", text, "--part", "all", "--json", "--checkpoint", checkpoints.path("tiny_mixpe")
    )
    result = json.loads(out)
    assert result["nats_per_char_integer"] is None and result["agreement"] is None
    assert result["ternary_parameters"] == 0 and result["nats_per_char_float"] < 1.6
    assert result["nats_per_char_packed"] is None and result["seconds_packed"] is None
    code, out, _ = nomul(
        capsys, "eval", "--text", text, "--part", "all", "--json", "--checkpoint", checkpoints.path("tiny_bwta")
    )
    result = json.loads(out)
    assert result["nats_per_char_packed"] == result["nats_per_char_float"] and result["seconds_packed"] > 0


@pytest.mark.parametrize("kind", ["ternary", "mixpe", "float", "bwta"])
def test_train_writes_a_model_that_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    text, output = tmp_path / "text", tmp_path / "model.safetensors"
    text.write_text(checkpoints.sample_text())
    common = ("--text", text, "--steps", 2, "--batch", 2, "--interval", 1, "--device", "cpu", "-o", output)
    code, out, err = nomul(capsys, "train", "--kind", kind, *common, "--json")
    result = json.loads(out)
    assert code == 0 and result["steps"] == 2 and "step 2" in err
    assert result["nats_per_char_float"] == pytest.approx(result["best_validation_loss"], rel=0.05)
    assert [p.name for p in tmp_path.iterdir() if p != text] == ["model.safetensors"]
    backend = "integer" if kind == "ternary" else "float"
    common = ("generate", "--checkpoint", output, "--backend", backend, "--prompt", "S", "--tokens", 3, "--json")
    assert len(json.loads(nomul(capsys, *common)[1])["text"]) == 3


def test_train_distils_from_a_teacher(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text, output = tmp_path / "text", tmp_path / "model.safetensors"
    text.write_text(checkpoints.sample_text())
    common = ("--text", text, "--steps", 1, "--batch", 1, "--device", "cpu")
    teacher = tmp_path / "teacher.safetensors"
    assert nomul(capsys, "train", "--kind", "float", *common, "-o", teacher)[0] == 0
    assert nomul(capsys, "train", *common, "--teacher", teacher, "-o", output)[0] == 0
    code, _, err = nomul(capsys, "train", *common, "--teacher", checkpoints.path(), "-o", output)
    assert code == 2 and "has other characters than" in err


def test_eval_reads_text_that_no_committed_model_has_seen(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = nomul(capsys, "eval", "--limit", 60, "--json")
    found = json.loads(out)
    assert (code, found["part"], found["characters"], found["text_bytes"]) == (0, "test", 59, 59)
    assert found["nats_per_byte_float"] == found["nats_per_char_float"]
    assert "nats a character over 59; perplexity" in nomul(capsys, "eval", "--limit", 60)[1]


def test_calibrate_chooses_the_positions_of_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save_model(tmp_path / "bare", load_model(checkpoints.path())[0], {"characters": CHARACTERS})
    (tmp_path / "text").write_text(checkpoints.sample_text())
    generate = ("generate", "--prompt", "S", "--tokens", 3, "--checkpoint")
    code, out, err = nomul(capsys, *generate, tmp_path / "bare")
    wanted = f"nomul calibrate {tmp_path / 'bare'} --text FILE -o FILE"
    assert (code, out) == (
        2,
        "",
    ) and err == f"nomul: {tmp_path / 'bare'} has no fixed-point positions; {wanted} chooses them\n"
    words = [str(tmp_path / word.lower()) if word == "FILE" else word for word in wanted.split()[1:]]
    words[words.index("--text") + 1] = str(tmp_path / "text")
    assert nomul(capsys, *words)[0] == 0
    found, trained = IntegerModel.load(tmp_path / "file"), IntegerModel.load(checkpoints.path())
    assert abs(found.positions.residual - trained.positions.residual) <= 1
    for name in ("keys", "values"):
        pairs = zip(getattr(found.positions, name), getattr(trained.positions, name), strict=True)
        assert all(abs(one - other) <= 1 for one, other in pairs)
    assert nomul(capsys, *generate, tmp_path / "file")[1] == nomul(capsys, *generate, "tiny")[1]
    for kind in ("mixpe", "bwta"):
        code, _, err = nomul(capsys, *generate, f"tiny_{kind}")
        assert code == 2 and err.endswith(f" is a {kind} model; only ternary ones run in integers and in machines\n")
        refused = nomul(capsys, "calibrate", f"tiny_{kind}", "--text", tmp_path / "text", "-o", tmp_path / "no")
        assert refused[0] == 2 and not (tmp_path / "no").exists()


def test_trace_writes_every_intermediate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "trace.safetensors"
    code, out, _ = nomul(capsys, "trace", "--tokens", 9, "-o", output, "--json")
    values = safetensors.torch.load_file(output)
    assert code == 0 and json.loads(out)["tensors"] == len(values)
    model = IntegerModel.load(checkpoints.path())
    expected = trace(model, encode(checkpoints.sample_text()[:9], CHARACTERS))
    assert set(values) == {*expected, "input"}
    assert all(torch.equal(values[name].long(), value) for name, value in expected.items())
    assert values["layers.4.mlp.hidden"].shape == (9, 400)


@pytest.mark.parametrize("name", SIZES)
def test_committed_models_keep_to_their_sizes(name: str) -> None:
    model, _ = load_model(checkpoints.path(name))
    weights, size = SIZES[name]
    assert model.config.linear_parameters <= weights
    assert checkpoints.path(name).stat().st_size <= size
    assert sum(n_out * n_in for n_out, n_in in open_checkpoint(checkpoints.path(name)).shapes.values()) == (
        model.config.linear_parameters
    )


WRONG = {
    "empty prompt": (("generate", "--prompt", ""), r"the prompt is empty; it must have at least one token"),
    "unknown character": (
        ("generate", "--prompt", "a#b"),
        r"the character '#' at position 1 is not one of the model's 65: ",
    ),
    "long context": (
        ("generate", "--prompt", "abc", "--tokens", 255),
        r"a prompt of 3 tokens and 255 tokens do not fit the model's context of 256; at most 254 tokens can follow",
    ),
    "long prompt": (("generate", "--prompt", "a" * 300), r"at most 256 fit"),
    "no tokens": (("generate", "--prompt", "a", "--tokens", 0), r"tokens is 0; it must be 1 or more"),
    "temperature": (
        ("generate", "--prompt", "a", "--temperature", -1),
        r"temperature is -1\.0; it must be from 0 \(greedy\) to 100",
    ),
    "no checkpoint": (("generate", "--prompt", "a", "--checkpoint", "/no/model"), r"/no/model does not exist"),
    "no text": (("eval", "--text", "/no/text"), r"file not found: /no/text"),
    "no integer form": (
        ("generate", "--prompt", "a", "--checkpoint", checkpoints.path("tiny_mixpe")),
        r"tiny_mixpe\.safetensors is a mixpe model; only ternary ones run in integers and in machines",
    ),
    "nowhere to write": (
        ("train", "--text", checkpoints.path().parent / "sonnet18.txt", "-o", "/no/dir/model"),
        r"/no/dir/model cannot be written: it must be a file in a directory that exists",
    ),
    "trace too long": (("trace", "-o", "/tmp/x", "--tokens", 300), r"tokens is 300; .* allows 1 to 256"),
}


@pytest.mark.parametrize("arguments,message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    code, out, err = nomul(capsys, *arguments)
    assert code == 2 and out == ""
    assert re.search(rf"^nomul: .*{message}", err)
    assert err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = checkpoints.path().parent / "sonnet18.txt"
    code, _, err = nomul(capsys, "train", "--text", text, "--device", "cuda", "-o", tmp_path / "x")
    assert code == 2 and "device is 'cuda', but PyTorch finds no GPU" in err


def rewritten(tmp_path: Path, change: dict[str, object], drop: str = "", layers: slice = slice(None)) -> Path:
    checkpoint = open_checkpoint(checkpoints.path())
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name != drop}
    path = tmp_path / "model.safetensors"
    save_dense(path, [checkpoint.layer(n) for n in checkpoint.layers[layers]], tensors, checkpoint.config | change)
    return path


@pytest.mark.parametrize(
    "change,message",
    [
        ({"characters": "abc"}, r"vocab_size is 65, but 'characters' names 3"),
        (
            {"linear": "fp8"},
            r"linear is 'fp8', which is not supported; it must be one of ternary, float, bwta, mixpe, int4",
        ),
        ({"hidden_act": "gelu"}, r"the hidden_act 'gelu' is not supported; supported are"),
        ({"hidden_size": 128}, r"layer model\.layers\.0\.self_attn\.q_proj is \[160, 160\], but its config needs"),
        ({"num_hidden_layers": 6}, r"the tensor model\.layers\.5\.\S+ is missing, although other layers have SubLN"),
        ({"num_hidden_layers": 4}, r"has the layer model\.layers\.4\.\S+, which the config does not"),
        ({"num_key_value_heads": 2}, r"num_attention_heads is 5, which is no multiple of num_key_value_heads 2"),
    ],
)
def test_a_mismatched_checkpoint_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(rewritten(tmp_path, change))


def test_missing_and_damaged_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no tensor model\.norm\.weight, which its config needs$"):
        load_model(rewritten(tmp_path, {}, drop="model.norm.weight"))
    path = tmp_path / "cut.safetensors"
    path.write_bytes(checkpoints.path().read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"cut\.safetensors is truncated or no safetensors file"):
        load_model(path)
    model = Transformer(TransformerConfig(2, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, ffn=8))
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    save_model(tmp_path / "nan.safetensors", model)
    with pytest.raises(InputError, match=r"model\.norm\.weight holds a value that is not finite$"):
        load_model(tmp_path / "nan.safetensors")


@pytest.mark.parametrize("name", checkpoints.NAMES)
def test_a_model_survives_being_written_again(tmp_path: Path, name: str) -> None:
    model, config = load_model(checkpoints.path(name))
    extra = {key: config[key] for key in ("characters", "integer") if key in config}
    save_model(tmp_path / "again.safetensors", model, extra)
    again, first = open_checkpoint(tmp_path / "again.safetensors"), open_checkpoint(checkpoints.path(name))
    assert again.config == first.config and again.shapes == first.shapes and list(again.tensors) == list(first.tensors)
    assert all(torch.equal(again.tensors[key], first.tensors[key]) for key in first.tensors)
    for key in first.shapes:
        assert torch.equal(again.layer(key).weight, first.layer(key).weight)
        assert again.layer(key).scale == first.layer(key).scale


def test_an_unknown_committed_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"^there is no committed model 'big'; there are tiny, small, tiny_bwta"):
        checkpoints.path("big")
