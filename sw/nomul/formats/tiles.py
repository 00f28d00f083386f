"""How every packer cuts a matrix of weights for an array of rows by lanes."""

import torch
from torch import Tensor

__all__ = ["tile"]


def tile(weight: Tensor, *, rows: int, lanes: int, filling: int = 0) -> Tensor:
    """Return [n_out, n_in] as [blocks, steps, rows, lanes]: W[b * rows + r, s * lanes + l] at [b, s, r, l].

    Where the matrix has no weight there is `filling`.
    """
    n_out, n_in = weight.shape
    blocks, steps = -(-n_out // rows), -(-n_in // lanes)
    missing = (0, steps * lanes - n_in, 0, blocks * rows - n_out)
    padded = torch.nn.functional.pad(weight, missing, value=filling)
    return padded.view(blocks, rows, steps, lanes).permute(0, 2, 1, 3).contiguous()
