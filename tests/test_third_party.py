"""Ternary models by other people's software: their layers, and round trips through every writer, in transformers."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from nomul.cli import main
from nomul.errors import InputError
from nomul.formats.architecture import Architecture
from nomul.formats.checkpoint import open_checkpoint
from nomul.formats.companions import KEPT
from nomul.formats.huggingface import read_config
from nomul.formats.inspection import survey
from nomul.formats.int4_checkpoint import open_int4
from tests import third_party as make

FALCON = {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1000042.0}, "rms_norm_eps": 1e-5}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
MODELS = {
    "bitnet-bf16": lambda folder: make.masters(folder, "bitnet", tie_word_embeddings=True),
    "bitnet-fp16-theta": lambda folder: make.masters(
        folder, "bitnet", torch.float16, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}
    ),
    "bitnet-fp32-silu": lambda folder: make.masters(folder, "bitnet", torch.float32, hidden_act="silu"),
    "bitnet-packed": lambda folder: make.packed(make.masters(folder, "bitnet"), make.MULTIPLY),
    "bitnet-packed-fp16": lambda folder: make.packed(make.masters(folder, "bitnet"), make.MULTIPLY, torch.float16),
    "bitnet-packed-fp32": lambda folder: make.packed(make.masters(folder, "bitnet"), make.MULTIPLY, torch.float32),
    "bitnet-divide": lambda folder: make.packed(make.masters(folder, "bitnet"), make.DIVIDE),
    "bitnet-unsaid": lambda folder: make.packed(make.masters(folder, "bitnet"), make.UNSAID),
    "bitnet-trits": lambda folder: make.trits(make.packed(make.masters(folder, "bitnet"), make.MULTIPLY)),
    "llama-masters": lambda folder: make.masters(folder, "llama"),
    "llama-packed": lambda folder: make.packed(make.masters(folder, "llama", **FALCON), make.UNSAID),
    "llama-trits": lambda folder: make.trits(make.packed(make.masters(folder, "llama"), make.MULTIPLY)),
    "llama-rope": lambda folder: make.packed(make.masters(folder, "llama", rope_parameters=LLAMA3), make.UNSAID),
}
EXPECTED = {}
"""What transformers computes of each model, by its name."""


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    """A folder with a model."""
    torch.set_num_threads(1)
    folder = MODELS[request.param](tmp_path_factory.mktemp("models") / request.param)
    EXPECTED[folder.name] = make.logits(make.load(folder))
    return folder


def nomul(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0


def assert_equal(one, other):
    """Compare two models as transformers runs them."""
    (left, left_tokens), (right, right_tokens) = EXPECTED[one.name], make.logits(make.load(other))
    assert (left - right).abs().max() <= 1e-3 * left.abs().max()
    assert left_tokens == right_tokens
    for name in KEPT:
        assert (one / name).is_file() == (other / name).is_file()
        assert not (one / name).is_file() or (one / name).read_bytes() == (other / name).read_bytes()
    left, right = (json.loads((folder / "config.json").read_text()) for folder in (one, other))
    assert left["model_type"] == right["model_type"]
    assert [left[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [3, 5, 7]
    assert {key: right[key] for key in left if key != "quantization_config"} == {
        key: left[key] for key in left if key != "quantization_config"
    }


def test_layers_are_those_that_transformers_multiplies_by(model):
    found = make.dequantised(make.load(model))
    checkpoint = open_checkpoint(model)
    assert len(found) == 14 and checkpoint.shapes.keys() == found.keys()
    for name, weight in found.items():
        layer = checkpoint.layer(name)
        assert torch.equal(layer.weight.float(), weight.sign())
        torch.testing.assert_close(layer.weight * layer.scale, weight, rtol=1e-6, atol=0)


def test_convert_there_and_back_is_the_same_model(model, tmp_path):
    dense, back = tmp_path / "dense.safetensors", tmp_path / "back"
    assert (nomul("convert", model, dense), nomul("convert", dense, back)) == (0, 0)
    assert_equal(model, back)


def test_import_and_back_is_the_same_model(model, tmp_path, capsys):
    dense, back = tmp_path / "dense.safetensors", tmp_path / "back"
    assert nomul("import", model, "-o", dense, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    bare = model.name.startswith("llama")
    assert said["sub_norms"] is not bare and not said["unsupported"]
    assert said["runs"]["model"] == f"nomul generate --checkpoint {dense} --prompt TEXT --backend float"
    kept = "generation_config.json, tokenizer.json, tokenizer_config.json: kept as they are"
    assert kept in said["notes"]
    assert survey(dense).unsupported == survey(model).unsupported
    assert nomul("convert", dense, back) == 0
    assert_equal(model, back)


def test_a_llama_with_sub_norms_is_transformers_bitnet(tmp_path):
    """As 1bitLLM publishes: other names of SubLN, a model_type that is not its own, tables of frequencies."""
    source = make.masters(tmp_path / "source", "bitnet", hidden_act="silu", quantization=make.ONLINE)
    theirs = make.edit(make.masters(tmp_path / "theirs", "bitnet", hidden_act="silu"), quantization_config=None)
    renamed = {
        name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm"): value
        for name, value in load_file(theirs / "model.safetensors").items()
    }
    renamed["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(renamed, theirs / "model.safetensors", {"format": "pt"})
    rope = {"rope_parameters": None, "rope_scaling": None, "rope_theta": 500000.0}
    named = {"model_type": "llama", "architectures": ["BitnetForCausalLM"], "weight_bits": 1, "input_bits": 8}
    make.edit(theirs, **rope, **named)
    dense = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert (nomul("import", theirs, "-o", dense[0]), nomul("convert", theirs, dense[1])) == (0, 0)
    expected, tokens = make.logits(make.load(source))
    for file in dense:
        assert nomul("convert", file, tmp_path / file.stem) == 0
        found, same = make.logits(make.load(tmp_path / file.stem))
        assert same == tokens and (found - expected).abs().max() <= 1e-3 * expected.abs().max()


@pytest.mark.parametrize("kind", ["bitnet", "llama"])
@pytest.mark.parametrize("dropped", ["rope_theta", "rms_norm_eps", "hidden_act", "num_key_value_heads", "head_dim"])
def test_absent_settings_are_those_of_transformers(kind, dropped):
    """A config that lacks a key means what transformers' configuration class gives it."""
    sizes = {**make.SIZES, "num_attention_heads": 10, "hidden_size": 160}
    given = {"rope_theta": 7.0, "rms_norm_eps": 0.5, "hidden_act": "silu", "num_key_value_heads": 2, "head_dim": 32}
    config = {"model_type": kind, **sizes, **given}
    del config[dropped]
    theirs = make.transformers.AutoConfig.for_model(**dict(config))
    ours = Architecture.from_config(config)
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or 16)
    for name in ("rms_norm_eps", "hidden_act", "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings"):
        assert getattr(ours, name) == getattr(theirs, name), name


