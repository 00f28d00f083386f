"""The K largest of M scores, chosen bit by bit from the top; of equal scores the oldest."""

import torch
from torch import Tensor


def choose(scores: Tensor, k: Tensor | int, bits: int, valid: Tensor | None = None) -> Tensor:
    """Return which scores are among the `k` largest, bool `[..., m]`; where fewer are valid, all of those.

    Parameters
    ----------
    scores : Tensor
        int64 `[..., m]`, two's complement of `bits` bits. Position 0 is the oldest.
    k : Tensor or int
        How many to choose, 1 or more, int64 `[...]`.
    bits : int
        Width of a score.
    valid : Tensor, optional
        bool, broadcast over the scores: those that there are.

    The survivors are the scores that agree with the k-th largest in the bits seen so far. Where at least as many of
    them as are still wanted have the next bit set, the others are dropped; where fewer have it, these are chosen.
    """
    ranks = scores + (1 << (bits - 1))
    survivors = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid.expand_as(scores)
    chosen = torch.zeros_like(survivors)
    wanted = torch.as_tensor(k).expand(scores.shape[:-1])
    for bit in reversed(range(bits)):
        ones = survivors & ((ranks >> bit) & 1 != 0)
        count = ones.sum(-1)
        enough = (count >= wanted).unsqueeze(-1)
        chosen = chosen | (ones & ~enough)
        survivors = survivors & (ones == enough)
        wanted = torch.where(enough.squeeze(-1), wanted, wanted - count)
    return chosen | (survivors & (survivors.cumsum(-1) <= wanted.unsqueeze(-1)))


def top_k(scores: Tensor, k: int, bits: int) -> Tensor:
    """Return the positions of the `min(k, m)` largest of `m` scores, int64 `[m]`, in order of age."""
    return choose(scores, k, bits).nonzero().squeeze(-1)
