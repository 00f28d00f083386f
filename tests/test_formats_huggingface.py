"""`nomul import` and `nomul convert` on small models written here in the published layouts."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nomul.cli import main
from nomul.formats.architecture import Architecture
from nomul.formats.checkpoint import open_checkpoint, save_dense
from nomul.formats.inspection import survey
from nomul.formats.ternary import TernaryLayer
from tests.layouts import hf_bytes, quantised, words

# Grouped-query attention, a head_dim that is not hidden / heads, and 16 x 40, no power of two.
CONFIG = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "vocab_size": 11,
    "max_position_embeddings": 64,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-05,
    "hidden_act": "relu2",
    "tie_word_embeddings": True,
    "quantization_config": {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
    },
}
SHAPES = {
    "self_attn.q_proj": (24, 16),
    "self_attn.k_proj": (12, 16),
    "self_attn.v_proj": (12, 16),
    "self_attn.o_proj": (16, 24),
    "mlp.gate_proj": (40, 16),
    "mlp.up_proj": (40, 16),
    "mlp.down_proj": (16, 40),
}
TERNARY = 2 * sum(n_out * n_in for n_out, n_in in SHAPES.values())
OTHERS = 11 * 16 + 16 + 2 * (16 + 16 + 24 + 40)


def masters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"model.layers.{i}.{name}": (torch.randn(shape, generator=generator) * 0.02).bfloat16()
        for i in range(2)
        for name, shape in SHAPES.items()
    }


def norms(sub_norms=("self_attn.attn_sub_norm", "mlp.ffn_sub_norm")):
    tensors = {"model.embed_tokens.weight": torch.randn(11, 16).bfloat16(), "model.norm.weight": torch.ones(16)}
    for i in range(2):
        widths = {"input_layernorm": 16, "post_attention_layernorm": 16, **dict(zip(sub_norms, (24, 40), strict=False))}
        for name, width in widths.items():
            tensors[f"model.layers.{i}.{name}.weight"] = torch.full((width,), 2.0).bfloat16()
    return tensors


def ternarised(master):
    values = master.double().numpy()
    mean = np.abs(values).mean()
    return np.clip(np.rint(values / mean), -1, 1).astype(np.int64), mean


def packed_tensors(divide=False):
    tensors = norms()
    for name, master in masters().items():
        weight, mean = ternarised(master)
        tensors[f"{name}.weight"] = hf_bytes(weight)
        tensors[f"{name}.weight_scale"] = torch.tensor([1 / mean if divide else mean], dtype=torch.bfloat16)
    return tensors


def write(path, tensors, config=CONFIG, shards=1):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, path / "model.safetensors")
        return path
    weight_map = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == shard}, path / shard)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def run(capsys, *arguments):
    """Run the command; return its exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def refused(capsys, *arguments):
    """Run a command that must end with exit code 2 and one sentence on stderr; return the sentence."""
    code, out, err = run(capsys, *arguments)
    sentences = [line for line in err.splitlines() if line.startswith("nomul: ")]
    assert (code, out, len(sentences)) == (2, "", 1), (code, out, err)
    assert "Traceback" not in err
    return sentences[0]


def changed(**fields):
    return {key: value for key, value in {**CONFIG, **fields}.items() if value != "absent"}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("linear_class", ["autobitlinear", "bitlinear"])