def other_config(name, **fields):
    """Return what transformers saves as the configuration of another kind of model."""
    config = make.transformers.AutoConfig.for_model(name, **{**make.SIZES, **fields}).to_dict()
    return {**config, "quantization_config": make.UNSAID}


@pytest.mark.parametrize(
    ("name", "fields", "sentences"),
    [
        (
            "granite",
            {"embedding_multiplier": 12.0, "logits_scaling": 8.0},
            [
                "The model_type 'granite' is not supported; supported are 'bitnet', 'llama', 'qwen2', 'qwen3'.",
                "The setting embedding_multiplier is 12.0, which is not supported; supported is 1.",
                "The setting logits_scaling is 8.0, which is not supported; supported is 1.",
            ],
        ),
        (
            "smollm3",
            {"no_rope_layers": [1, 0]},
            [
                "The model_type 'smollm3' is not supported; supported are 'bitnet', 'llama', 'qwen2', 'qwen3'.",
                "Layers without rotary embedding are not supported: no_rope_layers is [1, 0].",
            ],
        ),
        (
            "qwen2",
            {"sliding_window": 8, "use_sliding_window": True},
            ["A sliding_window of 8"],
        ),
        (
            "gemma2",
            {"head_dim": 16},
            ["The model_type 'gemma2' is not supported; supported are 'bitnet', 'llama', 'qwen2', 'qwen3'."],
        ),
        ("llama", {"alibi": True}, ["The setting alibi is True, and Nomul does not know what it changes."]),
    ],
)
def test_a_config_that_changes_the_arithmetic_is_refused_by_name(tmp_path, name, fields, sentences):
    folder = make.packed(make.masters(tmp_path / "model", "llama"), make.UNSAID)
    (folder / "config.json").write_text(json.dumps(other_config(name, **fields), default=str))
    found = survey(folder)
    for sentence in sentences:
        assert any(said.startswith(sentence) for said in found.unknown), found.unknown
    assert nomul("import", folder, "-o", tmp_path / "dense.safetensors") == 2
    assert not (tmp_path / "dense.safetensors").exists()


