"""Checkpoints: the dense file and the Hugging Face layout, and every way they can be broken."""

import json
import re
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nomul.errors import InputError
from nomul.formats.checkpoint import open_checkpoint, save_dense
from nomul.formats.huggingface import save_bitnet
from nomul.formats.ternary import TernaryLayer
from tests.layouts import hf_bytes

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"


def random_trits(n_out, n_in, seed=0):
    return torch.randint(-1, 2, (n_out, n_in), generator=torch.Generator().manual_seed(seed)).to(torch.int8)


@pytest.fixture
def layers():
    return [TernaryLayer(Q, random_trits(6, 13, 1), 0.25), TernaryLayer(DOWN, random_trits(8, 5, 2), 1.5)]


@pytest.fixture
def dense_file(tmp_path, layers):
    path = tmp_path / "model.nomul.safetensors"
    tensors = {"model.norm.weight": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}
    save_dense(path, layers, tensors, {"hidden": 13, "name": "ünï"})
    return path


def hf_tensors(scale=0.25):
    return {
        f"{Q}.weight": hf_bytes(random_trits(8, 13, 1)),
        f"{Q}.weight_scale": torch.tensor([scale], dtype=torch.bfloat16),
        "model.norm.weight": torch.ones(13, dtype=torch.bfloat16),
    }


def test_dense_round_trip(dense_file, layers):
    checkpoint = open_checkpoint(dense_file)
    assert checkpoint.kind == "nomul-dense"
    assert checkpoint.config == {"hidden": 13, "name": "ünï"}
    assert checkpoint.layers == [Q, DOWN]
    assert checkpoint.shapes == {Q: (6, 13), DOWN: (8, 5)}
    for layer in layers:
        read = checkpoint.layer(layer.name)
        assert torch.equal(read.weight, layer.weight)
        assert read.scale == layer.scale
    assert list(checkpoint.tensors) == ["model.norm.weight"]
    assert checkpoint.tensors["model.norm.weight"].tolist() == [1.0, 2.0]
    with pytest.raises(KeyError):
        checkpoint.tensors[f"{Q}.weight"]


def test_dense_file_is_what_its_specification_says(dense_file, layers):
    data = dense_file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header["__metadata__"]["format"] == "nomul-dense-1"
    assert json.loads(header["__metadata__"]["layers"]) == {Q: [6, 13], DOWN: [8, 5]}
    assert header[f"{Q}.weight"]["dtype"] == "U8"
    assert header[f"{Q}.weight"]["shape"] == [6, 3]
    assert header[f"{Q}.weight_scale"]["dtype"] == "F32"
    start, end = header[f"{Q}.weight"]["data_offsets"]
    row = [*layers[0].weight[0].tolist(), 0, 0]
    expected = [sum((w + 1) * 3**i for i, w in enumerate(row[k : k + 5])) for k in (0, 5, 10)]
    assert list(data[8 + length + start : 8 + length + end][:3]) == expected
    assert len(load_file(dense_file)) == 5


def test_equal_checkpoints_are_equal_files(tmp_path, layers):
    paths = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for path in paths:
        assert save_dense(path, layers, {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.uint8)}, {"x": 1})
    assert len({path.read_bytes() for path in paths}) == 1
    assert not save_dense(paths[0], layers, {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.uint8)}, {"x": 1})


