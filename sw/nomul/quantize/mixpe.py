"""MixPE weights: INT4 codes in groups, one integer scale per group under one real scale per output channel.

    w[o, k] = code[o, k] * group_scale[o, k // group] * channel_scale[o]

Codes are -8..7, group scales 1..255. The group sums `sum(code * activation)` are exact integers, and so is their
combination by integer group scales; one real scale per channel remains. Source: MixPE (arXiv 2411.16158), idea A
(dequantise once per group); the two-level scale is that of VS-Quant (arXiv 2102.04503).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.int4 import Int4Layer
from nomul.formats.mixpe import GroupQuantized
from nomul.formats.ternary import TernaryLayer

GROUP = 80
"""Weights in a group: it divides the 160 and 400 inputs of the tiny model, and is a multiple of 16 lanes."""

PARTS = ("codes", "group_scales", "channel_scale", "group")
"""Tensors of a stored layer: uint8 `[n_out, ceil(n_in / 2)]` (low nibble first, two's complement), uint8
`[n_out, groups]`, float32 `[n_out]`, and int32 `[1]`, the weights in a group."""

_SHRINK = torch.linspace(0.6, 1.0, 41)


@dataclass(frozen=True, eq=False)
class GroupedLayer:
    """One layer: int8 `codes` `[n_out, n_in]`, int16 `group_scales` `[n_out, groups]`, float32 `channel_scale`
    `[n_out]`, and the weights in a group (the last group of a row may have fewer).

    Raises `InputError` for shapes that do not fit, and for codes or scales out of range.
    """

    codes: Tensor
    group_scales: Tensor
    channel_scale: Tensor
    group: int

    def __post_init__(self) -> None:
        n_out, n_in = self.codes.shape
        if self.group < 1 or self.group_scales.shape != (n_out, -(-n_in // self.group)):
            raise InputError(
                f"{list(self.codes.shape)} codes and {list(self.group_scales.shape)} group scales "
                f"do not make groups of {self.group}"
            )
        if self.channel_scale.shape != (n_out,) or not bool(self.channel_scale.isfinite().all()):
            raise InputError(f"channel_scale must be {n_out} finite values")
        if int(self.codes.min()) < -8 or int(self.codes.max()) > 7:
            raise InputError("the codes must be from -8 to 7")
        if int(self.group_scales.min()) < 1 or int(self.group_scales.max()) > 255:
            raise InputError("the group scales must be from 1 to 255")

    def dequantise(self) -> Tensor:
        """Return the real weights, float32 `[n_out, n_in]`."""
        columns = torch.arange(self.codes.shape[1]) // self.group
        return self.codes * (self.group_scales.float() * self.channel_scale[:, None])[:, columns]

    def operands(self) -> GroupQuantized:
        """Return the integers that the engine multiplies; `channel_scale` stays outside."""
        return GroupQuantized(self.codes, torch.zeros_like(self.group_scales), self.group_scales, self.group)

    def stored(self) -> dict[str, Tensor]:
        """Return the tensors of `PARTS`."""
        nibbles = torch.nn.functional.pad(self.codes, (0, self.codes.shape[1] % 2)).to(torch.uint8) & 15
        return {
            "codes": nibbles[:, ::2] | nibbles[:, 1::2] << 4,
            "group_scales": self.group_scales.to(torch.uint8),
            "channel_scale": self.channel_scale.float(),
            "group": torch.tensor([self.group], dtype=torch.int32),
        }

    @classmethod
    def restored(cls, parts: dict[str, Tensor], n_in: int) -> "GroupedLayer":
        """Read the tensors of `PARTS` back; raise `InputError` if they do not fit `n_in` inputs."""
        words = parts["codes"]
        if words.dtype != torch.uint8 or words.ndim != 2 or words.shape[1] != -(-n_in // 2):
            raise InputError(f"{words.dtype} {list(words.shape)} codes do not hold {n_in} nibbles in a row")
        nibbles = torch.stack((words & 15, words >> 4), -1).flatten(1)[:, :n_in].to(torch.int8)
        return cls(
            nibbles - 16 * (nibbles > 7).to(torch.int8), parts["group_scales"].to(torch.int16),
            parts["channel_scale"], int(parts["group"][0]),
        )  # fmt: skip


def integer_scales(scales: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Turn real group scales `[n_out, groups]` into integers under one real scale per output channel.

    `channel[o] = max_g scales[o, g] / (2^bits - 1)`, and `integer[o, g] = round_half_even(scales[o, g] / channel[o])`,
    all zero where the largest is. A scale is off by half a channel scale at most: 0.2 % of the row's largest with 8
    bits. Returns int64 and float64. Raises `InputError` for a negative scale, or one that is not finite.
    """
    if not bool((scales >= 0).all()) or not bool(scales.isfinite().all()):
        wrong = (~((scales >= 0) & scales.isfinite())).nonzero()[0].tolist()
        raise InputError(f"the group scale at {wrong} is {float(scales[tuple(wrong)])}; allowed: 0 or more, finite")
    real = scales.double()
    channel = real.amax(1) / ((1 << bits) - 1)
    integer = (real / torch.where(channel > 0, channel, 1.0)[:, None]).round().long()
    return integer, channel


def scale_width(scales: Tensor) -> int:
    """Return the bits, 8 to 16, that integer scales need so that no group scale but 0 becomes 0; 16 if none do.

    With 8 bits that holds down to 1/510 of a row's largest scale.
    """
    return next((bits for bits in range(8, 16) if not lost_scales(scales, bits)), 16)


def lost_scales(scales: Tensor, bits: int) -> int:
    """Return how many real group scales `[n_out, groups]` become 0 as integers of `bits` bits, without being 0."""
    return int(((integer_scales(scales, bits)[0] == 0) & (scales != 0)).sum())


def from_int4(layer: Int4Layer, bits: int = 8) -> tuple[GroupQuantized, Tensor]:
    """Return (integers for the engine, real scale of each output channel) of a GPTQ or AWQ layer.

    Codes and zero points stay as they are; `integer_scales` makes group scales of `bits` bits.
    """
    integer, channel = integer_scales(layer.scales, bits)
    return GroupQuantized(layer.codes.to(torch.int8), layer.zeros.long(), integer, layer.group_size), channel


def from_ternary(layer: TernaryLayer, bits: int = 8) -> tuple[GroupQuantized, Tensor]:
    """Return (integers for the engine, real scale of each output channel) of a ternary layer, as `from_int4` does."""
    scales = layer.scales.expand(layer.n_out, -1)
    integer, channel = integer_scales(scales, bits)
    return GroupQuantized(layer.weight, torch.zeros_like(integer), integer, layer.group), channel


def quantise(weight: Tensor, group: int = GROUP, importance: Tensor | None = None) -> GroupedLayer:
    """Quantise `[n_out, n_in]` real weights.

    Each group's scale is the one of 41 fractions of `max|w| / 7` with the least squared error, weighted by
    `importance` `[n_in]` (the mean square of the input; all ones if not given). The last group may be shorter.
    """
    n_out, n_in = weight.shape
    groups = -(-n_in // group)
    padding = (0, groups * group - n_in)
    padded = torch.nn.functional.pad(weight.float(), padding).view(n_out, groups, group)
    weights = torch.ones(n_in) if importance is None else importance.float()
    weights = torch.nn.functional.pad(weights, padding).view(groups, group)
    largest = padded.abs().amax(-1).clamp(min=1e-8) / 7
    channel = largest.amax(1) / 255

    def codes(scale: Tensor) -> Tensor:
        return (padded / (scale * channel[:, None])[..., None]).round().clamp(-8, 7)

    best = torch.full((n_out, groups), torch.inf)
    chosen = torch.ones(n_out, groups)
    for fraction in _SHRINK:
        scale = (largest * fraction / channel[:, None]).round().clamp(1, 255)
        error = padded - codes(scale) * (scale * channel[:, None])[..., None]
        loss = (error.square() * weights).sum(-1)
        chosen = torch.where(loss < best, scale, chosen)
        best = torch.minimum(best, loss)
    flat = codes(chosen).view(n_out, -1)[:, :n_in]
    return GroupedLayer(flat.to(torch.int8), chosen.to(torch.int16), channel, group)