@pytest.mark.parametrize("kind", ["bitnet", "llama"])
def test_nothing_that_transformers_writes_of_a_plain_model_is_unknown(tmp_path, kind):
    folder = make.packed(make.masters(tmp_path / "model", kind), make.MULTIPLY)
    every = make.transformers.AutoConfig.from_pretrained(folder).to_dict()
    (folder / "config.json").write_text(json.dumps(every, default=str))
    assert len(every) > 20 and survey(folder).unknown == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"quantization_config": {**make.MULTIPLY, "quantization_mode": "online"}},
            "quantization_mode is 'online', wh",
        ),
        (
            {"quantization_config": {**make.MULTIPLY, "quantization_mode": "x"}},
            "quantization_config.quantization_mode",
        ),
    ],
)
def test_a_mode_that_contradicts_the_weights(tmp_path, change, message):
    folder = make.packed(make.masters(tmp_path / "model", "llama"), make.MULTIPLY)
    with pytest.raises(InputError, match=f"^{re.escape(f'{folder}: {message}')}"):
        open_checkpoint(make.edit(folder, **change))


def test_masters_that_transformers_would_not_ternarise(tmp_path):
    folder = make.masters(tmp_path / "model", "llama", quantization=make.MULTIPLY)
    with pytest.raises(InputError, match=r"quantization_mode is 'offline', so that the float weights are no masters"):
        open_checkpoint(folder)
    make.edit(folder, quantization_config={**make.ONLINE, "modules_to_not_convert": ["lm_head", "up_proj"]})
    with pytest.raises(InputError, match=r"modules_to_not_convert has 'up_proj', so that model.layers.0.mlp.up_pro"):
        open_checkpoint(folder)


def test_a_weight_that_is_no_trit(tmp_path):
    folder = make.trits(make.packed(make.masters(tmp_path / "model", "llama"), make.MULTIPLY))
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj"
    tensors[f"{name}.weight"][3, 5] = 0.5
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"layer {name}: the weight at \[3, 5\] is 0\.5, but beside a weight_scale"):
        open_checkpoint(folder).layer(name)
    assert read_config(folder)["model_type"] == "llama"


@pytest.mark.parametrize(
    "settings", [{}, {"symmetric": False}, {"strategy": "channel"}, {"symmetric": False, "actorder": "weight"}], ids=str
)
def test_compressed_tensors_is_read_as_its_library_reads_it(tmp_path, capsys, settings):
    meant = make.compressed(tmp_path / "model", **settings)
    checkpoint = open_int4(tmp_path / "model")
    assert (checkpoint.kind, len(meant)) == ("compressed-tensors", 14) and checkpoint.shapes.keys() == meant.keys()
    for name, weight in meant.items():
        assert torch.equal(checkpoint.layer(name).dequantise(), weight), name
    assert nomul("import", tmp_path / "model", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "compressed-tensors" and said["runs"]["layer"].startswith("nomul check mixpe")
    assert said["unsupported"] == []


def test_compressed_tensors_of_other_kinds_are_refused_by_name(tmp_path):
    make.compressed(tmp_path / "model", bits=8)
    with pytest.raises(InputError, match=r"config_groups\.group_0\.weights\.num_bits is 8; supported: 4$"):
        open_int4(tmp_path / "model")
    make.compressed(tmp_path / "other")
    folder = tmp_path / "other"
    settings = read_config(folder)["quantization_config"]
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    save_file({**tensors, f"{name}.weight_g_idx": torch.arange(64).flip(0) // 32}, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"layer {name}: weight_g_idx reorders the inputs \(actorder\), which is not"):
        open_int4(folder).layer(name)
    for change, message in (
        (
            {"format": "nvfp4-pack-quantized"},
            "the format of compressed-tensors is 'nvfp4-pack-quantized'; supported is ",
        ),
        (
            {"transform_config": {"R1": {}}},
            "quantization_config.transform_config is {'R1': {}}, which is not supported",
        ),
        ({"kv_cache_scheme": {"num_bits": 8}}, "quantization_config.kv_cache_scheme is {'num_bits': 8}, which is not"),
        (
            {"config_groups": {"a": {"input_activations": {}}}},
            "the setting quantization_config.config_groups.a.input_act",
        ),
        ({"config_groups": {"a": 5}}, "quantization_config.config_groups.a is 5, but a JSON object is needed"),
        ({"rotated": 1}, "the setting quantization_config.rotated is 1, and Nomul does not know what it changes"),
    ):
        make.edit(folder, quantization_config={**settings, **change})
        with pytest.raises(InputError, match=f"^{re.escape(f'{folder}: {message}')}"):
            open_int4(folder)
    tensors[f"{name}.weight_shape"] = torch.tensor([96, 60])
    save_file(tensors, folder / "model.safetensors")
    make.edit(folder, quantization_config=settings)
    assert open_int4(folder).shapes[name] == (96, 60)
    tensors[f"{name}.weight_shape"] = torch.tensor([96, 128])
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        InputError, match=rf"layer {name}: weight_packed is I32 \[96, 8\] and weight_shape \[96, 128\], b"
    ):
        open_int4(folder)
