"""GGUF: layers are what llama.cpp's own library dequantises, and what is not read is refused by its name."""

import json
import re

import gguf
import numpy as np
import pytest
import torch

from nomul.errors import InputError
from nomul.formats.architecture import Architecture
from nomul.formats.checkpoint import open_checkpoint
from nomul.formats.container import open_container
from nomul.formats.inspection import MixedCheckpoint, open_model, survey
from nomul.formats.int4 import Int4Layer
from nomul.formats.int4_checkpoint import open_int4
from nomul.formats.ternary import TernaryLayer
from tests import gguf_files as make
from tests.test_formats_huggingface import refused, run

RANDOM = np.random.default_rng(5)
NAME = "model.layers.7.self_attn.q_proj"


def one(path, tensor, architecture="qwen3", **metadata):
    """A file with an embedding and one projection, of a layer beyond the model's, so that it may have any shape."""
    embedding = RANDOM.normal(size=(make.VOCABULARY, 256)).astype(np.float32)
    return make.write(path, {"blk.7.attn_q.weight": tensor, "token_embd.weight": embedding}, architecture, **metadata)


def layer_of(path, tensor, **metadata):
    found = open_model(one(path, tensor, **metadata))
    return found.layer(NAME)


def refusal(path):
    with pytest.raises(InputError) as caught:
        open_container(path)
    said = str(caught.value)
    assert str(path) in said and "\n" not in said
    return said


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0", "Q4_0"])
@pytest.mark.parametrize("shape", [(8, 256), (3, 768), (256, 512)])
def test_layers_are_what_the_library_dequantises(tmp_path, kind, shape):
    weights = RANDOM.normal(size=shape).astype(np.float32)
    data, number, _ = tensor = make.quantised(weights, kind)
    layer = layer_of(tmp_path / "a.gguf", tensor)
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(number)).reshape(shape)
    assert np.array_equal(layer.dequantise().numpy(), expected)
    assert isinstance(layer, Int4Layer if kind == "Q4_0" else TernaryLayer)
    assert (layer.group_size if kind == "Q4_0" else layer.group) == (32 if kind == "Q4_0" else 256)


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0", "Q4_0"])
def test_random_bytes_are_what_the_library_dequantises(tmp_path, kind):
    """Every byte that has a meaning, and scales of both signs; TQ2_0 means nothing by the code 3."""
    found = gguf.GGMLQuantizationType[kind]
    weights, octets = gguf.GGML_QUANT_SIZES[found]
    data = RANDOM.integers(0, 256, (64 * 512 // weights, octets), np.uint8)
    place = {"TQ1_0": 52, "TQ2_0": 64, "Q4_0": 0}[kind]
    data[:, place : place + 2] = make.halves(make.scales_of(RANDOM, len(data), negative=True))
    if kind == "TQ2_0":
        data[:, :64] &= ~(data[:, :64] & (data[:, :64] >> 1) & 0x55)
    layer = layer_of(tmp_path / "a.gguf", (data.ravel(), found.value, (64, 512)))
    expected = gguf.quants.dequantize(data.reshape(64, -1), found)
    assert np.array_equal(layer.dequantise().numpy(), expected)
    assert bool((layer.scales >= 0).all())


@pytest.mark.parametrize("negative", [False, True])
def test_signs_and_two_bits(tmp_path, negative):
    shape = (24, 512)
    signs = RANDOM.choice([-1, 1], shape)
    scales = make.scales_of(RANDOM, (24, 4), negative)
    layer = layer_of(tmp_path / "a.gguf", (make.sign_blocks(signs, scales), make.Q1_0, shape))
    assert isinstance(layer, TernaryLayer) and layer.group == 128
    assert np.array_equal(layer.dequantise().numpy(), signs * scales.astype(np.float32).repeat(128, 1))
    for most, kind in ((2, TernaryLayer), (3, Int4Layer)):
        codes = RANDOM.integers(0, most + 1, shape)
        codes[0, 0] = most
        scales = make.scales_of(RANDOM, (24, 8), negative)
        layer = layer_of(tmp_path / f"{most}.gguf", (make.two_bit_blocks(codes, scales), make.Q2_0, shape))
        assert isinstance(layer, kind) and bool((layer.scales >= 0).all())
        assert np.array_equal(layer.dequantise().numpy(), (codes - 1) * scales.astype(np.float32).repeat(64, 1))


def test_one_scale_for_a_tensor(tmp_path):
    codes = RANDOM.integers(0, 3, (6, 384))
    file = one(tmp_path / "a.gguf", (make.i2_s(codes, 0.375), make.I2_S, codes.shape), "bitnet-b1.58")
    layer = open_checkpoint(file).layer(NAME)
    assert layer.uniform and layer.scale == 0.375 and torch.equal(layer.weight, torch.tensor(codes - 1).to(torch.int8))
    assert any(note.startswith("I2_S is read in the order that x86 writes") for note in open_checkpoint(file).notes)
    codes[2, 7] = 3
    file = one(tmp_path / "b.gguf", (make.i2_s(codes, 0.375), make.I2_S, codes.shape), "bitnet")
    with pytest.raises(InputError, match=rf"^{re.escape(str(file))}: layer {NAME}: weight 2 at \[2, 7\] is not a trit"):
        open_checkpoint(file).layer(NAME)


@pytest.mark.parametrize("block", [64, 128])
def test_blocks_of_prism_are_told_by_the_sizes(tmp_path, block):
    codes = RANDOM.integers(0, 3, (32, 256))
    scales = make.scales_of(RANDOM, (32, 256 // block))
    file = one(tmp_path / "a.gguf", (make.two_bit_blocks(codes, scales, block), make.Q2_0, codes.shape))
    checkpoint = open_checkpoint(file)
    layer = checkpoint.layer(NAME)
    assert layer.group == block
    assert np.array_equal(layer.dequantise().numpy(), (codes - 1) * scales.astype(np.float32).repeat(block, 1))
    assert any("as in Prism's fork" in note for note in checkpoint.notes) == (block == 128)


def test_blocks_that_the_sizes_do_not_tell_are_refused(tmp_path):
    codes, scales = RANDOM.integers(0, 3, (1, 256)), make.scales_of(RANDOM, 2)
    file = one(tmp_path / "a.gguf", (make.two_bit_blocks(codes, scales, 128), make.Q2_0, codes.shape))
    assert "the sizes of blk.7.attn_q.weight and of the others are too small to tell which these are" in refusal(file)
    wrong = np.zeros(32 * 256, np.uint8)
    file = one(tmp_path / "b.gguf", (wrong, make.Q2_0, (32, 256)))
    assert "the sizes of blk.7.attn_q.weight and of the others do not tell which these are" in refusal(file)


def test_a_size_that_belongs_to_another_type_is_refused(tmp_path):
    data, _, shape = make.quantised(RANDOM.normal(size=(64, 256)), "Q4_0")
    said = refusal(one(tmp_path / "a.gguf", (data, 34, shape)))
    assert said.endswith("is TQ1_0 [64, 256], which takes 3,456 bytes, but the next tensor begins after 9,216")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "TQ2_0", "BF16", "F16", "Q5_0", "Q4_1", "TQ1_0"])
def test_dense_tensors_are_dequantised(tmp_path, kind):
    weights = RANDOM.normal(size=(make.VOCABULARY, 256)).astype(np.float32)
    data, number, _ = tensor = make.quantised(weights, kind)
    file = make.write(tmp_path / "a.gguf", {"token_embd.weight": (data.view(np.uint8), *tensor[1:])})
    found = open_container(file)["model.embed_tokens.weight"]
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(number))
    assert np.array_equal(found.float().numpy(), expected.reshape(weights.shape))
    assert found.dtype == {"BF16": torch.bfloat16, "F16": torch.float16}.get(kind, torch.float32)


def test_dense_tensors_in_k_quants_and_two_bits(tmp_path):
    """An embedding of Q6_K, by the library; one of Q2_0, which the library does not know; one that nobody decodes."""
    data = RANDOM.integers(0, 256, (make.VOCABULARY, 210), np.uint8)
    data[:, 208:] = make.halves(make.scales_of(RANDOM, make.VOCABULARY))
    shape, codes = (make.VOCABULARY, 256), RANDOM.integers(0, 4, (make.VOCABULARY, 256))
    scales = make.scales_of(RANDOM, (make.VOCABULARY, 4))
    file = make.write(
        tmp_path / "a.gguf",
        {
            "token_embd.weight": (data, 14, shape),
            "output.weight": (make.two_bit_blocks(codes, scales), make.Q2_0, shape),
            "other.weight": (np.zeros(64, np.uint8), 143, (1, 128)),
        },
    )
    container = open_container(file)
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType.Q6_K)
    assert np.array_equal(container["model.embed_tokens.weight"].numpy(), expected)
    assert np.array_equal(container["lm_head.weight"].numpy(), (codes - 1) * scales.astype(np.float32).repeat(64, 1))
    assert container.dtype("other.weight") == "PTQ1_0" and container.dtype("lm_head.weight") == "Q2_0"
    with pytest.raises(
        InputError, match=r"the tensor other.weight: it is PTQ1_0, which neither Nomul nor gguf [0-9.]+ de"
    ):
        container["other.weight"]