def test_import_of_a_packed_model(tmp_path, capsys, shards, linear_class):
    config = changed(quantization_config={"quant_method": "bitnet", "linear_class": linear_class})
    model = write(tmp_path / "model", packed_tensors(linear_class == "bitlinear"), config, shards)
    output = tmp_path / "model.safetensors"
    code, out, _ = run(capsys, "import", model, "-o", output, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["kind"] == "bitnet"
    assert found["architecture"] == {key: CONFIG[key] for key in found["architecture"]}
    assert len(found["architecture"]) == 12
    assert found["sub_norms"] is True
    assert found["layers"] == [
        {"name": f"model.layers.{i}.{name}", "n_out": SHAPES[name][0], "n_in": SHAPES[name][1]}
        for i in range(2)
        for name in sorted(SHAPES)
    ]
    assert found["parameters"] == TERNARY + OTHERS
    assert found["ternary_parameters"] == TERNARY
    assert found["bytes"] == sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert found["unsupported"] == []
    assert found["output"] == str(output)

    dense = open_checkpoint(output)
    assert Architecture.from_config(dense.config) == Architecture.from_config(CONFIG)
    assert (dense.config["activations"], dense.config["grids"]) == ("int8", False)
    for name, master in masters().items():
        weight, mean = ternarised(master)
        layer = dense.layer(name)
        assert layer.weight.tolist() == weight.tolist()
        assert layer.scale == pytest.approx(mean, rel=2**-8)
    assert set(dense.tensors) == set(norms())
    assert survey(output).architecture == Architecture.from_config(CONFIG)


def test_import_of_master_weights(tmp_path, capsys):
    tensors = norms(("self_attn.inner_attn_ln", "mlp.ffn_layernorm"))
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors |= {f"{name}.weight": master for name, master in masters().items()}
    config = changed(
        architectures=["BitnetForCausalLM"],
        model_type="llama",
        hidden_act="silu",
        weight_bits=1,
        input_bits=8,
        quantization_config="absent",
    )
    output = tmp_path / "dense.safetensors"
    code, out, _ = run(capsys, "import", write(tmp_path / "model", tensors, config), "-o", output, "--json")
    found = json.loads(out)
    assert (code, found["kind"], found["sub_norms"], found["unsupported"]) == (0, "bitnet-master", True, [])
    assert found["notes"] == [
        "the weights are float master weights, ternarised by absmean as the model does at run time"
    ]
    dense = open_checkpoint(output)
    for name, master in masters().items():
        weight, mean = ternarised(master)
        assert dense.layer(name).weight.tolist() == weight.tolist()
        assert dense.layer(name).scale == pytest.approx(mean, rel=1e-6)
    # SubLN has the names of transformers, and what a tied model does not need is left out.
    assert set(dense.tensors) == set(norms())


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_import_of_int4_models(tmp_path, capsys, method):
    config = changed(
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        hidden_act="silu",
        head_dim=8,
        tie_word_embeddings=False,
        quantization_config={"quant_method": method, "bits": 4, "group_size": 8},
    )
    shapes = {**SHAPES, "self_attn.q_proj": (32, 16), "self_attn.o_proj": (16, 32)}
    shapes |= {"self_attn.k_proj": (16, 16), "self_attn.v_proj": (16, 16)}
    tensors = norms(())
    tensors["lm_head.weight"] = torch.ones((11, 16))
    for i in range(2):
        for name, (n_out, n_in) in shapes.items():
            _, _, _, scales = quantised(n_out, n_in, 8)
            packed = (n_in // 8, n_out) if method == "gptq" else (n_in, n_out // 8)
            layer = f"model.layers.{i}.{name}"
            tensors[f"{layer}.qweight"] = words(np.zeros(packed))
            tensors[f"{layer}.qzeros"] = words(np.zeros((n_in // 8, n_out // 8)))
            tensors[f"{layer}.scales"] = torch.from_numpy(scales.T.copy())
    model = write(tmp_path / "model", tensors, config)
    code, out, _ = run(capsys, "import", model, "--json")
    found = json.loads(out)
    assert (code, found["kind"], found["sub_norms"]) == (0, method, False)
    assert found["unsupported"] == []
    layer = "model.layers.0.mlp.down_proj"
    assert found["runs"]["layer"] == f"nomul check mixpe --checkpoint {model} --layer {layer}"
    assert found["runs"]["model"] is None and "there is no tokenizer.json" in found["runs"]["why_not"]
    parameters = 2 * sum(n_out * n_in for n_out, n_in in shapes.values())
    assert (found["int4_parameters"], found["ternary_parameters"]) == (parameters, 0)
    assert found["parameters"] == parameters + 2 * 11 * 16 + 16 + 4 * 16
    assert found["layers"][0] == {"name": "model.layers.0.mlp.down_proj", "n_out": 16, "n_in": 40}
    pattern = rf"^nomul: \S+ is {method.upper()}, group-wise INT4; -o writes ternary models only$"
    assert re.match(pattern, refused(capsys, "import", model, "-o", tmp_path / "x.safetensors"))


def test_import_without_json_prints_what_was_found(tmp_path, capsys):
    model = write(tmp_path / "model", packed_tensors(), changed(hidden_act="gelu"))
    code, out, _ = run(capsys, "import", model)
    assert code == 0
    assert "BitNet, packed ternary weights" in out
    assert re.search(r"num_key_value_heads\W+2\b", out)
    assert re.search(r"q_proj\W+24\W+16\W+2\b", out)
    assert f"ternary {TERNARY:,}" in out
    assert "Note: the scale multiplies: config.json says linear_class autobitlinear." in out
    assert "Not supported: The hidden_act 'gelu' is not supported; supported are 'relu2' and 'silu'." in out


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hidden_act": "gelu"}, "The hidden_act 'gelu' is not supported; supported are 'relu2' and 'silu'."),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "Rotary embedding of the type 'llama3' needs a number as original_max_position_embeddings, not None.",
        ),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "Rotary embedding of the type 'yarn' needs a number as factor, not None.",
        ),
        ({"partial_rotary_factor": 0.5}, "A partial_rotary_factor of 0.5 is not supported; supported is 1."),
        (
            {"sliding_window": 32},
            "A sliding_window of 32 positions is not supported; attention is over the whole context.",
        ),
        ({"num_local_experts": 8}, "A mixture of 8 experts (num_local_experts) is not supported."),
        ({"final_logit_softcapping": 30.0}, "Soft capping (final_logit_softcapping) is not supported."),
        ({"input_bits": 4}, "Activations of 4 bits (input_bits) are not supported; supported are 8."),
        (
            {"quantization_config": {**CONFIG["quantization_config"], "use_rms_norm": True}},
            "An RMSNorm inside each projection (use_rms_norm) is not supported.",
        ),
    ],
)
def test_each_unsupported_setting_has_its_sentence(tmp_path, capsys, fields, sentence):
    model = write(tmp_path / "model", packed_tensors(), changed(**fields))
    assert survey(model).unsupported == (sentence,)
    output = tmp_path / "x.safetensors"
    message = refused(capsys, "import", model, "-o", output)
    assert message == f"nomul: {model} cannot be imported: {sentence}"
    assert not output.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": None, "sliding_window": None, "partial_rotary_factor": 1.0},
        {"sliding_window": 64},
        {"sliding_window": 8, "use_sliding_window": False},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}, "rope_theta": "absent"},
    ],
)
def test_settings_that_change_nothing_are_supported(tmp_path, fields):
    found = survey(write(tmp_path / "model", packed_tensors(), changed(**fields)))
    assert found.unsupported == ()
    assert found.architecture.rope_theta == 500000.0


