"""Reference of `nomul.engines.tlmm`: the order of table entries, the tables, the ranks of ternary groups, the product.

A group of G ternary weights has a rank from -R to R, R = (3^G - 1)/2: its place in the reflected ternary Gray code,
counted from the middle, where all weights are zero. Ranks r and -r belong to opposite weights.
"""

import functools

import torch
from torch import Tensor

__all__ = ["group_ranks", "matmul", "rank_weights", "tables"]


@functools.cache
def rank_weights(group: int) -> Tensor:
    """Return the ternary weights of every rank, int8 [3^group, group], from rank -R to rank R.

    Built by reflection: the code of G weights is the code of G - 1 weights three times, the middle time backwards, with
    the last weight -1, 0 and 1 in turn.
    """
    code = [[-1], [0], [1]]
    for _ in range(group - 1):
        code = [[*rest, last] for last in (-1, 0, 1) for rest in (code if last else code[::-1])]
    return torch.tensor(code, dtype=torch.int8)


def group_ranks(weight: Tensor, group: int) -> Tensor:
    """Return the ranks of consecutive groups of ternary weights.

    int8 [..., n] -> int16 [..., ceil(n / group)], n padded with zero weights.
    """
    groups = -(-weight.shape[-1] // group)
    padded = torch.nn.functional.pad(weight, (0, groups * group - weight.shape[-1])).unflatten(-1, (groups, group))
    places = 3 ** torch.arange(group)
    codes = rank_weights(group)
    by_number = torch.empty(3**group, dtype=torch.int16)
    by_number[((codes + 1).long() * places).sum(-1)] = torch.arange(3**group, dtype=torch.int16) - 3**group // 2
    return by_number[((padded + 1).long() * places).sum(-1)]


def tables(activations: Tensor, group: int) -> Tensor:
    """Return the full table of each group of activations.

    Integers [..., n] -> int64 [..., ceil(n / group), 3^group], entries from rank -R to rank R, n padded with zeros.
    """
    groups = -(-activations.shape[-1] // group)
    padded = torch.nn.functional.pad(activations.long(), (0, groups * group - activations.shape[-1]))
    return padded.unflatten(-1, (groups, group)) @ rank_weights(group).long().T


def matmul(weight: Tensor, activations: Tensor, group: int) -> Tensor:
    """Return y = W a by table look-up.

    weight: int8 [n_out, n_in]; activations: integers [tokens, n_in]; result: int64 [tokens, n_out].
    """
    ranks = group_ranks(weight, group).long() + 3**group // 2
    looked_up = tables(activations, group)[:, torch.arange(ranks.shape[-1]), ranks]
    return looked_up.sum(-1)