@pytest.mark.parametrize(
    ("number", "name"),
    [(8, "Q8_0"), (12, "Q4_K"), (3, "Q4_1"), (38, "TL1"), (142, "PQ2_0"), (143, "PTQ1_0"), (77, "of the type 77")],
)
def test_projections_that_are_no_codes_and_scales_are_refused(tmp_path, number, name):
    sizes = gguf.GGML_QUANT_SIZES.get(number, (256, 64))
    data = np.zeros(16 * 256 // sizes[0] * sizes[1], np.uint8)
    said = refusal(one(tmp_path / "a.gguf", (data, number, (16, 256))))
    assert (
        f"the tensor blk.7.attn_q.weight is {name} [16, 256], which is not read; Nomul reads projections in Q1_" in said
    )


@pytest.mark.parametrize("place", ["q", "k", "v"])
def test_rows_of_llama_are_put_back(tmp_path, place):
    """A head's rows are stored [size / 2, 2] and were [2, size / 2]: without that the layer would differ."""
    rows, heads = {"q": (256, 4), "k": (128, 2), "v": (128, None)}[place]
    weights = RANDOM.normal(size=(rows, 256)).astype(np.float32)
    name, files = f"model.layers.0.self_attn.{place}_proj", {}
    stored = weights if heads is None else permute(weights, heads)
    for kind in ("Q4_0", "TQ2_0"):
        for architecture in ("llama", "qwen2", "bitnet"):
            tensors = {f"blk.0.attn_{place}.weight": make.quantised(stored, kind)}
            files[architecture] = make.write(tmp_path / f"{kind}{architecture}.gguf", tensors, architecture)
        meant = make.quantised(weights, kind)
        expected = gguf.quants.dequantize(meant[0], gguf.GGMLQuantizationType(meant[1]))
        found = {name: open_model(file) for name, file in files.items()}
        layers = {kind: model.layer(name).dequantise().numpy() for kind, model in found.items()}
        assert np.array_equal(layers["llama"], expected)
        assert np.array_equal(layers["qwen2"], expected) is (heads is None)
        assert np.array_equal(layers["bitnet"], layers["qwen2"])


def permute(weights, heads):
    """What llama.cpp's converter does to q and k of a Llama."""
    half = weights.shape[0] // heads // 2
    return np.stack([weights.reshape(heads, 2, half, -1)[:, part] for part in (0, 1)], 2).reshape(weights.shape)


def test_a_file_that_is_cut_short_is_one_sentence(tmp_path):
    whole = make.write(tmp_path / "a.gguf", make.model(lambda weights: make.quantised(weights, "Q4_0"))).read_bytes()
    file = tmp_path / "b.gguf"
    cuts = {*range(0, 200, 7), *range(200, len(whole), len(whole) // 60), len(whole) - 2000}
    for cut in sorted(cuts):
        file.write_bytes(whole[:cut])
        if cut < 4:
            with pytest.raises(InputError):
                open_container(file)
        else:
            assert "cut short" in refusal(file)


def test_bytes_that_were_changed_are_one_sentence_or_a_model(tmp_path):
    whole = make.write(tmp_path / "a.gguf", make.model(lambda weights: make.quantised(weights, "Q4_0"))).read_bytes()
    head, file = 3000, tmp_path / "b.gguf"
    for _ in range(150):
        changed = bytearray(whole)
        for place in RANDOM.integers(8, head, 3):
            changed[place] = RANDOM.integers(256)
        file.write_bytes(changed)
        try:
            found = survey(file)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert found.kind in ("gguf", "float")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"GGUF\x01\0\0\0", "is a GGUF file of version 1; Nomul reads the versions 2 and 3"),
        (b"GGUF\0\0\0\x03", "is a GGUF file in big-endian byte order, which Nomul does not read"),
        (b"GGUF", "is cut short: it has 4 bytes"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "is cut short, or is no GGUF file: "),
    ],
)
def test_what_is_no_file_of_this_version(tmp_path, start, said):
    file = tmp_path / "a.gguf"
    file.write_bytes(start)
    assert said in refusal(file)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rope.dimension_count": 32}, "A partial_rotary_factor of 0.5 is not supported; supported is 1."),
        ({"expert_count": 8}, "A mixture of 8 experts (num_experts) is not supported."),
        ({"final_logit_softcapping": 30.0}, "Soft capping (final_logit_softcapping) is not supported."),
        (
            {"attention.value_length": 32},
            "The setting llama.attention.value_length is 32, and Nomul does not know what",
        ),
        ({"swin_norm": True}, "The setting llama.swin_norm is True, and Nomul does not know what it changes."),
        ({"rope.scaling.type": "longrope"}, "Rotary embedding of the type 'longrope' is not supported"),
    ],
)
def test_what_the_metadata_asks_for_is_refused_by_name(tmp_path, settings, sentence):
    tensors = make.model(lambda weights: make.quantised(weights, "TQ2_0"), "llama")
    file = make.write(tmp_path / "a.gguf", tensors, "llama", settings=settings)
    assert any(said.startswith(sentence) for said in survey(file).unknown), survey(file).unknown


