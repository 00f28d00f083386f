"""GPTQ and AWQ layers: files written here, one nibble at a time, from the published layouts."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nomul.errors import InputError
from nomul.formats.int4 import Int4Layer, from_awq, from_gptq
from nomul.formats.int4_checkpoint import open_int4
from tests.layouts import awq_tensors, gptq_tensors, quantised

LAYER = "model.layers.0.mlp.up_proj"


def write(path, tensors, **quantization):
    save_file({**tensors, "model.norm.weight": torch.ones(4)}, path / "model.safetensors")
    if quantization:
        (path / "config.json").write_text(json.dumps({"quantization_config": quantization}))


def assert_layer(layer, weights, codes, zeros, scales):
    assert layer.codes.tolist() == codes.tolist()
    assert layer.zeros.tolist() == zeros.tolist()
    assert torch.equal(layer.scales, torch.from_numpy(scales))
    half_steps = scales.astype(np.float64).max() * 0.5
    assert np.abs(layer.dequantise().double().numpy() - weights).max() <= half_steps * 1.001


@pytest.mark.parametrize("group", [8, 16, 40])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2", None])
def test_gptq(tmp_path, group, version):
    weights, codes, zeros, scales = quantised(group=group)
    tensors = gptq_tensors(LAYER, codes, zeros, scales, group, offset=0 if version == "gptq_v2" else 1)
    named = {"checkpoint_format": version} if version else {}
    write(tmp_path, tensors, quant_method="gptq", bits=4, group_size=group, sym=False, **named)
    checkpoint = open_int4(tmp_path)
    assert (checkpoint.kind, checkpoint.layers, checkpoint.shapes) == ("gptq", [LAYER], {LAYER: (24, 40)})
    assert list(checkpoint.tensors) == ["model.norm.weight"]
    assert checkpoint.notes[0].startswith(f"the zero points are read as {version or 'gptq'} stores them: ")
    layer = checkpoint.layer(LAYER)
    assert (layer.n_out, layer.n_in, layer.groups, layer.group_size) == (24, 40, -(-40 // group), group)
    assert_layer(layer, weights, codes, zeros, scales)


@pytest.mark.parametrize("group", [8, 16, 40])
def test_awq(tmp_path, group):
    weights, codes, zeros, scales = quantised(group=group)
    write(
        tmp_path, awq_tensors(LAYER, codes, zeros, scales), quant_method="awq", bits=4, group_size=group, version="gemm"
    )
    checkpoint = open_int4(tmp_path)
    assert (checkpoint.kind, checkpoint.shapes) == ("awq", {LAYER: (24, 40)})
    assert_layer(checkpoint.layer(LAYER), weights, codes, zeros, scales)


def test_without_a_config_the_shapes_decide(tmp_path):
    weights, codes, zeros, scales = quantised(group=8)
    write(tmp_path, gptq_tensors(LAYER, codes, zeros, scales, 8))
    checkpoint = open_int4(tmp_path)
    assert checkpoint.kind == "gptq"
    assert_layer(checkpoint.layer(LAYER), weights, codes, zeros, scales)
    write(tmp_path, awq_tensors(LAYER, codes, zeros, scales))
    checkpoint = open_int4(tmp_path / "model.safetensors")
    assert checkpoint.kind == "awq"
    assert_layer(checkpoint.layer(LAYER), weights, codes, zeros, scales)


def test_one_group_for_all_inputs_and_a_quantize_config(tmp_path):
    weights, codes, zeros, scales = quantised(group=40)
    write(tmp_path, gptq_tensors(LAYER, codes, zeros, scales, 40))
    (tmp_path / "quantize_config.json").write_text('{"bits": 4, "group_size": -1}')
    layer = open_int4(tmp_path).layer(LAYER)
    assert layer.group_size == 40
    assert_layer(layer, weights, codes, zeros, scales)


@pytest.mark.parametrize("offset", [0, 1])
def test_symmetric_files_are_read_by_what_they_store(tmp_path, offset):
    _, codes, zeros, scales = quantised()
    zeros[:] = 8
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": True, "checkpoint_format": "gptq"}
    write(tmp_path, gptq_tensors(LAYER, codes, zeros, scales, 16, offset), **settings)
    assert open_int4(tmp_path).layer(LAYER).zeros.unique().tolist() == [8]


def test_act_order_is_refused(tmp_path):
    _, codes, zeros, scales = quantised(group=8)
    tensors = gptq_tensors(LAYER, codes, zeros, scales, 8)
    tensors[f"{LAYER}.g_idx"] = tensors[f"{LAYER}.g_idx"].flip(0).contiguous()
    write(tmp_path, tensors)
    pattern = rf": layer {LAYER}: g_idx reorders the inputs \(act-order, desc_act\), which is not supported; "
    with pytest.raises(InputError, match=pattern):
        open_int4(tmp_path).layer(LAYER)


def test_a_zero_of_0_borrows_from_the_next_of_its_word():
    _, codes, zeros, scales = quantised(group=8)
    zeros[:8, 0] = [0, 8, 8, 8, 8, 8, 8, 8]
    zeros[8:16, 0] = 0
    tensors = gptq_tensors(LAYER, codes, zeros, scales, 8)
    parts = [tensors[f"{LAYER}.{part}"] for part in ("qweight", "qzeros", "scales")]
    assert [hex(int(word) % 2**32) for word in parts[1][0, :2]] == ["0x7777776f", "0xeeeeeeef"]
    assert from_gptq("x", *parts).zeros.tolist() == zeros.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *[({"bits": bits}, f"bits is {bits}; only 4-bit weights are supported") for bits in (2, 3, 8)],
        (
            {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"},
            "checkpoint_format is 'marlin'; supported ",
        ),
        ({"quant_method": "hqq"}, "quant_method is 'hqq'; allowed for INT4 layers are 'gptq' and 'awq'"),
        ({"quant_method": "awq", "version": "gemv"}, "the AWQ version is 'gemv'; only 'gemm' is supported"),
        ({"group_size": 0}, "group_size is 0; allowed are -1 (one group) and integers from 1"),
        ({"group_size": "128"}, "group_size is '128'; allowed are"),
        (
            {"rotation": "hadamard"},
            "the setting quantization_config.rotation is 'hadamard', and Nomul does not",
        ),
        ({"lm_head": True}, "lm_head is True, which is not supported; supported is False"),
        (
            {"quant_method": "awq", "zero_point": False},
            "zero_point is False, which is not supported; supported is",
        ),
        ({"dynamic": {"+:x": {}}}, "the quantisation has settings per module ('dynamic'), which are not supported"),
    ],
)
def test_settings_that_are_not_supported(tmp_path, settings, message):
    _, codes, zeros, scales = quantised(group=8)
    write(tmp_path, gptq_tensors(LAYER, codes, zeros, scales, 8), **settings)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: {re.escape(message)}"):
        open_int4(tmp_path)


def test_broken_files(tmp_path):
    _, codes, zeros, scales = quantised(group=8)
    tensors = gptq_tensors(LAYER, codes, zeros, scales, 8)
    write(tmp_path, {name: tensor for name, tensor in tensors.items() if not name.endswith("scales")})
    with pytest.raises(InputError, match=rf": layer {LAYER} has no tensor {LAYER}.scales$"):
        open_int4(tmp_path)
    write(tmp_path, {**tensors, f"{LAYER}.qweight": tensors[f"{LAYER}.qweight"].float()})
    with pytest.raises(InputError, match=r"qweight is F32 \[5, 24\], but an I32 matrix is needed$"):
        open_int4(tmp_path)
    write(tmp_path, {**tensors, f"{LAYER}.qzeros": tensors[f"{LAYER}.qzeros"][:, :1].contiguous()})
    with pytest.raises(InputError, match=r"qzeros \[5, 1\] and scales \[5, 24\] do not fit together as 4-bit GPTQ$"):
        open_int4(tmp_path).layer(LAYER)
    write(tmp_path, tensors, quant_method="awq", bits=4)
    with pytest.raises(InputError, match=r"do not fit together as 4-bit AWQ$"):
        open_int4(tmp_path).layer(LAYER)
    write(tmp_path, tensors, quant_method="gptq", bits=4, group_size=32)
    with pytest.raises(InputError, match=r": 40 inputs do not make 5 groups of group_size 32$"):
        open_int4(tmp_path).layer(LAYER)
    bad = {**tensors, f"{LAYER}.scales": tensors[f"{LAYER}.scales"].clone()}
    bad[f"{LAYER}.scales"][2, 3] = float("nan")
    write(tmp_path, bad, quant_method="gptq", bits=4, group_size=8)
    with pytest.raises(InputError, match=r": the scale at \[3, 2\] is nan$"):
        open_int4(tmp_path).layer(LAYER)
    with pytest.raises(InputError, match=r"has no layer 'up'; did you mean model.layers.0.mlp.up_proj\?$"):
        open_int4(tmp_path).layer("up")
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r": there are no INT4 layers here: no tensor is named <layer>.qweight$"):
        open_int4(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": torch.full((2, 8), 16, dtype=torch.uint8)}, "the code 16 at [0, 0] is not in 0 to 15"),
        ({"codes": torch.zeros((2, 8))}, "the codes are torch.float32 [2, 8], but a non-empty torch.uint8"),
        ({"zeros": torch.full((2, 2), 17, dtype=torch.uint8)}, "the zero 17 at [0, 0] is not in 0 to 15"),
        ({"zeros": torch.zeros((2, 2))}, "zeros are torch.float32 and scales torch.float32, but torch.uint8 and"),
        ({"scales": torch.ones((2, 3))}, "the scales are [2, 3], but 8 inputs in groups of 4 need [2, 2]"),
        ({"group_size": 0}, "group_size is 0, but it must be 1 or more"),
    ],
)
def test_wrong_layers(change, message):
    codes, zeros = torch.zeros((2, 8), dtype=torch.uint8), torch.zeros((2, 2), dtype=torch.uint8)
    right = {"name": "x", "codes": codes, "zeros": zeros, "scales": torch.ones((2, 2)), "group_size": 4}
    assert Int4Layer(**right).dequantise().tolist() == [[0.0] * 8] * 2
    with pytest.raises(InputError, match=rf"^layer x: {re.escape(message)}"):
        Int4Layer(**{**right, **change})


def test_words_of_another_type():
    words32, scales = torch.zeros((1, 8), dtype=torch.int32), torch.ones((1, 8))
    with pytest.raises(
        InputError, match=r"^layer x: qzeros is torch.int64 \[1, 1\], but a torch.int32 matrix is needed"
    ):
        from_awq("x", words32, torch.zeros((1, 1), dtype=torch.int64), scales)
    with pytest.raises(InputError, match=r"^layer x: scales is torch.int32 \[1, 8\], but a floating-point matrix is"):
        from_gptq("x", words32, words32, words32)
