"""Reference of `nomul.engines.baseline`: what its array makes of the steps of a weight stream.

The corrected form is computed from digits, as the standard-cell array does it, so a test of it against plain `W a`
checks the digits and the packer's start values.
"""

import torch
from torch import Tensor

__all__ = ["digits", "matmul"]


def digits(numbers: Tensor) -> Tensor:
    """Return the radix-4 digits of `numbers` - 42, each -2 to 1, lowest first: int64 [..., 4]."""
    rest, found = numbers.long() - 42, []
    for _ in range(4):
        digit = (rest + 2) % 4 - 2
        found.append(digit)
        rest = (rest - digit) // 4
    assert not rest.any()
    return torch.stack(found, dim=-1)


def matmul(steps: Tensor, activations: Tensor, n_out: int, starts: Tensor | None = None) -> Tensor:
    """Return y of every token.

    Parameters
    ----------
    steps : Tensor
        int8 [blocks, steps, rows, lanes].
    activations : Tensor
        INT8 values [tokens, n_in].
    n_out : int
        Outputs.
    starts : Tensor or None
        What the accumulators of each block start from, int64 [blocks, rows], if the array works with digits.

    Returns
    -------
    Tensor
        int64 [tokens, n_out].
    """
    _, count, _, lanes = steps.shape
    words = torch.nn.functional.pad(activations.long(), (0, -activations.shape[1] % lanes)).unflatten(1, (-1, lanes))
    if starts is None:
        return torch.einsum("bsrl,tsl->tbr", steps.long(), words).flatten(1)[:, :n_out]
    place = torch.tensor([1, 4, 16, 64])
    found = digits(words)
    # A product of a digit that is not 1 is one short, and every product's inverted top bit brings 2^8.
    products = torch.einsum("bsrl,tslj,j->tbr", steps.long(), found, place) + 256 * 85 * lanes * count
    products -= ((found != 1) * place).sum((1, 2, 3))[:, None, None]
    shared = ((found != 1) * place).sum((1, 2, 3))
    return (products + shared[:, None, None] + starts).flatten(1)[:, :n_out]