def test_keys_of_nobody_and_tensors_without_a_place_are_refused_by_name(tmp_path, capsys):
    tensors = make.model(lambda weights: make.quantised(weights, "TQ2_0"), "llama")
    extra = {"blk.0.ffn_gate_inp.weight": np.zeros((4, 256), np.float32)}
    file = make.write(
        tmp_path / "a.gguf", {**tensors, **extra}, "llama", keys={"rotation.axis": 1, "general.name": "x"}
    )
    unknown = survey(file).unknown
    assert "The setting rotation.axis is 1, and Nomul does not know what it changes." in unknown
    assert any("without a known place are not supported: blk.0.ffn_gate_inp.weight" in said for said in unknown)
    said = refused(capsys, "import", file, "-o", tmp_path / "dense.safetensors")
    assert "cannot be imported: " in said and "rotation.axis" in said
    assert not (tmp_path / "dense.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"keys": {"prism.hadamard.block_size": 128}},
            "the metadata has prism.hadamard.block_size: the weights are rotated",
        ),
        ({"keys": {"split.count": 3}}, "it is one of 3 files of a model; llama-gguf-split --merge makes one of them"),
        ({"settings": {"attention.head_count": 5}}, "qwen3.embedding_length 256 does not divide into 5 heads"),
        ({"settings": {"block_count": 1 << 31}}, "qwen3.block_count is 2147483648; Nomul reads up to 4096 layers"),
        ({"settings": {"block_count": None}}, "the metadata has no qwen3.block_count, which is needed"),
        ({"settings": {"block_count": "two"}}, "qwen3.block_count is two, but one whole number is needed"),
        ({"settings": {"rope.freq_base": 5}}, "qwen3.rope.freq_base is 5, but a fraction is needed"),
        (
            {"settings": {"attention.head_count": [4, 2]}},
            "qwen3.attention.head_count is [4, 2], but one whole number is",
        ),
        (
            {"architecture": "mamba"},
            "general.architecture is 'mamba', which Nomul does not read; it reads llama, qwen2",
        ),
    ],
)
def test_files_that_are_not_opened(tmp_path, change, said):
    tensor = make.quantised(RANDOM.normal(size=(256, 256)), "Q4_0")
    assert f": {said}" in refusal(one(tmp_path / "a.gguf", tensor, **change))


