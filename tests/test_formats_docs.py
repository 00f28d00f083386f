"""Every vector of docs/formats.md, checked against the code."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nomul.catalog import pack_activations
from nomul.cores.mixpe import layout as mixpe_layout
from nomul.engines.bwta import BwtaConfig
from nomul.engines.mixpe import MixpeConfig
from nomul.formats import (
    baseline,
    bitnet,
    boothflex,
    boothflex_bs,
    bwta,
    dense,
    fp16,
    gguf_blocks,
    mixpe,
    plane_words,
    tint,
    tlmm,
)
from nomul.formats.checkpoint import save_dense
from nomul.formats.gguf_names import unpermuted
from nomul.formats.int4 import from_awq, from_gptq
from nomul.formats.ternary import TernaryLayer
from nomul.golden import threshold

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
BLOCKS = dict(
    re.findall(r"<!-- vectors: (\w+) -->\n```text\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
)


def lines(block):
    return BLOCKS[block].splitlines()


def pairs(block):
    """The two sides of each line, split into words."""
    return [tuple(side.split() for side in line.split(" : ")) for line in lines(block)]


def trits(words):
    return torch.tensor([int(word) for word in words], dtype=torch.int8)


def matrix_of(words):
    return torch.stack([trits(row.split()) for row in " ".join(words).split("/")])


def octets(words):
    return torch.tensor([int(word, 16) for word in words], dtype=torch.uint8)


def word32(text):
    return torch.tensor(np.array([[int(text, 16)]], np.uint32).view(np.int32))


def test_every_block_has_a_test():
    assert sorted(BLOCKS) == [
        "absmean",
        "awq",
        "baseline",
        "bitnet",
        "boothflex",
        "boothflex_bs",
        "bwta",
        "dense",
        "file",
        "fp16",
        "gguf",
        "gguf_rows",
        "gptq",
        "mixpe",
        "planes",
        "scale",
        "threshold",
        "tint",
        "tlmm",
    ]


@pytest.mark.parametrize(("weights", "packed"), pairs("dense"))
def test_dense(weights, packed):
    assert torch.equal(dense.pack(trits(weights)), octets(packed))
    assert torch.equal(dense.unpack(octets(packed), len(weights)), trits(weights))


def test_dense_file(tmp_path):
    length, header, data = lines("file")
    weight = torch.tensor([[1, 0, -1, 0, 1, 1], [-1, -1, 0, 1, 0, 0]], dtype=torch.int8)
    norm = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    path = tmp_path / "x.safetensors"
    save_dense(path, [TernaryLayer("proj", weight, 0.75)], {"norm.weight": norm}, {"name": "tiny"})
    assert path.read_bytes() == bytes.fromhex(length) + header.encode() + b" " + bytes.fromhex(data)


@pytest.mark.parametrize(("weights", "packed"), pairs("bitnet"))
def test_bitnet(weights, packed):
    assert torch.equal(bitnet.pack(trits(weights)), octets(packed))
    assert torch.equal(bitnet.unpack(octets(packed), len(weights)), trits(weights))


@pytest.mark.parametrize(("said", "stored", "direction", "factor"), [line.split() for line in lines("scale")])
def test_scale(said, stored, direction, factor):
    configs = {"-": {}, "bitnet": {"quantization_config": {"quant_method": "bitnet"}}}
    config = configs.get(said, {"quantization_config": {"quant_method": "bitnet", "linear_class": said}})
    decided, _ = bitnet.scale_direction(config, [float(stored)])
    assert decided.value == direction
    assert decided.factor(float(stored)) == np.float32(factor)


@pytest.mark.parametrize(("values", "result"), pairs("absmean"))
def test_absmean(values, result):
    layer = bitnet.ternarise("x", torch.tensor([[float(value) for value in values]]))
    assert torch.equal(layer.weight[0], trits(result[:-1]))
    assert layer.scale == np.float32(result[-1])


@pytest.mark.parametrize(("values", "word"), pairs("gptq"))
def test_gptq(values, word):
    kind, *values = values
    expected = [int(value) for value in values]
    if kind == "codes":
        layer = from_gptq("x", word32(word[0]).repeat(1, 8), word32("0"), torch.ones((1, 8)))
        assert layer.codes.tolist() == [expected] * 8
    else:
        offset = {"gptq": 1, "gptq_v2": 0}[kind]
        qweight = torch.zeros((1, 8), dtype=torch.int32)
        layer = from_gptq("x", qweight, word32(word[0]), torch.ones((1, 8)), zero_offset=offset)
        assert layer.zeros[:, 0].tolist() == expected


@pytest.mark.parametrize(("values", "word"), pairs("awq"))
def test_awq(values, word):
    kind, *values = values
    expected = [int(value) for value in values]
    qweight, qzeros = (word32(word[0]), word32("0")) if kind == "codes" else (word32("0"), word32(word[0]))
    layer = from_awq("x", qweight, qzeros, torch.ones((1, 8)))
    assert (layer.codes if kind == "codes" else layer.zeros)[:, 0].tolist() == expected


@pytest.mark.parametrize(("block", "weights"), pairs("gguf"))
def test_gguf(block, weights):
    kind = next(number for number in gguf_blocks.TYPES if gguf_blocks.type_name(number) == block[0])
    runs = [word.partition("*") for word in block[1:]]
    data = np.array([int(octet, 16) for octet, _, count in runs for _ in range(int(count or 1))], np.uint8)
    found = gguf_blocks.TYPES[kind]
    layer = gguf_blocks.decode_layer("x", kind, data, (1, found.weights), found)
    assert len(data) == gguf_blocks.size(kind, (1, found.weights))
    for place, weight in (word.split("=") for word in weights):
        assert layer.dequantise()[0, int(place)] == float(weight), place


@pytest.mark.parametrize(("sizes", "order"), pairs("gguf_rows"))
def test_gguf_rows(sizes, order):
    assert unpermuted(*map(int, sizes)).tolist() == [int(row) for row in order]


@pytest.mark.parametrize(("values", "words"), pairs("planes"))
def test_planes(values, words):
    kind, *values = values
    expected = [int(word, 16) for word in words]
    if kind == "binary":
        numbers = torch.tensor([float(value) for value in values])
        assert plane_words.pack_binary(numbers).tolist() == expected
    elif kind == "ternary":
        assert [plane.item() for plane in plane_words.pack_ternary(trits(values))] == expected
    else:
        scale, *values = (float(value) for value in values)
        quantised = plane_words.quantise_ternary(torch.tensor(values), scale)
        assert [plane.item() for plane in plane_words.pack_ternary(quantised)] == expected


@pytest.mark.parametrize(("stream", "transfers"), pairs("tlmm"))
def test_tlmm(stream, transfers):
    group, tables, rows, form, *matrix = stream
    weight = matrix_of(matrix)
    sizes = {"group": int(group), "tables": int(tables), "rows": int(rows)}
    packed = (
        tlmm.pack_dense(weight, **sizes, units=1)
        if form == "dense"
        else tlmm.pack(weight, **sizes, half=form == "half")
    )
    assert packed.reshape(-1).tolist() == octets(transfers).tolist()


@pytest.mark.parametrize(("stream", "transfers"), pairs("tint"))
def test_tint(stream, transfers):
    lanes, rows, form, *matrix = stream
    weight = matrix_of(matrix)
    corrected = 8 if form == "cells" else None
    steps = tint.steps(weight, lanes=int(lanes), rows=int(rows), corrected=corrected)
    packed = tint.pack_dense(steps, units=1) if form == "dense" else tint.pack(steps, corrected)
    assert packed.reshape(-1).tolist() == octets(transfers).tolist()


@pytest.mark.parametrize("line", lines("threshold"))
def test_threshold(line):
    given, packed = line.split(" : ")
    mode, scale, *values = given.split()
    codes = getattr(threshold, mode)(torch.tensor([[int(value) for value in values]]), int(scale))
    expected = [[int(octet, 16) for octet in transfer.split()] for transfer in packed.split("|")]
    assert pack_activations(BwtaConfig(lanes_in=4, rows=2), codes).tolist() == expected


@pytest.mark.parametrize(("stream", "transfers"), pairs("baseline"))
def test_baseline(stream, transfers):
    lanes, rows, form, *matrix = stream
    packed = baseline.pack(baseline.steps(matrix_of(matrix), lanes=int(lanes), rows=int(rows)), form == "cells")
    assert packed.reshape(-1).tolist() == octets(transfers).tolist()


@pytest.mark.parametrize(("stream", "transfers"), pairs("boothflex"))
def test_boothflex(stream, transfers):
    lanes, rows, mode, form, *matrix = stream
    steps = boothflex.steps(matrix_of(matrix), lanes=int(lanes), rows=int(rows), ternary=mode == "ternary")
    assert boothflex.pack(steps, form == "cells").reshape(-1).tolist() == octets(transfers).tolist()


@pytest.mark.parametrize(("stream", "transfers"), pairs("boothflex_bs"))
def test_boothflex_bs(stream, transfers):
    lanes, rows, digits, *matrix = stream
    most = 1 << (2 * int(digits) - 1)
    sizes = {"lanes": int(lanes), "rows": int(rows), "digits": int(digits)}
    packed = boothflex_bs.pack(boothflex_bs.steps(matrix_of(matrix), **sizes, low=-most, high=most - 1))
    assert packed.reshape(-1).tolist() == octets(transfers).tolist()


@pytest.mark.parametrize("line", lines("bwta"))
def test_bwta(line):
    given, packed = line.split(" : ")
    kind, *values = given.split(maxsplit=1)
    rows = [[int(value) for value in row.split()] for row in values[0].split("/")]
    expected = [[int(octet, 16) for octet in transfer.split()] for transfer in packed.split("|")]
    if kind == "activations":
        got = pack_activations(BwtaConfig(lanes_in=4, rows=2), torch.tensor(rows))
    else:
        binary = kind == "binary"
        steps = bwta.steps(torch.tensor(rows, dtype=torch.int8), lanes=4, rows=2, binary=binary)
        got = bwta.pack(steps, binary=binary, lines=kind == "cells")
    assert got.tolist() == expected


def transfers(words):
    """Transfers as the document writes them: bytes of each, `|` between two."""
    return [bytes.fromhex(word) for word in " ".join(words).split(" | ")]


@pytest.mark.parametrize(("group", "packed"), pairs("mixpe"))
def test_mixpe(group, packed):
    target, first, second, _, zero, _, scale = group
    config = MixpeConfig(lanes_in=2, rows=1, group=2, target=target, n_in_max=2, n_out_max=1)
    codes = torch.tensor([[int(first), int(second)]], dtype=torch.int8)
    operands = mixpe.GroupQuantized(codes, torch.tensor([[int(zero)]]), torch.tensor([[int(scale)]]), 2)
    stream = mixpe.pack(operands, mixpe_layout(config))
    assert [row.tobytes() for row in stream] == transfers(packed)


@pytest.mark.parametrize(("matrix", "packed"), pairs("fp16"))
def test_fp16(matrix, packed):
    lanes, rows, bits, *weights = matrix
    base = 10 if bits == "4" else 16
    whole = [[int(word, base) for word in row.split()] for row in " ".join(weights).split("/")]
    signed = torch.tensor(whole) if bits == "4" else (torch.tensor(whole) ^ 0x8000) - 0x8000
    stream = fp16.pack(signed, lanes=int(lanes), rows=int(rows), bits=int(bits))
    assert [row.tobytes() for row in stream] == transfers(packed)
