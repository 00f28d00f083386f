"""Reference of `nomul.engines.boothflex_bs`: what its array makes of the digits of a weight stream."""

import torch
from torch import Tensor

__all__ = ["matmul"]


def matmul(steps: Tensor, activations: Tensor, n_out: int) -> Tensor:
    """Return y of every token, by Horner's rule over the digits.

    Parameters
    ----------
    steps : Tensor
        uint8 [blocks, digits, steps, rows, lanes], two bits in each value.
    activations : Tensor
        INT8 values [tokens, n_in].
    n_out : int
        Outputs.

    Returns
    -------
    Tensor
        int64 [tokens, n_out].
    """
    blocks, digits, _, rows, lanes = steps.shape
    words = torch.nn.functional.pad(activations.long(), (0, -activations.shape[1] % lanes)).unflatten(1, (-1, lanes))
    totals = torch.zeros(len(words), blocks, rows, dtype=torch.int64)
    for number in range(digits):
        digit = steps[:, number].long()
        if number == 0:
            digit = torch.where(digit > 1, digit - 4, digit)
        totals = 4 * totals + torch.einsum("bsrl,tsl->tbr", digit, words)
    return totals.flatten(1)[:, :n_out]