def test_a_scale_beside_a_tensor_is_refused(tmp_path):
    tensors = {
        "blk.0.attn_q.weight": make.quantised(np.ones((256, 256)), "TQ2_0"),
        "blk.0.attn_q.scale": np.ones(1, "f4"),
    }
    assert "the tensor blk.0.attn_q.scale scales another one's" in refusal(make.write(tmp_path / "a.gguf", tensors))


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_scale_that_is_not_finite(tmp_path, value):
    data, number, shape = make.quantised(np.ones((4, 256)), "TQ2_0")
    data = data.copy().reshape(4, 66)
    data[2, 64:] = make.halves([value])
    with pytest.raises(InputError, match=r"layer model.layers.7.self_attn.q_proj: the scale at \[2, 0\] is (inf|nan)"):
        open_checkpoint(one(tmp_path / "a.gguf", (data, number, shape))).layer(NAME)


def test_a_shape_that_the_metadata_contradict_is_refused(tmp_path):
    tensors = {"blk.1.ffn_up.weight": make.quantised(np.ones((256, 256)), "TQ2_0")}
    said = refusal(make.write(tmp_path / "a.gguf", {**tensors, "token_embd.weight": np.ones((8, 256), "f4")}))
    assert said.endswith("the tensor blk.1.ffn_up.weight is [256, 256], but the metadata need [512, 256]")


