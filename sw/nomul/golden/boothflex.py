"""Reference of `nomul.engines.boothflex`: what its array makes of the bytes of a weight stream.

It reads the bytes as the array does, digit by digit, so a test of it against plain `W a` checks the packer's codes and
start values.
"""

import torch
from torch import Tensor

__all__ = ["matmul"]


def matmul(codes: Tensor, activations: Tensor, n_out: int, *, ternary: bool, starts: Tensor | None = None) -> Tensor:
    """Return y of every token.

    Parameters
    ----------
    codes : Tensor
        uint8 [blocks, steps, rows, lanes], without the transfers of start values.
    activations : Tensor
        INT8 values [tokens, n_in].
    n_out : int
        Outputs.
    ternary : bool
        The mode.
    starts : Tensor or None
        int64 [blocks, rows], if the array works with them.

    Returns
    -------
    Tensor
        int64 [tokens, n_out].
    """
    lanes = codes.shape[-1]
    padded = torch.nn.functional.pad(activations.long(), (0, -activations.shape[1] % (4 * lanes)))
    words = padded.unflatten(1, (-1, 4, lanes))  # tokens, words, quarter, lane
    low, high = (
        codes.long()[..., None] >> torch.tensor([0, 2, 4, 6]) & 1,
        codes.long()[..., None] >> torch.tensor([1, 3, 5, 7]) & 1,
    )
    if ternary:
        operands, places = words.transpose(2, 3), torch.ones(4, dtype=torch.long)
    else:
        operands = words.transpose(1, 2).flatten(1, 2)[..., None].expand(-1, -1, -1, 4)
        places = torch.tensor([1, 4, 16, 64])
    natural = starts is None and not ternary
    signs = torch.tensor([2, 2, 2, -2]) if natural else torch.tensor([-2, -2, -2, -2])
    digits = low + signs * high
    totals = torch.einsum("bsrlj,tslj,j->tbr", digits, operands, places)
    if starts is not None:
        totals += ((256 - (digits != 1).long()) * places).sum((1, 3, 4)) + starts
        if not ternary:
            totals += 42 * (operands[..., 0] + 128).sum((1, 2))[:, None, None]
    return totals.flatten(1)[:, :n_out]
