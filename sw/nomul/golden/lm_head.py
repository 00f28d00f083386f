"""The end of the model: logits as exact integers, the greedy choice, and a sampler without floating point."""

import torch
from torch import Tensor

from nomul.golden.linear import GROUP_SCALE_BITS
from nomul.golden.requantise import requantise
from nomul.golden.rounding import shift_round
from nomul.golden.scale import Scale
from nomul.golden.softmax import softmax_weights


def logits(values: Tensor, scales: Tensor | None = None) -> Tensor:
    """Return the logits in units of one scale per token, of products `[..., vocabulary]` of INT8 rows and codes.

    With `scales` of the rows, `[vocabulary]` in 1..4095, each is `rhe(product * scale / 2^12)`.
    """
    return values if scales is None else shift_round(values * scales, GROUP_SCALE_BITS)


def greedy(values: Tensor) -> Tensor:
    """Return the index of the largest logit; of equal ones the lowest. Scales play no part."""
    best = values.amax(-1, keepdim=True)
    indices = torch.arange(values.shape[-1]).expand(values.shape)
    return torch.where(values == best, indices, values.shape[-1]).amin(-1)


def sample(values: Tensor, unit: Scale, random: Tensor) -> Tensor:
    """Return a token drawn with the probabilities of softmax.

    `values` `[..., vocabulary]` are logits, `unit` `[..., 1]` turns them into base-2 scores with 8 fractional bits
    (log2(e) and one over the temperature included), `random` `[...]` is uniform in 0..2^32 - 1. With weights as in
    softmax and `target = (random * sum) div 2^32`: the first token whose running sum exceeds the target.
    """
    weights, total = softmax_weights(requantise(values, unit))
    target = (random * total) >> 32
    return (weights.cumsum(-1) <= target[..., None]).sum(-1)