def llama3(theta, size, factor):
    """The divisors that llama.cpp's converter writes for a Llama 3."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, size, 2) / size)
    smooth = np.clip((8192 / wavelengths - 1) / 3, 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def test_scaled_frequencies_are_read_or_refused_by_name(tmp_path):
    tensors = make.model(lambda weights: make.quantised(weights, "TQ2_0"), "llama")
    theta = {"rope.freq_base": 500000.0}
    file = make.write(
        tmp_path / "a.gguf", {**tensors, "rope_freqs.weight": llama3(500000, 64, 8)}, "llama", settings=theta
    )
    expected = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert open_checkpoint(file).config["rope_scaling"] == {"rope_type": "llama3", **expected}
    other = llama3(500000, 64, 8)
    other[20] *= 1.01
    file = make.write(tmp_path / "b.gguf", {**tensors, "rope_freqs.weight": other}, "llama", settings=theta)
    assert any("known place are not supported: rope_freqs.weight" in said for said in survey(file).unknown)
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
    file = make.write(tmp_path / "c.gguf", tensors, "llama", settings=yarn)
    expected = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    assert open_checkpoint(file).config["rope_scaling"] == expected


def test_a_ternary_file_becomes_a_dense_one(tmp_path, capsys):
    """BitNet as bitnet.cpp writes it: from import to the dense file, and back to what transformers reads."""

    def pack(weights):
        return make.i2_s(make.ternary(weights) + 1, 0.25), make.I2_S, weights.shape

    tensors = make.model(pack, "bitnet-b1.58")
    (tmp_path / "model").mkdir()
    plain = {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0}
    file = make.write(tmp_path / "model" / "a.gguf", tensors, "bitnet-b1.58", settings=plain)
    dense = tmp_path / "dense.safetensors"
    code, out, _ = run(capsys, "import", file.parent, "-o", dense, "--json")
    said = json.loads(out)
    assert (code, said["kind"], said["unsupported"], said["sub_norms"]) == (0, "gguf", [], True)
    assert said["architecture"]["hidden_act"] == "relu2" and said["architecture"]["tie_word_embeddings"] is True
    one, other = open_checkpoint(file), open_checkpoint(dense)
    assert list(one.shapes) == list(other.shapes) and len(one.shapes) == 14
    for name in one.shapes:
        assert torch.equal(one.layer(name).weight, other.layer(name).weight) and other.layer(name).scale == 0.25
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert Architecture.from_config(one.config) == Architecture.from_config(other.config)
    code, out, _ = run(capsys, "convert", file, tmp_path / "again.safetensors", "--json")
    assert code == 0 and json.loads(out)["layers"] == 14


def test_the_embedding_says_how_many_tokens_there_are(tmp_path):
    tensors = make.model(lambda weights: make.quantised(weights, "TQ2_0"))
    file = make.write(tmp_path / "a.gguf", tensors, settings={"vocab_size": make.VOCABULARY - 3})
    assert survey(file).architecture.vocab_size == make.VOCABULARY and survey(file).unknown == ()


def test_a_file_of_both_kinds(tmp_path, capsys):
    kinds = iter(["Q4_0", "TQ2_0"] * 7)
    file = make.write(tmp_path / "a.gguf", make.model(lambda weights: make.quantised(weights, next(kinds))))
    model = open_model(file)
    assert isinstance(model, MixedCheckpoint) and len(model.shapes) == 14
    assert isinstance(model.layer("model.layers.0.self_attn.q_proj"), Int4Layer)
    assert isinstance(model.layer("model.layers.0.self_attn.k_proj"), TernaryLayer)
    assert {*open_checkpoint(file).shapes, *open_int4(file).shapes} == {*model.shapes}
    found = survey(file)
    assert found.ternary_parameters + found.int4_parameters == sum(a * b for a, b in model.shapes.values())
    assert found.int4_parameters and found.ternary_parameters
    assert "-o writes ternary models only" in refused(capsys, "import", file, "-o", tmp_path / "x")
    code, out, _ = run(capsys, "import", file, "--json")
    assert code == 0 and json.loads(out)["runs"]["layer"].startswith("nomul check mixpe --checkpoint")


def test_several_files_need_a_name(tmp_path, capsys):
    for name in ("a", "b"):
        one(tmp_path / f"{name}.gguf", make.quantised(np.ones((256, 256)), "TQ2_0"))
    said = f"nomul: {tmp_path} holds a.gguf, b.gguf; name one of them"
    assert refused(capsys, "import", tmp_path) == said


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_a_float_model_is_called_one(tmp_path, capsys, kind):
    dtype = {"F32": np.float32, "F16": np.float16}[kind]
    file = make.write(tmp_path / "a.gguf", make.model(lambda weights: weights.astype(dtype)))
    found = survey(file)
    assert (found.kind, len(found.layers)) == ("float", 14) and open_model(file) is None
    assert "there are no ternary layers here: its projections are floats" in refused(
        capsys, "check", "tint", "--checkpoint", file
    )
