"""What lies beside a model or is no model of ours: kept, or said by its name; never passed over."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nomul.formats.checkpoint import open_checkpoint, save_dense
from nomul.formats.ternary import TernaryLayer
from nomul.model import checkpoints
from nomul.model.store import save_model
from nomul.model.transformer import Transformer, TransformerConfig
from tests import gguf_files as make
from tests.layouts import gptq_tensors, hf_bytes, quantised
from tests.test_formats_huggingface import CONFIG, packed_tensors, refused, run, write

LAYER = TernaryLayer("a", torch.ones((4, 5), dtype=torch.int8), 0.5)


def commands(path, output):
    """Commands that open what others have made."""
    return (
        ("import", path), ("import", path, "-o", output), ("convert", path, output),
        ("check", "tint", "--checkpoint", path), ("check", "mixpe", "--checkpoint", path),
        ("generate", "--prompt", "a", "--checkpoint", path),
    )  # fmt: skip


def test_gguf_of_another_architecture_is_called_by_its_name(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    file = make.write(tmp_path / "model" / "a.gguf", {"token_embd.weight": np.ones((8, 256), np.float32)}, "mamba")
    for path in (file, file.parent):
        for arguments in commands(path, tmp_path / "out"):
            assert refused(capsys, *arguments).startswith(
                f"nomul: {file}: general.architecture is 'mamba', which Nomul do"
            )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_pickles_are_called_by_their_name(tmp_path, capsys):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    said = refused(capsys, "import", tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin is a PyTorch (zip) file, which Nomul does not read; it reads the safetensors" in said


@pytest.mark.parametrize("method", ["fp8", "hqq", "torchao", "bitsandbytes", "compressed-tensors"])
def test_other_methods_are_called_by_their_name(tmp_path, capsys, method):
    tensors = {f"model.layers.0.mlp.{name}_proj.weight": torch.ones((4, 8)) for name in ("up", "gate")}
    config = {**CONFIG, "quantization_config": {"quant_method": method, "format": "float-quantized"}}
    model = write(tmp_path / "model", tensors, config)
    said = (
        f"nomul: {model}: quant_method is '{method}' in the format 'float-quantized', which Nomul does not read; it r"
    )
    for arguments in commands(model, tmp_path / "out"):
        assert refused(capsys, *arguments).startswith(said)


def test_the_tokenizer_goes_along_and_the_rest_is_said(tmp_path, capsys):
    model = write(tmp_path / "model", packed_tensors())
    kept = {"tokenizer.json": b"{}", "generation_config.json": b'{"eos_token_id": 5}', "merges.txt": b""}
    for name, content in kept.items():
        (model / name).write_bytes(content)
    (model / "README.md").touch()
    (model / "modeling.py").touch()
    dense, again, back = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "back"))
    for arguments in (("import", model, "-o", dense), ("convert", model, again)):
        code, out, _ = run(capsys, *arguments, "--json")
        notes = json.loads(out)["notes"]
        assert code == 0 and "generation_config.json, merges.txt, tokenizer.json: kept as they are" in notes
        assert "in the same folder and not read: README.md, modeling.py" in notes
    code, out, _ = run(capsys, "import", model, "--json")
    assert "merges.txt: not used" in json.loads(out)["notes"]
    for file in (dense, again):
        checkpoint = open_checkpoint(file)
        assert {name: bytes(value.numpy()) for name, value in checkpoint.files.items()} == kept
        assert not [name for name in checkpoint.tensors if name.startswith("files/")]
    assert json.loads(run(capsys, "import", dense, "--json")[1])["parameters"] == json.loads(out)["parameters"]
    run(capsys, "convert", dense, back)
    assert {name: (back / name).read_bytes() for name in kept} == kept


def test_a_file_in_a_dense_file_is_one_that_is_known(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    save_dense(path, [LAYER], {"files/../../evil": torch.zeros(3, dtype=torch.uint8)}, {})
    assert "the tensor files/../../evil is no file that Nomul knows" in refused(capsys, "convert", path, tmp_path / "y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.safetensors"]


def test_unknown_metadata_is_said(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    tensors = {"a.weight": hf_bytes(LAYER.weight), "a.weight_scale": torch.ones(1)}
    save_file(tensors, path, {"format": "pt", "prism.hadamard.block": "128"})
    said = "the metadata of the file says prism.hadamard.block = '128', which Nomul does not know and does not use"
    assert said in json.loads(run(capsys, "import", path, "--json")[1])["notes"]
    assert said in json.loads(run(capsys, "convert", path, tmp_path / "dense.safetensors", "--json")[1])["notes"]
    model = write(tmp_path / "model", packed_tensors(), shards=2)
    index = model / "model.safetensors.index.json"
    described = {"total_size": 5, "rotation": "hadamard"}
    index.write_text(json.dumps({**json.loads(index.read_text()), "metadata": described}))
    notes = json.loads(run(capsys, "import", model, "--json")[1])["notes"]
    assert [note for note in notes if "metadata" in note] == [
        "the metadata of the file says index.rotation = 'hadamard', which Nomul does not know and does not use"
    ]


def test_files_without_ternary_layers(tmp_path, capsys):
    """A dense file whose `layers` is {} is a float model's, or one in groups; no command falls over it."""
    path, output = tmp_path / "float.safetensors", tmp_path / "out"
    model = Transformer(TransformerConfig(3, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, ffn=8, linear="float"))
    save_model(path, model, {"characters": "abc"})
    empty = tmp_path / "empty.safetensors"
    save_dense(empty, [], {}, {})
    for file in (path, empty, checkpoints.path("tiny_mixpe")):
        assert refused(capsys, "check", "tint", "--checkpoint", file).startswith(
            f"nomul: {file} has no ternary layers, so"
        )
        said = refused(capsys, "check", "tint", "--checkpoint", file, "--layer", "a")
        assert said.endswith("has no layer 'a'; it has no such layers at all")
        assert refused(capsys, "convert", file, output).endswith(
            "has no ternary layers, so that there is nothing to convert"
        )
        code, out, _ = run(capsys, "import", file, "--json")
        assert (code, json.loads(out)["layers"], json.loads(out)["runs"]["layer"]) == (0, [], None)
    assert json.loads(run(capsys, "import", path, "--json")[1])["runs"]["model"].startswith(
        "nomul generate --checkpoint"
    )
    assert not output.exists()


