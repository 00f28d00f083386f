"""Blocks of weights as ggml stores them, decoded into codes and scales; each scale is fp16 `d`, for a block of a row.

A row is a whole number of blocks. With the weights of a block counted from 0:

| type | weights | bytes | a weight |
|---|---|---|---|
| Q1_0 | 128 | d, 16 | bit i % 8 of byte i // 8: 1 is +d, 0 is -d |
| Q2_0 | 64 | d, 16 | q = bits 2(i % 4) up of byte i // 4; (q - 1) d, so that 3 is 2 d |
| Q2_0 of Prism's fork | 128 | d, 32 | the same, under the same number 42; only the size of the tensor tells |
| TQ1_0 | 256 | 48, 4, d | five trits in a byte, then four: below |
| TQ2_0 | 256 | 64, d | q = bits 2p up of byte 32h + j of half h, i = 128h + 32p + j; (q - 1) d |
| I2_S | 128 | 32 | q = bits 6 - 2p up of byte j, i = 32p + j; (q - 1) s, s being the one scale: below |
| Q4_0 | 32 | d, 16 | q = low nibble of byte i, or high nibble of byte i - 16; (q - 8) d |

TQ1_0: a byte is ceil(256 v / 243), v having five ternary digits, first digit highest; multiplying by 3 carries the next
digit out of the top. Bytes 0 to 31 hold the weights 32k + j as digit k of byte j, bytes 32 to 47 the weights
160 + 16k + j, bytes 48 to 51 the weights 240 + 4k + j, of four digits. Digit 0 is -1.

I2_S, of bitnet.cpp: 32 bytes follow the codes of the whole tensor, and begin with the scale as float32. This is the
order that x86 writes; ARM has blocks of 64 in 16 bytes, and nothing in a file says which it is.

A negative d is a positive one with the codes mirrored, which is the same weights exactly.

Sources: ggml, src/ggml-common.h and ggml-quants.c; bitnet.cpp, src/ggml-bitnet-mad.cpp; Prism's fork of llama.cpp.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import gguf
import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.gguf_file import Octets
from nomul.formats.gguf_names import Order
from nomul.formats.int4 import Int4Layer
from nomul.formats.ternary import TernaryLayer

Q2_0, I2_S = 42, 36
"""Numbers of types that gguf 0.19 does not know."""

NAMES = {I2_S: "I2_S", 38: "TL1", Q2_0: "Q2_0", 142: "PQ2_0", 143: "PTQ1_0"}
"""What else is met: bitnet.cpp's and Prism's own. bitnet.cpp's TL2 has the number of ggml's MXFP4."""

TAIL = 32
"""Bytes after the codes of an I2_S tensor."""

Layer = TernaryLayer | Int4Layer


@dataclass(frozen=True)
class BlockType:
    """How a type that has codes is stored.

    Members
    -------
    weights, octets : weights and bytes of a block.
    decode : returns a layer of a name and its bytes [n_out, blocks, octets].
    """

    weights: int
    octets: int
    decode: Callable[[str, Octets], Layer]


def type_name(kind: int) -> str:
    """Return what a type is called."""
    known = {value.value: value.name for value in gguf.GGMLQuantizationType}
    return NAMES.get(kind) or known.get(kind) or f"of the type {kind}"


def size(kind: int, shape: tuple[int, ...], block: BlockType | None = None) -> int | None:
    """Return the bytes of a tensor, without padding; None for a type of unknown size.

    Raises `InputError` if a row is no whole number of blocks.
    """
    block = block or TYPES.get(kind)
    if block is None and kind not in {value.value for value in gguf.GGMLQuantizationType}:
        return None
    sizes = (block.weights, block.octets) if block else gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    weights, octets = sizes
    count = math.prod(shape)
    if shape[-1] % weights:
        raise InputError(f"a row of {shape[-1]} weights is no multiple of the {weights} of a {type_name(kind)} block")
    return count // weights * octets + (TAIL if kind == I2_S else 0)


def decode_layer(
    name: str, kind: int, data: Octets, shape: tuple[int, int], block: BlockType, order: Order | None = None
) -> Layer:
    """Decode the bytes of a layer; `order` says which stored row each row is.

    Raises `InputError` for a scale that is not finite, or a code that has no meaning.
    """
    codes = data[: len(data) - TAIL] if kind == I2_S else data
    rows = codes.reshape(shape[0], shape[1] // block.weights, block.octets)
    rows = rows if order is None else rows[order]
    layer = block.decode(name, rows)
    if kind != I2_S:
        return layer
    assert isinstance(layer, TernaryLayer)
    return TernaryLayer(name, layer.weight, float(np.frombuffer(data[-TAIL:].tobytes(), "<f4", 1)[0]))


def has_twos(data: Octets) -> bool:
    """Say whether one of the codes of Q2_0 blocks is 3; `data` is [blocks, octets]."""
    packed = data[:, 2:]
    return any(bool((part & (part >> 1) & 0x55).any()) for part in np.array_split(packed, max(1, packed.size >> 24)))


def dense(kind: int, data: Octets, shape: tuple[int, ...], block: BlockType | None) -> Tensor:
    """Return a tensor as floats: of its own type if it is one, otherwise the weights, float32.

    Raises `InputError` for a type that neither Nomul nor the library decodes.
    """
    octets = np.array(data)
    if kind in _FLOATS:
        return torch.from_numpy(octets).view(_FLOATS[kind]).reshape(shape)
    if block is not None:
        flat = (math.prod(shape[:-1]), shape[-1])
        return decode_layer("", kind, octets, flat, block).dequantise().reshape(shape)
    try:
        found = gguf.GGMLQuantizationType(kind)
        weights = gguf.quants.dequantize(octets.reshape(*shape[:-1], -1), found)
    except (ValueError, NotImplementedError):
        raise InputError(f"it is {type_name(kind)}, which neither Nomul nor gguf {_version()} decodes") from None
    return torch.from_numpy(np.array(weights, np.float32)).reshape(shape)


_FLOATS = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}


def _version() -> str:
    return version("gguf")


def _halves(octets: Octets) -> Tensor:
    """Return the fp16 numbers of pairs of bytes [..., 2], as float32 [...]."""
    values = np.ascontiguousarray(octets).view("<f2")[..., 0]
    return torch.from_numpy(values.astype(np.float32))


def _ternary(name: str, codes: Octets, scales: Tensor) -> TernaryLayer:
    """Return a layer of codes 0 to 2 [n_out, blocks, weights], a scale for each block."""
    rows, _, group = codes.shape
    weight = torch.from_numpy(codes.astype(np.int8) - np.int8(1))
    weight = torch.where((scales < 0)[..., None], -weight, weight)
    return TernaryLayer(name, weight.reshape(rows, -1), scales.abs(), group)


def _int4(name: str, codes: Octets, zero: int, most: int, scales: Tensor) -> Int4Layer:
    """Return a layer of codes 0 to `most` about `zero`; where a scale is negative, codes are counted from the top."""
    rows, _, group = codes.shape
    found, mirrored = torch.from_numpy(codes.astype(np.uint8)), scales < 0
    found = torch.where(mirrored[..., None], most - found, found)
    zeros = torch.where(mirrored, most - zero, zero).to(torch.uint8)
    return Int4Layer(name, found.reshape(rows, -1), zeros, scales.abs(), group)


def _q1_0(name: str, rows: Octets) -> Layer:
    bits = np.unpackbits(rows[..., 2:], axis=-1, bitorder="little")
    return _ternary(name, bits * np.uint8(2), _halves(rows[..., :2]))


def _q2_0(name: str, rows: Octets) -> Layer:
    codes = _fields(rows[..., 2:, None], (0, 2, 4, 6)).reshape(*rows.shape[:2], -1)
    scales = _halves(rows[..., :2])
    return _int4(name, codes, 1, 3, scales) if codes.max() > 2 else _ternary(name, codes, scales)


def _tq1_0(name: str, rows: Octets) -> Layer:
    runs = [(rows[..., :32], 5), (rows[..., 32:48], 5), (rows[..., 48:52], 4)]
    powers = np.array([1, 3, 9, 27, 81], np.uint8)
    digits = [(run[..., None, :] * powers[:count, None]).reshape(*run.shape[:-1], -1) for run, count in runs]
    carried = np.concatenate(digits, axis=-1).astype(np.uint16) * np.uint16(3) >> 8
    return _ternary(name, carried.astype(np.uint8), _halves(rows[..., 52:]))


def _tq2_0(name: str, rows: Octets) -> Layer:
    halves = rows[..., :64].reshape(*rows.shape[:2], 2, 1, 32)
    codes = _fields(halves, np.array([0, 2, 4, 6])[:, None]).reshape(*rows.shape[:2], -1)
    return _ternary(name, codes, _halves(rows[..., 64:]))


def _i2_s(name: str, rows: Octets) -> Layer:
    codes = _fields(rows[..., None, :], np.array([6, 4, 2, 0])[:, None]).reshape(*rows.shape[:2], -1)
    return _ternary(name, codes, torch.ones(codes.shape[:2]))


def _q4_0(name: str, rows: Octets) -> Layer:
    packed = rows[..., 2:]
    codes = np.concatenate([packed & 15, packed >> 4], axis=-1)
    return _int4(name, codes, 8, 15, _halves(rows[..., :2]))


def _fields(octets: Octets, shifts: object) -> Octets:
    """Return two bits of each byte at each shift."""
    return (octets >> np.asarray(shifts, np.uint8)) & np.uint8(3)


TYPES = {
    41: BlockType(128, 18, _q1_0),
    Q2_0: BlockType(64, 18, _q2_0),
    34: BlockType(256, 54, _tq1_0),
    35: BlockType(256, 66, _tq2_0),
    I2_S: BlockType(128, 32, _i2_s),
    2: BlockType(32, 18, _q4_0),
}
"""Types whose weights are codes and scales exactly, by number."""

PRISM_Q2_0 = BlockType(128, 34, _q2_0)
"""What Prism's fork of llama.cpp calls Q2_0."""
