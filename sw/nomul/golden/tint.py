"""Reference of `nomul.engines.tint`: what its array makes of the steps of a weight stream.

It works on the order of steps that `nomul.formats.tint.steps` documents, so a test of it against plain `W a` checks the
packer's corrections.
"""

import torch
from torch import Tensor

__all__ = ["matmul"]


def matmul(steps: Tensor, activations: Tensor, n_out: int, corrected: int | None = None) -> Tensor:
    """Return y of every token.

    Parameters
    ----------
    steps : Tensor
        int8 [steps, rows, lanes], block after block.
    activations : Tensor
        Integers [tokens, n_in].
    n_out : int
        Outputs.
    corrected : int or None
        The width of an activation, if there are correction steps.

    Returns
    -------
    Tensor
        int64 [tokens, n_out].
    """
    _, rows, lanes = steps.shape
    blocks = -(-n_out // rows)
    words = torch.nn.functional.pad(activations.long(), (0, -activations.shape[1] % lanes)).unflatten(1, (-1, lanes))
    if corrected is not None:
        top = corrected - 1
        constants = torch.tensor([2 ** min(lane, top) - 1 for lane in range(lanes)]).expand(len(words), 1, lanes)
        # What one correction step can bring, less what it costs, in steps of `lanes` weights.
        chunk = (sum(2 ** min(lane, top) for lane in range(lanes)) - lanes) // lanes
        words = torch.cat([piece for part in words.split(chunk, dim=1) for piece in (part, constants)], dim=1)
    weights = steps.long().view(blocks, -1, rows, lanes)
    sums = torch.einsum("bsrl,tsl->tbr", weights, words)
    if corrected is not None:
        # Every bit of a product is the activation's, its complement, or one, and the top bit is inverted: a product is
        # w * a - (w is not 1), and 2^top that the constant takes away.
        sums -= (weights != 1).sum((1, 3))
    return sums.flatten(1)[:, :n_out]