def test_save_refuses_what_cannot_be_read_back(tmp_path, layers):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match=rf"^two layers are named {re.escape(Q)}; "):
        save_dense(path, [layers[0], layers[0]], {}, {})
    with pytest.raises(InputError, match=r"^the tensor \S+q_proj.weight has the name of a ternary layer's weight"):
        save_dense(path, layers, {f"{Q}.weight": torch.ones(1)}, {})
    with pytest.raises(InputError, match=r"^the config cannot be written as JSON: "):
        save_dense(path, layers, {}, {"scale": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written(tmp_path, layers):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/x.safetensors cannot be written: "):
        save_dense(tmp_path / "file" / "x.safetensors", layers, {}, {})
    with pytest.raises(InputError, match=r"file/x cannot be written: "):
        save_bitnet(tmp_path / "file" / "x", layers[1:], {}, {})


def test_files_have_the_mode_that_new_files_have(tmp_path, layers):
    (tmp_path / "new").touch()
    save_dense(tmp_path / "x.safetensors", layers, {}, {})
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"new", "x.safetensors"}


def test_an_interrupted_writer_leaves_the_old_file(dense_file, layers):
    before = dense_file.read_bytes()

    def broken():
        yield layers[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_dense(dense_file, broken(), {}, {})
    assert dense_file.read_bytes() == before
    assert list(dense_file.parent.iterdir()) == [dense_file]


def test_unknown_layer_names_the_closest(dense_file):
    checkpoint = open_checkpoint(dense_file)
    with pytest.raises(InputError, match=r"has no layer 'model.layers.0.mlp.dwn'; did you mean \S+down_proj"):
        checkpoint.layer("model.layers.0.mlp.dwn")
    with pytest.raises(InputError, match=r"has no layer 'q_proj'; did you mean model.layers.0.self_attn.q_proj\?$"):
        checkpoint.layer("q_proj")
    with pytest.raises(InputError, match=r"has no layer 'zzz'; it has model.layers.0.self_attn.q_proj, model"):
        checkpoint.layer("zzz")


@pytest.mark.parametrize(
    ("direction", "stored", "factor"),
    [("autobitlinear", 0.25, 0.25), ("bitlinear", 8.0, 0.125), (None, 40.0, 0.025), (None, 1.5, 1.5)],
)
def test_hugging_face_directory(tmp_path, direction, stored, factor):
    save_file(hf_tensors(stored), tmp_path / "model.safetensors")
    if direction:
        config = {"quantization_config": {"quant_method": "bitnet", "linear_class": direction}}
        (tmp_path / "config.json").write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        checkpoint = open_checkpoint(path)
        assert checkpoint.kind == "bitnet"
        assert checkpoint.shapes == {Q: (8, 13)}
        layer = checkpoint.layer(Q)
        assert torch.equal(layer.weight, random_trits(8, 13, 1))
        assert layer.scale == float(np.float32(factor))
        assert list(checkpoint.tensors) == ["model.norm.weight"]
        assert re.match(r"the scale (multiplies|divides): ", checkpoint.notes[0])


def test_sharded_directory(tmp_path):
    tensors = hf_tensors()
    names = list(tensors)
    save_file({names[0]: tensors[names[0]]}, tmp_path / "a.safetensors")
    save_file({name: tensors[name] for name in names[1:]}, tmp_path / "b.safetensors")
    weight_map = {name: "a.safetensors" if name == names[0] else "b.safetensors" for name in names}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert torch.equal(open_checkpoint(tmp_path).layer(Q).weight, random_trits(8, 13, 1))

    index.write_text(json.dumps({"weight_map": {**weight_map, "model.lost": "b.safetensors"}}))
    with pytest.raises(InputError, match=r": the shard b.safetensors lacks the tensor model.lost that the index names"):
        open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {**weight_map, "x": "../c.safetensors"}}))
    with pytest.raises(InputError, match=r"names the shard '../c.safetensors'; a shard is a file beside the index$"):
        open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {**weight_map, "x": "c.safetensors"}}))
    with pytest.raises(InputError, match=r"names the shard c.safetensors, which is missing from "):
        open_checkpoint(tmp_path)
    index.write_text("{}")
    with pytest.raises(InputError, match=r"index.json has no object weight_map from tensor to file$"):
        open_checkpoint(tmp_path)
    index.unlink()
    with pytest.raises(InputError, match=r"holds a.safetensors, b.safetensors but no model.safetensors.index.json"):
        open_checkpoint(tmp_path)
    save_file(tensors, tmp_path / "b.safetensors")
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match=r"holds the tensor \S+, which another shard of "):
        open_checkpoint(tmp_path)


