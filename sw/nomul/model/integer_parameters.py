"""Parameters of a model as the integers of its integer form: projections, norms, and matrices on INT8 grids."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nomul.golden.absmax import CODE_MAX, absmax
from nomul.golden.linear import GROUP_SCALE_BITS, scaled_linear
from nomul.golden.requantise import WORD_BITS, requantise
from nomul.golden.rmsnorm import norm_words, rmsnorm_absmax
from nomul.golden.rounding import saturate
from nomul.golden.scale import Scale, constant, multiply, normalise
from nomul.model.products import ternary_product
from nomul.model.transformer import Linear, Norm

__all__ = ["IntegerLinear", "IntegerNorm", "int8_rows", "int8_tensor", "quantise_words"]

ONE = constant(1.0)


def int8_tensor(values: Tensor) -> tuple[Tensor, float]:
    """Return INT8 codes of a whole tensor and the real value of one: `max|v| / 127`."""
    unit = max(values.detach().abs().max().item(), 1e-30) / CODE_MAX
    parts = [(part.double() / unit).round().to(torch.int8) for part in values.detach().split(4096)]
    return torch.cat(parts), unit


def int8_rows(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return INT8 codes of each row of a matrix, integer scales of the rows, and the real value of one unit of both.

    `values[r] = codes[r] * scales[r] * unit`, scales from 1 to 2^12 - 1 (`GROUP_SCALE_BITS`); each row's codes are made
    for its rounded scale.
    """
    largest = values.detach().float().abs().amax(1)
    unit = max(largest.max().item(), 1e-30) / CODE_MAX / ((1 << GROUP_SCALE_BITS) - 1)
    scales = (largest.double() / CODE_MAX / unit).ceil().clamp(1, (1 << GROUP_SCALE_BITS) - 1)
    parts = zip(values.detach().split(4096), scales.split(4096), strict=True)
    codes = torch.cat([
        (part.double() / (scale * unit)[:, None]).round().clamp(-CODE_MAX, CODE_MAX).to(torch.int8)
        for part, scale in parts
    ])  # fmt: skip
    return codes, scales.long(), unit


@dataclass(frozen=True, eq=False)
class IntegerNorm:
    """Parameters of a fused norm: gains, their unit over 127, 1 / n, and eps in units of the squared input."""

    gain: Tensor
    unit: Scale
    inverse_length: Scale
    eps: Scale
    real_eps: float

    @classmethod
    def of(cls, norm: Norm, position: int) -> "IntegerNorm":
        """Quantise a norm whose input has a fixed-point position (0 for one whose scale is known only at run time)."""
        codes, unit = int8_tensor(norm.weight)
        codes = codes.long()
        eps = constant(norm.eps * 4.0**position)
        return cls(codes, constant(unit / CODE_MAX), constant(1 / len(codes)), eps, norm.eps)

    def apply(self, x: Tensor, eps: Scale | None = None) -> tuple[Tensor, Scale]:
        """Return codes `[..., n]` and scales `[...]`."""
        return rmsnorm_absmax(x, self.gain, self.unit, self.inverse_length, eps or self.eps)

    def words(self, sums: Tensor, eps: Scale) -> tuple[Tensor, Scale]:
        """Return `sums * gain` as words below the bound of `sums`, `[..., n]`, and the real value of one, `[...]`."""
        return norm_words(sums, self.gain, self.unit, self.inverse_length, eps)


@dataclass(frozen=True, eq=False)
class IntegerLinear:
    """A projection in integers.

    Members
    -------
    codes : int8 [n_out, n_in].
    scales : integers [n_out, groups] of 12 bits, or None where there is one scale.
    group : inputs of a group.
    weight_unit : real value of one unit of the results, for activations of one unit.
    position : fixed-point position of the results of a projection with a bias, else None.
    bias : words [n_out] in that position, or None.
    """

    codes: Tensor
    scales: Tensor | None
    group: int
    weight_unit: float
    position: int | None = None
    bias: Tensor | None = None

    @classmethod
    def of(cls, linear: Linear, position: int | None = None) -> "IntegerLinear":
        """Make the integers of a ternary projection; `position` is that of one with a bias."""
        layer = linear.ternary or linear.grouped_ternary()
        if layer is not None and not layer.uniform:
            largest = max(layer.scales.max().item(), 1e-30)
            most = (1 << GROUP_SCALE_BITS) - 1
            codes, group = layer.weight, layer.group
            scales: Tensor | None = (layer.scales.double() * (most / largest)).round().int()
            unit = largest / most * 2.0**GROUP_SCALE_BITS
        elif layer is not None:
            codes, scales, group, unit = layer.weight, None, layer.n_in, layer.scale
        else:
            weight, scale = linear.quantised()
            assert scale is not None
            codes = weight.round().to(torch.int8)
            scales, group, unit = None, codes.shape[1], scale.item()
        if linear.bias is None:
            return cls(codes, scales, group, unit)
        assert position is not None
        bias = saturate((linear.bias.detach().double() * 2.0**position).round().long(), WORD_BITS)
        return cls(codes, scales, group, unit, position, bias)

    @property
    def unit(self) -> float:
        """The real value of one unit of the results, for activations of one unit; of a biased one, its words'."""
        return self.weight_unit if self.position is None else 2.0**-self.position

    def apply(self, codes: Tensor, scale: Scale) -> tuple[Tensor, Scale]:
        """Return results `[..., n_out]` of codes `[..., n_in]` with scales `[...]`, and what the unit is times.

        The real value of a result is `result * unit * factor`; the factor is the codes' scale, or 1 of words.
        """
        sums = (
            ternary_product(self.codes, codes)
            if self.scales is None
            else scaled_linear(self.codes, self.scales, self.group, codes)
        )
        if self.bias is None or self.position is None:
            return sums, scale
        words = requantise(sums, multiply(scale, constant(self.weight_unit * 2.0**self.position)).unsqueeze(-1))
        one = torch.ones_like(scale.mantissa)
        return saturate(words + self.bias, WORD_BITS), Scale(one * ONE.mantissa, one * ONE.exponent)


def quantise_words(words: Tensor, unit: Scale) -> tuple[Tensor, Scale]:
    """Return the INT8 codes of words `[..., n]` whose unit is `127 * unit`, and their scales `[...]`."""
    codes, largest = absmax(words)
    return codes, multiply(normalise(largest), unit)
