"""Whole models by transformers: Nomul's float model computes what transformers does, its integer model follows."""

import json

import pytest
import torch

from nomul.cli import main
from nomul.errors import InputError
from nomul.formats.inspection import open_model
from nomul.golden.lm_head import greedy
from nomul.model import checkpoints
from nomul.model.activations import record
from nomul.model.calibration import calibrate
from nomul.model.integer import IntegerModel, Positions
from nomul.model.store import load_model, load_tokenizer, save_copy
from tests import third_party as make

ORIGINAL = {"original_max_position_embeddings": 16, "rope_theta": 1e4}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ORIGINAL}
YARN = {"rope_type": "yarn", "factor": 4.0, **ORIGINAL}
SCALES = {
    "mscale": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.4},
    "attention_factor": {**YARN, "attention_factor": 1.25, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
}
FLOAT = {"quantization": None, "dtype": torch.float32}
TERNARY = {
    "bitnet, multiplying": ("bitnet", make.MULTIPLY, {}),
    "bitnet, dividing": ("bitnet", make.DIVIDE, {"tie_word_embeddings": False}),
    "bitnet, masters": ("bitnet", None, {}),
    "falcon3": ("llama", make.DIVIDE, {"head_dim": 32, "tie_word_embeddings": False}),
}
REAL = {
    "llama": ("llama", {}),
    "llama, all biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4}}),
    "llama, llama3": ("llama", {"rope_parameters": LLAMA3, "head_dim": 32}),
    "llama, yarn": ("llama", {"rope_parameters": YARN, "head_dim": 32}),
    **{f"llama, yarn with {name}": ("llama", {"rope_parameters": rope}) for name, rope in SCALES.items()},
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen3, yarn": ("qwen3", {"head_dim": 16, "rope_parameters": YARN}),
}


def write(folder, name):
    if name in TERNARY:
        kind, quantization, fields = TERNARY[name]
        make.masters(folder, kind, **fields)
        return make.packed(folder, quantization) if quantization else folder
    kind, fields = REAL[name]
    return make.masters(folder, kind, **FLOAT, **fields)


def compare(ours, theirs):
    assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max()
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.parametrize("name", [*TERNARY, *REAL])
@torch.no_grad()
def test_float_logits_are_those_of_transformers(tmp_path, name):
    folder = write(tmp_path, name)
    tokens = torch.randint(0, 96, (1, 64), generator=torch.Generator().manual_seed(1))
    compare(load_model(folder)[0](tokens), make.load(folder)(tokens).logits)


@torch.no_grad()
def test_float_logits_of_int4_are_those_of_transformers(tmp_path):
    make.compressed(tmp_path)
    compare(load_model(tmp_path)[0](make.TOKENS), make.load(tmp_path)(make.TOKENS).logits)


@pytest.mark.parametrize("name", TERNARY)
@torch.no_grad()
def test_the_integer_model_of_a_foreign_model_follows_it(tmp_path, name):
    folder = write(tmp_path / "model", name)
    model, _ = load_model(folder)
    tokens = torch.randint(0, 96, (4, 60), generator=torch.Generator().manual_seed(2))
    save_copy(tmp_path / "copy", open_model(folder), {"integer": calibrate(model, tokens).to_dict()})
    again, config = load_model(tmp_path / "copy")
    assert torch.equal(again(tokens), model(tokens))
    integer = IntegerModel(again, Positions.from_config(config, 2, "copy"))
    values, scale = integer.forward(tokens, integer.caches(4, 60))
    real = make.load(folder)(tokens).logits.double()
    error = (values.double() * scale.to_float()[..., None] - real).square().mean().sqrt()
    assert error < 0.06 * real.std()
    assert load_tokenizer(tmp_path / "copy").encode("w5 w1").tolist() == [5, 1]


@pytest.mark.parametrize("name", ["qwen3", "falcon3"])
@torch.no_grad()
def test_activations_of_a_prompt_are_those_that_transformers_reads(tmp_path, name):
    folder = write(tmp_path, name)
    theirs, heard = make.load(folder), []
    theirs.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda module, args: heard.append(args[0][0]))
    theirs(torch.tensor([[5, 1, 80]]))
    expected = (127 * heard[0] / heard[0].abs().amax(-1, keepdim=True)).round()
    found = record(folder, "model.layers.1.mlp.down_proj", "w5 w1 w80 w3", 3)
    assert found.shape == expected.shape and (found != expected).double().mean() < 0.02
    with pytest.raises(InputError, match=r"tokens is 5; the text allows 1 to 4"):
        record(folder, "model.layers.1.mlp.down_proj", "w5 w1 w80 w3", 5)


@torch.no_grad()
def test_a_committed_model_in_the_hugging_face_layout_says_the_same(tmp_path):
    """Transformers computes no INT8 keys and values, and sees embedding and gains as the grids that they are on."""
    with pytest.raises(SystemExit):
        main(["convert", str(checkpoints.path()), str(tmp_path / "hf")])
    model, tokens = IntegerModel.load(checkpoints.path()), load_tokenizer(checkpoints.path())
    row = tokens.encode(checkpoints.sample_text())[None, : model.config.context]
    values, _ = model.forward(row, model.caches(1, row.shape[1]))
    same = make.load(tmp_path / "hf")(row).logits.argmax(-1) == greedy(values)
    assert same.double().mean() >= 0.98


def test_a_feature_of_some_layers_only_is_refused(tmp_path):
    folder = write(tmp_path, "qwen3")
    tensors = make.load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.k_norm.weight"]
    make.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"model\.layers\.1\.self_attn\.k_norm\.weight is missing, although other"):
        load_model(folder)


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "longrope", "factor": 2.0}, "the type 'longrope' is not supported; supported are default, lin"),
        ({"rope_type": "linear"}, "the type 'linear' needs a number as factor, not None"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 3}, "the type 'linear' has beta_fast = 3, which is not"),
        ({**YARN, "beta_slow": 40}, "beta_fast is 32.0, but it must be above beta_slow, 40.0"),
        ({**LLAMA3, "low_freq_factor": 4.0}, "low_freq_factor is 4.0 and high_freq_factor 4.0; the first must be"),
    ],
)
def test_a_rotation_that_is_not_known_is_refused(tmp_path, rope, message):
    folder = write(tmp_path, "llama")
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"rope_parameters": None, "rope_scaling": {"rope_theta": 1e4, **rope}}
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_model(folder)