def test_paths_without_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"nothing does not exist; a checkpoint is a safetensors file or a directory"):
        open_checkpoint(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"without a checkpoint: it needs \*.safetensors files and has none$"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"needs \*.safetensors files and has only pytorch_model.bin$"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("data", [b"abc", b"\x7fELF" + bytes(100), (10**9).to_bytes(8, "little") + b"{}"])
def test_foreign_files(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x.safetensors is truncated or no safetensors file: [^\n]+$"):
        open_checkpoint(path)


def test_empty_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.touch()
    with pytest.raises(InputError, match=r"x.safetensors is empty; a safetensors file is needed$"):
        open_checkpoint(path)


def test_truncated_at_every_length(dense_file):
    data = dense_file.read_bytes()
    for length in [*range(1, 40), *range(40, len(data), 37), len(data) - 1]:
        dense_file.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"is truncated or no safetensors file: [^\n]+$"):
            open_checkpoint(dense_file)


def rewrite(path, tensors=None, **metadata):
    """Write the dense file at `path` anew with changed tensors (None removes one) and metadata."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])["__metadata__"] | metadata
    changed = load_file(path) | (tensors or {})
    save_file(
        {name: tensor for name, tensor in changed.items() if tensor is not None},
        path,
        metadata={key: value for key, value in header.items() if value is not None},
    )


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({}, {"format": "nomul-dense-9"}, "has the format 'nomul-dense-9', but this version of Nomul reads 'nomul-d"),
        ({}, {"config": None}, "says it is nomul-dense-1 but has no 'config' in its metadata"),
        ({}, {"layers": "{"}, "'layers' in its metadata is not JSON: "),
        ({}, {"layers": "[]"}, "'layers' in its metadata is a list, not a JSON object"),
        ({}, {"layers": '{"a": [5]}'}, "layer a has the shape [5], but [n_out, n_in] or [n_out, n_in, group], all"),
        ({}, {"layers": '{"a": [0, 5]}'}, "layer a has the shape [0, 5], but"),
        ({}, {"layers": '{"a": [1, 5]}'}, "layer a has no tensor a.weight"),
        ({f"{Q}.weight_scale": None}, {}, f"layer {Q} has no tensor {Q}.weight_scale"),
        (
            {f"{Q}.weight_scale": torch.tensor([float("nan")])},
            {},
            f"layer {Q}: weight_scale is nan, but it must be finite and greater than 0",
        ),
        ({f"{Q}.weight_scale": torch.tensor([0.0])}, {}, f"layer {Q}: weight_scale is 0.0, but it must be"),
        ({f"{Q}.weight_scale": torch.ones(1).half()}, {}, "weight_scale is F16 [1], but F32 [1] is needed"),
        ({f"{Q}.weight": torch.zeros((6, 3), dtype=torch.int8)}, {}, "q_proj.weight is I8 [6, 3], but U8 [6, 3] is"),
        ({f"{Q}.weight": torch.zeros((6, 4), dtype=torch.uint8)}, {}, "q_proj.weight is U8 [6, 4], but U8 [6, 3] is"),
    ],
)
def test_broken_dense_files(dense_file, tensors, metadata, message):
    rewrite(dense_file, tensors, **metadata)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        open_checkpoint(dense_file)
    assert "\n" not in str(error.value)


def test_bytes_that_no_writer_produces_name_file_and_layer(dense_file):
    weight = load_file(dense_file)[f"{Q}.weight"]
    weight[3, 1] = 250
    rewrite(dense_file, {f"{Q}.weight": weight})
    checkpoint = open_checkpoint(dense_file)
    pattern = rf"^{re.escape(str(dense_file))}: layer {re.escape(Q)}: byte 250 at \[3, 1\] is not a code of five trits"
    with pytest.raises(InputError, match=pattern):
        checkpoint.layer(Q)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{Q}.weight_scale": None}, f"layer {Q} has no weight_scale; packed BitNet weights need one per layer"),
        ({f"{Q}.weight_scale": torch.tensor([float("inf")])}, f"layer {Q}: weight_scale is inf, but it must be finite"),
        (
            {f"{Q}.weight": torch.ones((8, 13))},
            "there are no ternary layers here: no uint8 weights with",
        ),
    ],
)
def test_broken_hugging_face_files(tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    save_file({k: v for k, v in (hf_tensors() | change).items() if v is not None}, path)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: {re.escape(message)}"):
        open_checkpoint(path)


def test_code_3_names_file_and_layer(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = hf_tensors()
    tensors[f"{Q}.weight"][1, 2] = 0xFF
    save_file(tensors, path)
    pattern = rf"^{re.escape(str(path))}: layer {re.escape(Q)}: byte 0xff at \[1, 2\] has the 2-bit code 3 in bits 1:0"
    with pytest.raises(InputError, match=pattern):
        open_checkpoint(path).layer(Q)


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_config_that_is_no_object(tmp_path, text):
    save_file(hf_tensors(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json (is not JSON: |holds a JSON (list|str) where)"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("weight", "scale", "message"),
    [
        (torch.zeros((2, 2)), 1.0, "the weight is torch.float32 [2, 2], but a ternary layer is a non-empty torch.int8"),
        (torch.zeros((0, 2), dtype=torch.int8), 1.0, "the weight is torch.int8 [0, 2], but"),
        (torch.full((2, 2), 2, dtype=torch.int8), 1.0, "weight 2 at [0, 0] is not a trit; allowed are -1, 0 and 1"),
        (torch.zeros((2, 2), dtype=torch.int8), 0.0, "the scale is 0.0, but it must be finite and greater than 0"),
        (torch.zeros((2, 2), dtype=torch.int8), float("nan"), "the scale is nan, but"),
    ],
)
def test_wrong_layers(weight, scale, message):
    with pytest.raises(InputError, match=rf"^layer x: {re.escape(message)}"):
        TernaryLayer("x", weight, scale)


def test_scales_by_row_and_group(tmp_path):
    rows = TernaryLayer("rows", random_trits(6, 13, 1), torch.rand(6, 1) + 0.1)
    groups = TernaryLayer("groups", random_trits(4, 13, 2), torch.rand(4, 4).half(), 4)
    assert (rows.share, groups.share) == ("row", "group of 4 inputs")
    file = tmp_path / "scaled"
    save_dense(file, [rows, groups], {}, {})
    read = open_checkpoint(file)
    for layer in (rows, groups):
        again = read.layer(layer.name)
        assert torch.equal(again.weight, layer.weight) and torch.equal(again.scales, layer.scales)
        expected = torch.tensor(
            [[float(layer.weight[o, k]) * float(layer.scales[o, k // layer.group]) for k in range(13)]
             for o in range(layer.n_out)]
        )  # fmt: skip
        assert torch.equal(again.dequantise(), expected)
        with pytest.raises(InputError, match=f"layer {layer.name} has a scale for each {layer.share}, but one for"):
            again.scale  # noqa: B018
    assert read.shapes == {"rows": (6, 13), "groups": (4, 13)}


@pytest.mark.parametrize(
    ("scales", "group", "message"),
    [
        (torch.ones(2, 2), 1, "the scales are torch.float32 [2, 2], not floats [2, 3]"),
        (torch.ones(2, 1).long(), None, "the scales are torch.int64 [2, 1], not floats [2, 1]"),
        (torch.tensor([[1.0], [-0.5]]), None, "the scale at [1, 0] is -0.5; allowed: 0 or more"),
        (torch.ones(2, 1), 0, "the group is 0, but it must be 1 or more"),
    ],
)
def test_wrong_scales(scales, group, message):
    with pytest.raises(InputError, match=rf"^layer x: {re.escape(message)}"):
        TernaryLayer("x", torch.zeros((2, 3), dtype=torch.int8), scales, group)
