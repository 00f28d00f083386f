"""The weight stream of `nomul.engines.mixpe`, and the integer operands that it carries.

A transfer is a step of codes, row 0 lane 0 lowest, and above them an entry for each scale unit. An array of `fold` f
has L = f * lanes lanes and R = rows / f rows; each group takes f passes of as many steps. Row r, lane l of step s of
pass p of a group that begins with input k, in block b, is the unsigned code of W[b * rows + p * R + r, k + s * L +
l]; signed codes and zero points are 8 more,
ternary ones, which have two bits, 2 more. A vector is padded to whole groups. Padding counts for nothing: an input
that its transfer of activations still holds, and whose activation is therefore in the group's sum, has the group's
zero point as its code; one that is beyond has the recoding's offset, for which products are zero. Rows beyond the
last have scale 0.

Unit u serves rows u * turn to u * turn + turn - 1. The entry of its row t for a pass whose last step is transfer i is
in transfer i + delay + t. An entry is, from its lowest bit: zero point (as wide as a code), scale + 2 * (1 + 4 + 16
+ ...) (scale_bits rounded up to even, and one more), and the correction, where there is one. Entries that no
group needs are 0.

Standard-cell arrays take the digits of the recoding `ent`, 2 h + l - 1 for bits h and l of a code, as lines: the higher
bit is h, the lower not (h xor l). The correction undoes what their products have too much or too little (`excess`),
summed over the group's codes, padding included, and what minus the zero point misses, 2^shift for each negative digit;
for whole rows also what is constant in each step, modulo 2^bits.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.golden.mixpe_stream import DIGITS, TERNARY_DIGITS, Layout, digits_of, excess, to_lines

__all__ = ["DIGITS", "TERNARY_DIGITS", "GroupQuantized", "Layout", "digits_of", "matrix", "pack", "unpack"]


@dataclass(frozen=True, eq=False)
class GroupQuantized:
    """A matrix of integers in groups: W[o, k] = scale[o, g] * (code[o, k] - zero[o, g]), g = k // group.

    Parameters
    ----------
    codes : int8 [n_out, n_in], from -8 to 7 or from 0 to 15.
    zeros : integers [n_out, groups], within the range of the codes.
    scales : integers [n_out, groups], 0 or more.
    group : inputs of a group; the last may have fewer.

    Raises `InputError` for shapes that do not fit, and for values out of range.
    """

    codes: Tensor
    zeros: Tensor
    scales: Tensor
    group: int

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.numel() == 0:
            raise InputError(f"the codes have shape {list(self.codes.shape)}; a matrix [n_out, n_in] is needed")
        n_out, n_in = self.codes.shape
        shape = (n_out, -(-n_in // self.group)) if self.group >= 1 else None
        for name, tensor in (("zeros", self.zeros), ("scales", self.scales)):
            if tensor.shape != shape:
                raise InputError(
                    f"the {name} have shape {list(tensor.shape)}; {n_in} inputs in groups of {self.group} need "
                    f"{list(shape) if shape else 'a group of 1 or more'}"
                )
        low, high = int(self.codes.min()), int(self.codes.max())
        if low < -8 or high > 15 or (low < 0 and high > 7):
            raise InputError(f"the codes reach from {low} to {high}; allowed: -8 to 7 or 0 to 15")
        if int(self.scales.min()) < 0:
            raise InputError(f"a scale is {int(self.scales.min())}; allowed: 0 or more")

    @property
    def shape(self) -> torch.Size:
        """[n_out, n_in]."""
        return self.codes.shape

    def dequantise(self) -> Tensor:
        """Return W, int64 [n_out, n_in]."""
        group = torch.arange(self.codes.shape[1]) // self.group
        return (self.codes.long() - self.zeros.long()[:, group]) * self.scales.long()[:, group]


def matrix(weight: Tensor, group: int | None) -> GroupQuantized:
    """Return plain integer weights as operands with zero point 0 and scale 1."""
    n_out, n_in = weight.shape
    group = group or n_in
    parts = (n_out, -(-n_in // group))
    return GroupQuantized(weight, torch.zeros(parts, dtype=torch.int16), torch.ones(parts, dtype=torch.int16), group)


def _check(operands: GroupQuantized, layout: Layout) -> None:
    n_in = operands.shape[1]
    group, wanted = operands.group, layout.group or n_in
    if group != wanted and not (group >= n_in and wanted >= n_in):
        wants = "the whole row" if layout.group is None else str(layout.group)
        raise InputError(f"the weights have groups of {group}; this engine's group is {wants}; set group to {group}")
    bias = 1 << (layout.code_bits - 1)
    low, high = (-bias, bias - 1) if layout.signed else (0, 2 * bias - 1)
    for name, tensor in (("code", operands.codes), ("zero point", operands.zeros)):
        if int(tensor.min()) < low or int(tensor.max()) > high:
            value = int(tensor.min()) if int(tensor.min()) < low else int(tensor.max())
            remedy = f"set codes to {'unsigned' if layout.signed else 'signed'}"
            if layout.code_bits == 2:
                remedy = "set weight to int4"
            raise InputError(f"a {name} is {value}; this engine takes {low} to {high}; {remedy}")
    if int(operands.scales.max()) >= 1 << layout.scale_bits:
        raise InputError(
            f"a scale is {int(operands.scales.max())}; this engine takes 0 to {(1 << layout.scale_bits) - 1} "
            f"(scale_bits = {layout.scale_bits})"
        )


def _codes(operands: GroupQuantized, layout: Layout, steps: int) -> tuple[Tensor, Tensor]:
    """Return unsigned (codes of all steps [blocks, rows, steps * lanes], zero points [blocks, rows, groups])."""
    n_out, n_in = operands.shape
    bias = 1 << (layout.code_bits - 1) if layout.signed else 0
    blocks, width = -(-n_out // layout.rows), steps * layout.lanes
    below = blocks * layout.rows - n_out
    zeros = torch.nn.functional.pad(operands.zeros.long() + bias, (0, 0, 0, below), value=bias)
    codes = torch.full((blocks * layout.rows, width), layout.digits[0])
    summed = -(-n_in // layout.transfer) * layout.transfer
    group = torch.arange(summed) // operands.group
    codes[:, :summed] = zeros[:, group.clamp(max=zeros.shape[1] - 1)]
    codes[:n_out, :n_in] = operands.codes.long() + bias
    return codes.view(blocks, layout.rows, width), zeros.view(blocks, layout.rows, -1)


def pack(operands: GroupQuantized, layout: Layout) -> npt.NDArray[np.uint8]:
    """Return the transfers of one token, uint8 [transfers, bytes], little-endian.

    Raises
    ------
    InputError
        If the operands are not of the engine's group or ranges.
    """
    _check(operands, layout)
    n_out, n_in = operands.shape
    each, groups = layout.steps(n_in), operands.scales.shape[1]
    codes, zeros = _codes(operands, layout, groups * each * layout.fold)
    blocks = len(codes)
    steps = groups * layout.fold * each
    scales = torch.zeros(blocks * layout.rows, groups, dtype=torch.long)
    scales[:n_out] = operands.scales.long()
    pairs = (layout.scale_bits + 1) // 2
    scaled = scales.view(blocks, layout.rows, groups) + 2 * ((1 << 2 * pairs) - 1) // 3

    corrections = _corrections(codes, zeros, layout, groups)
    fields = [(zeros, layout.code_bits), (scaled, 2 * pairs + 1), (corrections, layout.correction_bits)]
    high = layout.rows // layout.fold
    units, count = high // layout.turn, blocks * steps + layout.drain
    stream = torch.zeros(count, layout.rows * layout.lanes, dtype=torch.uint8)
    sent = to_lines(codes, layout.code_bits) if layout.lined else codes
    parts = sent.view(blocks, layout.fold, high, groups, each, layout.lanes * layout.fold)
    stream[: blocks * steps] = parts.permute(0, 3, 1, 4, 2, 5).reshape(blocks * steps, -1)
    bits = [(stream[..., None] >> torch.arange(layout.code_bits)) & 1]
    bits[0] = bits[0].flatten(1)
    ends = (torch.arange(blocks * groups * layout.fold) + 1) * each - 1
    for unit in range(units):
        for values, width in fields:
            if not width:
                continue
            placed = torch.zeros(count, dtype=torch.long)
            for turn in range(layout.turn):
                of_row = values.view(blocks, layout.fold, high, groups)[:, :, unit * layout.turn + turn]
                placed[ends + layout.delay + turn] = of_row.permute(0, 2, 1).reshape(-1)
            bits.append(((placed[:, None] >> torch.arange(width)) & 1).to(torch.uint8))
    return np.packbits(torch.cat(bits, 1).numpy(), axis=1, bitorder="little")


def _corrections(codes: Tensor, zeros: Tensor, layout: Layout, groups: int) -> Tensor:
    """Return the corrections, int64 [blocks, rows, groups]."""
    grouped = codes.view(*codes.shape[:2], groups, -1)
    missing = torch.zeros_like(zeros)
    for shift, values in digits_of(grouped, layout).items():
        missing -= excess(values, shift, layout).sum(-1) << shift
    for shift, values in digits_of(zeros, layout).items():
        missing += (values > 0).long() << shift
    if layout.group is None and layout.correction_bits:
        missing %= 1 << layout.correction_bits
    return missing


def unpack(transfers: npt.NDArray[np.uint8], layout: Layout) -> tuple[Tensor, dict[str, Tensor]]:
    """Return (codes, int64 [transfers, rows / fold, lanes * fold]; entries by field, int64 [transfers, units])."""
    bits = torch.from_numpy(np.unpackbits(transfers, axis=1, bitorder="little")).long()
    cells, units = layout.rows * layout.lanes, layout.rows // layout.fold // layout.turn
    size = layout.code_bits
    codes = (bits[:, : size * cells].view(len(bits), cells, size) << torch.arange(size)).sum(-1)
    if layout.lined:
        codes = to_lines(codes, size)
    widths = {"zero": size, "scale": 2 * ((layout.scale_bits + 1) // 2) + 1, "correction": layout.correction_bits}
    fields: dict[str, list[Tensor]] = {name: [] for name in widths}
    place = size * cells
    for _ in range(units):
        for name, width in widths.items():
            fields[name].append((bits[:, place : place + width] << torch.arange(width)).sum(-1))
            place += width
    shape = (len(bits), layout.rows // layout.fold, layout.lanes * layout.fold)
    return codes.view(shape), {name: torch.stack(parts, 1) for name, parts in fields.items()}