def test_unsupported_tensors_have_their_sentences(tmp_path):
    tensors = packed_tensors()
    tensors["model.layers.0.self_attn.g_norm.weight"] = torch.ones(6)
    tensors["model.layers.1.self_attn.o_norm.bias"] = torch.ones(6)
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.ones((40, 16))
    del tensors["model.layers.0.mlp.up_proj.weight_scale"]
    assert survey(write(tmp_path / "model", tensors)).unsupported == (
        "Tensors without a known place are not supported: model.layers.0.self_attn.g_norm.weight and 1 more.",
        "Projections that are not quantised are not supported: model.layers.0.mlp.up_proj.",
    )


def test_a_float_model_is_told_from_a_ternary_one(tmp_path):
    tensors = norms(()) | {f"{name}.weight": master for name, master in masters().items()}
    config = changed(architectures=["MistralForCausalLM"], model_type="mistral", quantization_config="absent")
    found = survey(write(tmp_path / "model", tensors, config))
    assert found.kind == "float"
    assert found.ternary_parameters == 0
    assert (
        found.unsupported[0]
        == "The model_type 'mistral' is not supported; supported are 'bitnet', 'llama', 'qwen2', 'qwen3'."
    )
    assert found.unsupported[-1] == "The weights are float, and nothing says that they were trained to be ternary."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"intermediate_size": "absent"}, "config.json has no intermediate_size, which is needed"),
        ({"hidden_size": 0}, "config.json: hidden_size is 0, but it must be 1 or more"),
        ({"hidden_size": "16"}, "config.json: hidden_size is '16', but a value of type int is needed"),
        ({"num_hidden_layers": True}, "config.json: num_hidden_layers is True, but a value of type int is needed"),
        (
            {"num_key_value_heads": 3},
            "config.json: num_attention_heads is 4, which is no multiple of num_key_value_hea",
        ),
        ({"head_dim": 5}, "config.json: head_dim is 5, but rotary embedding needs an even number"),
        ({"head_dim": None, "num_attention_heads": 3}, "config.json: hidden_size 16 is no multiple of num_attention_h"),
        ({"rope_theta": -1.0}, "config.json: rope_theta is -1.0, but it must be finite and greater than 0"),
        (
            {"vocab_size": 12},
            "the tensor model.embed_tokens.weight has the shape [11, 16], but config.json needs [12, 16]",
        ),
        ({"num_hidden_layers": 3}, "the tensor model.layers.2.input_layernorm.weight is missing; config.json needs it"),
        ({"tie_word_embeddings": False}, "the tensor lm_head.weight is missing; config.json needs it with the shape"),
        (
            {"intermediate_size": 44},
            "layer model.layers.0.mlp.down_proj has packed weights of [4, 40], but [16, 44] of",
        ),
        (
            {"quantization_config": {"linear_class": "x"}},
            "quantization_config.linear_class is 'x'; allowed are 'autobitlinear' and 'bitlinear'",
        ),
    ],
)
def test_configs_that_contradict_themselves_or_the_tensors(tmp_path, capsys, fields, message):
    model = write(tmp_path / "model", packed_tensors(), changed(**fields))
    for arguments in (["import", model], ["import", model, "-o", tmp_path / "x.safetensors"]):
        assert re.match(rf"^nomul: {re.escape(str(model))}: {re.escape(message)}", refused(capsys, *arguments))
    assert not (tmp_path / "x.safetensors").exists()