def test_other_arithmetic_does_not_become_bitnet(tmp_path, capsys):
    said = refused(capsys, "convert", checkpoints.path("tiny_bwta"), tmp_path / "out")
    assert said == "nomul: linear is 'bwta'; the Hugging Face layout is for ternary projections only"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", checkpoints.NAMES)
def test_the_command_that_import_names_runs(capsys, name):
    runs = json.loads(run(capsys, "import", checkpoints.path(name), "--json")[1])["runs"]
    command = runs["model"].replace("TEXT", "ROMEO").split()
    assert command[0] == "nomul" and runs["why_not"] is None
    code, out, _ = run(capsys, *command[1:], "--tokens", 2)
    assert code == 0 and out.startswith("ROMEO") and len(out) == len("ROMEO") + 3


def test_other_settings_are_not_run(tmp_path, capsys):
    source = open_checkpoint(checkpoints.path("tiny"))
    changed = tmp_path / "scaled.safetensors"
    save_dense(changed, source.read_layers(), source.tensors, {**source.config, "residual_multiplier": 0.5})
    runs = json.loads(run(capsys, "import", changed, "--json")[1])["runs"]
    said = "the setting residual_multiplier is 0.5, which is not supported; supported is 1"
    assert runs["model"] is None and runs["why_not"] == f"{changed}: {said}"
    assert refused(capsys, "generate", "--checkpoint", changed, "--prompt", "a") == f"nomul: {changed}: {said}"


def scaled_file(folder, smallest):
    """Write a GPTQ layer of 8 outputs and two groups, of which output 3 has a scale that much smaller in the second."""
    _, codes, zeros, scales = quantised(8, 32, 16)
    scales[:] = 0.5
    scales[3, 1] = 0.5 * smallest
    folder.mkdir()
    save_file(gptq_tensors("up", codes, zeros, scales, 16), folder / "model.safetensors")
    config = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 16}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.bench
def test_small_group_scales_are_kept_or_said(tmp_path, capsys):
    sizes = {"lanes_in": 8, "rows": 4, "n_in_max": 32, "n_out_max": 8}
    small = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
    small += ["--sim", "icarus" if shutil.which("iverilog") else "verilator"]

    def check(folder, *settings):
        code, out, err = run(
            capsys, "check", "mixpe", "--checkpoint", folder, "--tokens", 1, "--json", *small, *settings
        )
        figures = json.loads(out)
        assert (code, figures["mismatches"], figures["group_scales"]) == (0, 0, 16)
        return figures["scale_bits"], figures["scales_lost"], err

    folder = scaled_file(tmp_path / "wide", 1 / 2000)
    notes = json.loads(run(capsys, "import", folder, "--json")[1])["notes"]
    assert any("in up these are 1 of 16, and it needs scale_bits=10, which nomul check" in note for note in notes)
    bits, lost, err = check(folder)
    assert (bits, lost) == (10, 0) and "group scales are 0" not in err
    bits, lost, err = check(folder, "--set", "scale_bits=8")
    assert (bits, lost) == (8, 1) and "1 of 16 group scales are 0 in 8 bits, so far below" in err
