"""Group-wise INT4 layers, and two layouts that publish them: GPTQ and AWQ.

Both keep, per layer, `qweight` and `qzeros` (int32 words of eight 4-bit codes) and `scales`, and mean

    w[o, k] = (code[o, k] - zero[o, g(k)]) * scale[o, g(k)],  g(k) = k // group_size

With nibble i being bits 4i+3..4i of a word:

* GPTQ: `qweight` [n_in / 8, n_out], nibble i of row r is input 8r + i. `qzeros` [groups, n_out / 8], nibble i of
  column c is output 8c + i. Version 1 of the format stores zero - 1, a historical habit of AutoGPTQ that every reader
  has to undo: its writers subtract 0x11111111 from the whole word, so that a zero of 0 borrows from the next. Version 2
  (`gptq_v2`) stores the zeros themselves. `g_idx` [n_in] gives the group of each input.
* AWQ (gemm): `qweight` [n_in, n_out / 8] and `qzeros` [groups, n_out / 8], nibble i of column c is output
  8c + (0, 2, 4, 6, 1, 3, 5, 7)[i]; the zeros are stored as they are.

`scales` is [groups, n_out] in both. Sources: AutoGPTQ, auto_gptq/nn_modules/qlinear/qlinear_cuda.py; AutoAWQ,
awq/modules/linear/gemm.py; the version of the format: AutoGPTQ pull request 640.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError

CODES_PER_WORD = 8
"""4-bit codes in one int32 word."""

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Output, within eight, that nibble i of an AWQ word belongs to."""