def test_sub_norms_in_some_layers_only(tmp_path, capsys):
    tensors = packed_tensors()
    del tensors["model.layers.1.mlp.ffn_sub_norm.weight"]
    message = refused(capsys, "import", write(tmp_path / "model", tensors))
    assert message.endswith("model.layers.1.mlp.ffn_sub_norm.weight is missing, although other layers have SubLN")


def test_missing_master_weights(tmp_path, capsys):
    tensors = norms() | {f"{name}.weight": master for name, master in masters().items()}
    del tensors["model.layers.1.mlp.up_proj.weight"]
    message = refused(capsys, "import", write(tmp_path / "model", tensors))
    assert "layer model.layers.1.mlp.up_proj is missing: config.json needs a tensor" in message
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.ones((40, 15))
    message = refused(capsys, "import", write(tmp_path / "model", tensors))
    assert "up_proj.weight is F32 [40, 15], but BF16 or F16 or F32 [40, 16] is needed" in message


def test_import_decodes_every_weight_and_leaves_nothing_behind(tmp_path, capsys):
    tensors = packed_tensors()
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = 0x0C
    model = write(tmp_path / "model", tensors)
    for arguments in (["import", model], ["import", model, "-o", tmp_path / "x.safetensors", "--json"]):
        message = refused(capsys, *arguments)
        assert "layer model.layers.1.mlp.up_proj: byte 0x0c at [3, 5] has the 2-bit code 3 in bits 3:2" in message
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_convert_there_and_back(tmp_path, capsys):
    source = write(tmp_path / "source", packed_tensors())
    dense, back, again = tmp_path / "dense.safetensors", tmp_path / "back", tmp_path / "again.safetensors"
    code, out, _ = run(capsys, "convert", source, dense, "--json")
    result = json.loads(out)
    assert (code, result["source_kind"], result["destination_kind"], result["layers"]) == (
        0,
        "bitnet",
        "nomul-dense",
        14,
    )
    assert (result["ternary_parameters"], result["bytes"]) == (TERNARY, dense.stat().st_size)
    code, out, _ = run(capsys, "convert", dense, back)
    assert code == 0
    assert "Wrote 14 layers" in out
    # The Hugging Face files are equal tensor by tensor, and so are the configs; the dense files byte by byte.
    first, second = load_file(source / "model.safetensors"), load_file(back / "model.safetensors")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor, second[name]), name
    assert json.loads((back / "config.json").read_text()) == CONFIG
    run(capsys, "convert", back, again)
    assert again.read_bytes() == dense.read_bytes()


