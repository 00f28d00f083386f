"""The Hugging Face BitNet layout: four ternary weights in a byte, along the outputs.

With R = ceil(n_out / 4), byte `packed[r, c]` holds the weights of rows r, r + R, r + 2R and r + 3R of column c, from
the low bits up, two bits each: code 0 is -1, 1 is 0, 2 is +1. Code 3 means nothing and is refused. The rows after
n_out, where n_out is not a multiple of four, have code 0.

Beside the weight stands one `weight_scale`, in one of two directions: classes named `autobitlinear` keep mean|W| and
multiply by it, classes named `bitlinear` keep 1 / mean|W| and divide by it.

Source: transformers, src/transformers/integrations/bitnet.py (pack_weights, BitLinear, AutoBitLinear).
"""

import enum
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.ternary import TernaryLayer, check_trits

TRITS_PER_BYTE = 4
"""Weights in one byte."""

DIVIDE_ABOVE = 5.0
"""Median weight_scale above which a file that says nothing is read as 1 / mean|W|."""


class ScaleDirection(enum.Enum):
    """How a file's weight_scale enters the output."""

    MULTIPLY = "multiply"
    """y = acc * weight_scale / s_x (autobitlinear, weight_scale = mean|W|)."""

    DIVIDE = "divide"
    """y = acc / (weight_scale * s_x) (bitlinear, weight_scale = 1 / mean|W|)."""

    def factor(self, weight_scale: float) -> float:
        """Return the factor that multiplies the accumulator, as a float32 value."""
        return float(np.float32(weight_scale if self is ScaleDirection.MULTIPLY else 1 / weight_scale))