@dataclass(frozen=True, eq=False)
class Int4Layer:
    """A linear layer with unsigned 4-bit codes, and a zero point and a scale per output and group of inputs.

    Parameters
    ----------
    name : name of the layer in its checkpoint, without the suffix `.qweight`.
    codes : uint8 [n_out, n_in], 0 to 15.
    zeros : uint8 [n_out, groups], 0 to 15.
    scales : float16, bfloat16 or float32 [n_out, groups], finite.
    group_size : inputs per group; the last group may be shorter.

    Raises `InputError` for another type, shape or value.
    """

    name: str
    codes: Tensor
    zeros: Tensor
    scales: Tensor
    group_size: int

    def __post_init__(self) -> None:
        if self.codes.dtype != torch.uint8 or self.codes.ndim != 2 or self.codes.numel() == 0:
            raise InputError(
                f"layer {self.name}: the codes are {self.codes.dtype} {list(self.codes.shape)}, "
                f"but a non-empty torch.uint8 [n_out, n_in] is needed"
            )
        if self.group_size < 1:
            raise InputError(f"layer {self.name}: group_size is {self.group_size}, but it must be 1 or more")
        shape = (self.n_out, -(-self.n_in // self.group_size))
        for what, tensor in (("zeros", self.zeros), ("scales", self.scales)):
            if tensor.shape != shape:
                raise InputError(
                    f"layer {self.name}: the {what} are {list(tensor.shape)}, but {self.n_in} inputs in groups of "
                    f"{self.group_size} need {list(shape)}"
                )
        if self.zeros.dtype != torch.uint8 or not self.scales.is_floating_point():
            raise InputError(
                f"layer {self.name}: zeros are {self.zeros.dtype} and scales {self.scales.dtype}, "
                f"but torch.uint8 and a floating-point type are needed"
            )
        for what, tensor in (("code", self.codes), ("zero", self.zeros)):
            if int(tensor.max()) > 15:
                where = (tensor > 15).nonzero()[0].tolist()
                raise InputError(
                    f"layer {self.name}: the {what} {int(tensor[tuple(where)])} at {where} is not in 0 to 15"
                )
        if not bool(self.scales.isfinite().all()):
            where = (~self.scales.isfinite()).nonzero()[0].tolist()
            raise InputError(f"layer {self.name}: the scale at {where} is {float(self.scales[tuple(where)])}")

    @property
    def n_out(self) -> int:
        """Number of outputs (rows)."""
        return self.codes.shape[0]

    @property
    def n_in(self) -> int:
        """Number of inputs (columns)."""
        return self.codes.shape[1]

    @property
    def groups(self) -> int:
        """Number of groups along the inputs."""
        return self.scales.shape[1]

    def dequantise(self) -> Tensor:
        """Return the weights, float32 [n_out, n_in]."""
        group = torch.arange(self.n_in) // self.group_size
        offset = self.codes.to(torch.int16) - self.zeros[:, group].to(torch.int16)
        return offset.float() * self.scales.float()[:, group]


def from_gptq(
    name: str,
    qweight: Tensor,
    qzeros: Tensor,
    scales: Tensor,
    g_idx: Tensor | None = None,
    group_size: int | None = None,
    zero_offset: int = 1,
) -> Int4Layer:
    """Decode one GPTQ layer.

    `zero_offset` is 1 for version 1 of the format and 0 for version 2. `group_size` is -1 or None for what the shapes
    say. Raises `InputError` for shapes that do not fit and for inputs that were reordered (act-order).
    """
    _check_words(name, qweight, qzeros, scales)
    n_in, n_out = qweight.shape[0] * CODES_PER_WORD, qweight.shape[1]
    if qzeros.shape[1] * CODES_PER_WORD != n_out or scales.shape != (qzeros.shape[0], n_out):
        raise _misfit(name, "GPTQ", qweight, qzeros, scales)
    group_size = group_size_of(name, n_in, scales.shape[0], group_size)
    if g_idx is not None and not torch.equal(g_idx.long(), torch.arange(n_in) // group_size):
        raise InputError(
            f"layer {name}: g_idx reorders the inputs (act-order, desc_act), which is not supported; "
            f"groups of {group_size} consecutive inputs are needed"
        )
    words = qzeros.numpy().view(np.uint32) + np.uint32(zero_offset * 0x11111111)
    zeros = nibbles(torch.from_numpy(words.view(np.int32))).reshape(scales.shape[0], n_out)
    codes = nibbles(qweight).permute(1, 0, 2).reshape(n_out, n_in)
    return Int4Layer(name, codes, zeros.T.contiguous(), scales.T.contiguous(), group_size)


def from_awq(name: str, qweight: Tensor, qzeros: Tensor, scales: Tensor, group_size: int | None = None) -> Int4Layer:
    """Decode one AWQ layer in the gemm layout; `group_size` is -1 or None for what the shapes say.

    Raises `InputError` for shapes that do not fit.
    """
    _check_words(name, qweight, qzeros, scales)
    n_in, n_out = qweight.shape[0], qweight.shape[1] * CODES_PER_WORD
    if qzeros.shape[1] * CODES_PER_WORD != n_out or scales.shape != (qzeros.shape[0], n_out):
        raise _misfit(name, "AWQ", qweight, qzeros, scales)
    group_size = group_size_of(name, n_in, scales.shape[0], group_size)
    place = torch.tensor(AWQ_ORDER).argsort()
    codes = nibbles(qweight)[..., place].reshape(n_in, n_out)
    zeros = nibbles(qzeros)[..., place].reshape(scales.shape[0], n_out)
    return Int4Layer(name, codes.T.contiguous(), zeros.T.contiguous(), scales.T.contiguous(), group_size)


def nibbles(words: Tensor) -> Tensor:
    """Split int32 [..., n] into uint8 [..., n, 8], lowest nibble first."""
    octets = words.contiguous().unsqueeze(-1).view(torch.uint8)
    return torch.stack((octets & 15, octets >> 4), dim=-1).flatten(-2)


def _check_words(name: str, qweight: Tensor, qzeros: Tensor, scales: Tensor) -> None:
    for what, tensor in (("qweight", qweight), ("qzeros", qzeros)):
        if tensor.dtype != torch.int32 or tensor.ndim != 2 or tensor.numel() == 0:
            raise InputError(
                f"layer {name}: {what} is {tensor.dtype} {list(tensor.shape)}, but a torch.int32 matrix is needed"
            )
    if not scales.is_floating_point() or scales.ndim != 2 or scales.numel() == 0:
        raise InputError(
            f"layer {name}: scales is {scales.dtype} {list(scales.shape)}, but a floating-point matrix is needed"
        )


def group_size_of(name: str, n_in: int, groups: int, group_size: int | None) -> int:
    """Return the inputs in a group; -1 says one group, None what the shapes say. `InputError` if they do not fit."""
    if group_size is None and n_in % groups == 0:
        group_size = n_in // groups
    elif group_size == -1:
        group_size = n_in
    if group_size is None or group_size < 1 or -(-n_in // group_size) != groups:
        raise InputError(f"layer {name}: {n_in} inputs do not make {groups} groups of group_size {group_size}")
    return group_size


def _misfit(name: str, layout: str, qweight: Tensor, qzeros: Tensor, scales: Tensor) -> InputError:
    return InputError(
        f"layer {name}: qweight {list(qweight.shape)}, qzeros {list(qzeros.shape)} and scales {list(scales.shape)} "
        f"do not fit together as 4-bit {layout}"
    )