def test_convert_keeps_weights_and_turns_dividing_scales(tmp_path, capsys):
    config = changed(quantization_config={"quant_method": "bitnet"})
    source = write(tmp_path / "source", packed_tensors(divide=True), config)
    dense, back = tmp_path / "dense.safetensors", tmp_path / "back"
    run(capsys, "convert", source, dense)
    run(capsys, "convert", dense, back)
    one, two, three = open_checkpoint(source), open_checkpoint(dense), open_checkpoint(back)
    for name, master in masters().items():
        weight, mean = ternarised(master)
        for checkpoint in (one, two, three):
            layer = checkpoint.layer(name)
            assert layer.weight.tolist() == weight.tolist()
            assert layer.scale == one.layer(name).scale == pytest.approx(mean, rel=2**-8)


def test_convert_refuses(tmp_path, capsys):
    source = write(tmp_path / "source", packed_tensors())
    assert " is a directory; the dense form of " in refused(capsys, "convert", source, tmp_path)
    bare = source / "model.safetensors"
    assert " is the source itself; the dense form of " in refused(capsys, "convert", bare, bare)
    dense = tmp_path / "dense.safetensors"
    save_dense(dense, [TernaryLayer("odd", torch.zeros((6, 4), dtype=torch.int8), 1.0)], {}, {})
    message = refused(capsys, "convert", dense, source)
    assert message.endswith(" is already there; the Hugging Face layout needs a new or empty directory")
    message = refused(capsys, "convert", dense, tmp_path / "new")
    assert message.endswith("layer odd has 6 outputs; the Hugging Face layout needs a multiple of four")
    assert " does not exist; a checkpoint is " in refused(capsys, "convert", tmp_path / "nothing", tmp_path / "x")
    save_file({"a.qweight": torch.ones(1)}, tmp_path / "int4.safetensors")
    message = refused(capsys, "convert", tmp_path / "int4.safetensors", tmp_path / "x")
    assert message.endswith("holds INT4 layers; nomul convert is for ternary ones")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "dense.safetensors", "int4.safetensors"}


def test_import_refuses_to_overwrite_its_source(tmp_path, capsys):
    dense = tmp_path / "dense.safetensors"
    save_dense(dense, [TernaryLayer("x", torch.zeros((6, 4), dtype=torch.int8), 1.0)], {}, {"any": 1})
    assert refused(capsys, "import", dense, "-o", dense).endswith(" is the model itself; -o needs another file")
    code, out, _ = run(capsys, "import", dense, "--json")
    found = json.loads(out)
    assert (code, found["kind"], found["architecture"], found["unsupported"]) == (0, "nomul-dense", None, [])


def test_a_file_without_a_config(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(packed_tensors(), path)
    found = survey(path)
    assert found.architecture is None
    assert found.unsupported == (
        "There is no config.json with an architecture, so that only single layers can be used.",
    )
    assert found.notes[0].startswith("the scale multiplies: nothing says which, and the median weight_scale 0.0")