def pack(trits: Tensor) -> Tensor:
    """Pack int8 [n_out, ...] with values -1, 0, +1 into uint8 [ceil(n_out / 4), ...].

    Raises `InputError` for another type or value; the message says which value and where.
    """
    if trits.dtype != torch.int8 or trits.ndim == 0:
        raise InputError(f"trits are a torch.int8 tensor [n_out, ...], not {trits.dtype} {list(trits.shape)}")
    check_trits(trits)
    n_out = trits.shape[0]
    rows = -(-n_out // TRITS_PER_BYTE)
    codes = np.zeros((rows * TRITS_PER_BYTE, *trits.shape[1:]), np.uint8)
    codes[:n_out] = trits.numpy() + 1
    packed = codes[:rows].copy()
    for i in range(1, TRITS_PER_BYTE):
        packed |= codes[i * rows : (i + 1) * rows] << (2 * i)
    return torch.from_numpy(packed)


def unpack(packed: Tensor, n_out: int | None = None) -> Tensor:
    """Unpack uint8 [R, ...] into int8 [n_out, ...]; the inverse of `pack`.

    `n_out` is 4 * R unless it is given; the layout itself does not say.
    Raises `InputError` for another type, a length that does not fit, and code 3; the message says which byte and where.
    """
    if packed.dtype != torch.uint8 or packed.ndim == 0:
        raise InputError(f"packed weights are a torch.uint8 tensor [R, ...], not {packed.dtype} {list(packed.shape)}")
    rows = packed.shape[0]
    n_out = rows * TRITS_PER_BYTE if n_out is None else n_out
    if -(-n_out // TRITS_PER_BYTE) != rows:
        raise InputError(
            f"{n_out} outputs take {-(-n_out // TRITS_PER_BYTE)} rows of packed weights, but there are {rows}"
        )
    octets = packed.numpy()
    wrong = octets & (octets >> 1) & 0x55
    if wrong.any():
        where = np.argwhere(wrong)[0].tolist()
        byte = int(packed[tuple(where)])
        digit = next(i for i in range(TRITS_PER_BYTE) if byte >> 2 * i & 3 == 3)
        raise InputError(
            f"byte {byte:#04x} at {where} has the 2-bit code 3 in bits {2 * digit + 1}:{2 * digit}; "
            f"allowed are 0 (-1), 1 (0) and 2 (+1)"
        )
    codes = np.empty((rows * TRITS_PER_BYTE, *packed.shape[1:]), np.uint8)
    for i in range(TRITS_PER_BYTE):
        np.right_shift(octets, 2 * i, out=codes[i * rows : (i + 1) * rows])
    codes &= 3
    codes -= 1
    return torch.from_numpy(codes.view(np.int8)[:n_out])


def trits(values: Tensor) -> Tensor:
    """Return floats that are -1, 0 and +1 as int8; `InputError` for any other, which says which value and where."""
    found = values.float()
    wrong = found.abs().ne(1) & found.ne(0)
    if bool(wrong.any()):
        where = wrong.nonzero()[0].tolist()
        raise InputError(
            f"the weight at {where} is {float(found[tuple(where)]):.6g}, but beside a weight_scale weights are packed "
            f"or -1, 0 and +1"
        )
    return found.to(torch.int8)


def ternarise(name: str, weight: Tensor) -> TernaryLayer:
    """Ternarise the float master weights [n_out, n_in] of a layer by absmean.

    With s = 1 / max(mean|W|, 1e-5), the weights are clamp(round_half_even(W * s), -1, 1) and the scale is 1 / s, all
    in float32 as in transformers (WeightQuant). Raises `InputError` if a weight is NaN or infinite.
    """
    values = weight.float()
    if not bool(torch.isfinite(values).all()):
        where = (~torch.isfinite(values)).nonzero()[0].tolist()
        raise InputError(f"layer {name}: the master weight at {where} is {float(values[tuple(where)])}")
    inverse = 1.0 / values.abs().mean().clamp_(min=1e-5)
    return TernaryLayer(name, (values * inverse).round_().clamp_(-1, 1).to(torch.int8), float(1 / inverse))


def read_scale(name: str, weight_scale: Tensor) -> float:
    """Return the one value of a weight_scale tensor.

    Raises `InputError`, naming the layer, for more than one value, an integer type, NaN, infinity, zero or less.
    """
    if weight_scale.numel() != 1 or not weight_scale.is_floating_point():
        raise InputError(
            f"layer {name}: weight_scale is {weight_scale.dtype} {list(weight_scale.shape)}; "
            f"one floating-point value is needed, since a scale per row or group is not supported"
        )
    value = float(weight_scale)
    if not (math.isfinite(value) and value > 0 and math.isfinite(np.float32(1 / value))):
        raise InputError(f"layer {name}: weight_scale is {value}, but it must be finite and greater than 0")
    return value


def scale_direction(config: Mapping[str, Any], scales: Sequence[float]) -> tuple[ScaleDirection, str]:
    """Decide how a file's scales enter the output, and say why in a sentence.

    The first rule that applies decides:

    1. `quantization_config.linear_class` of config.json: `autobitlinear` multiplies, `bitlinear` divides.
    2. A `quantization_config` of method `bitnet` without a linear_class divides; transformers takes `bitlinear` then.
    3. Nothing is said: divide if the median of `scales` is above 5, multiply otherwise. This is a guess: an
       ordinary mean|W| is expected to be 0.005 to 0.1, with a reciprocal of 10 to 200, but bitnet-b1.58-2B-4T
       multiplies and has scales above 1 (1.555 is quoted in microsoft/BitNet pull request 616).

    Raises `InputError` for a linear_class that is neither.
    """
    quantization = config.get("quantization_config")
    if isinstance(quantization, Mapping) and quantization.get("linear_class") is not None:
        linear_class = quantization["linear_class"]
        if linear_class == "autobitlinear":
            return ScaleDirection.MULTIPLY, "the scale multiplies: config.json says linear_class autobitlinear"
        if linear_class == "bitlinear":
            return ScaleDirection.DIVIDE, "the scale divides: config.json says linear_class bitlinear"
        raise InputError(
            f"quantization_config.linear_class is {linear_class!r}; allowed are 'autobitlinear' and 'bitlinear'"
        )
    if isinstance(quantization, Mapping) and quantization.get("quant_method") == "bitnet":
        return (
            ScaleDirection.DIVIDE,
            "the scale divides: config.json says quant_method bitnet and no linear_class, whose default is bitlinear",
        )
    median = statistics.median(scales) if scales else 0.0
    direction = ScaleDirection.DIVIDE if median > DIVIDE_ABOVE else ScaleDirection.MULTIPLY
    relation = "above" if direction is ScaleDirection.DIVIDE else "not above"
    return direction, (
        f"the scale {direction.value.replace('multiply', 'multiplie')}s: nothing says which, "
        f"and the median weight_scale {median:.4g} is {relation} {DIVIDE_ABOVE:g}"
    )
