"""INT8 attention over a cache of INT8 keys and values, each with a scale per token and head.

Both products, scores and weighted sum, have 8-bit operands and exact sums. The weight of a token in the second is its
softmax weight times the scale of its value, brought to 8 bits by the absmax quantiser; it is never negative, so all
of its codes 0..255 are used.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nomul.golden.absmax import UNSIGNED_MAX, absmax
from nomul.golden.requantise import requantise
from nomul.golden.scale import Scale, divide, multiply, normalise
from nomul.golden.softmax import softmax_weights

SCALE_BITS = 16
"""Width of a cached scale: the largest magnitude of the vector, unsigned, in a fixed point chosen for each layer."""

GUARD_BITS = 3
"""Fractional bits of the output below the unit of the value scales: 16 + 3 bits and a sign fill a word."""


@dataclass
class KVCache:
    """Keys and values of one layer: codes int8 `[batch, kv_heads, capacity, head_dim]`, scales int32
    `[batch, kv_heads, capacity]`, and how many tokens are held."""

    keys: Tensor
    key_scales: Tensor
    values: Tensor
    value_scales: Tensor
    length: int = 0

    @classmethod
    def empty(cls, batch: int, heads: int, capacity: int, head_dim: int) -> "KVCache":
        """Return a cache without tokens."""
        codes, scales = (batch, heads, capacity, head_dim), (batch, heads, capacity)
        return cls(
            torch.zeros(codes, dtype=torch.int8), torch.zeros(scales, dtype=torch.int32),
            torch.zeros(codes, dtype=torch.int8), torch.zeros(scales, dtype=torch.int32),
        )  # fmt: skip

    def append(self, keys: Tensor, key_scales: Tensor, values: Tensor, value_scales: Tensor) -> None:
        """Add tokens: codes `[batch, kv_heads, tokens, head_dim]`, scales `[batch, kv_heads, tokens]`."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.key_scales[:, :, self.length : end] = key_scales
        self.values[:, :, self.length : end] = values
        self.value_scales[:, :, self.length : end] = value_scales
        self.length = end


def attend(
    queries: Tensor, query_scales: Scale, output_unit: Scale, cache: KVCache, selected: Tensor | None = None
) -> dict[str, Tensor]:
    """Attend from the last tokens of a cache over all that each may see; return the output and what led to it.

    `queries` is int64 `[batch, heads, tokens, head_dim]`, INT8 codes; the tokens are the last of the cache, and each
    sees itself and those before it. Query head `h` reads key-value head `h * kv_heads // heads`.
    `query_scales` `[batch, heads, tokens]` turns `codes . codes * key_scale` into a base-2 score with 8 fractional
    bits. `output_unit` is `2^3 / (255 * 127)`. `selected` is bool `[batch, heads, tokens, length]`: the tokens that
    are attended to, all visible ones if it is absent; each row needs one that is visible.

    For each head and token, over the visible tokens t:

        score_t  = saturate(round_half_even((q . k_t) * key_scale_t * query_scale), 20 bits)
        weight_t = exp2 of score_t - max score, at most 2^15;   total = sum of weight_t
        p_t, M   = absmax(weight_t * value_scale_t), codes 0..255
        output   = saturate(round_half_even((sum_t p_t v_t) * (M * output_unit) / total), 20 bits)

    The output is in words, its unit 2^-3 of the unit of the value scales. Keys of the result: `scores`,
    `weights`, `probabilities` (p), `output` `[batch, heads, tokens, head_dim]`.
    """
    batch, heads, tokens, head_dim = queries.shape
    length, kv_heads = cache.length, cache.keys.shape[1]
    group = heads // kv_heads
    start = length - tokens
    # Each key-value head serves `group` query heads, folded into rows.
    rows = queries.int().reshape(batch, kv_heads, group * tokens, head_dim)
    keys, values = cache.keys[:, :, :length].int(), cache.values[:, :, :length].int()
    dots = (rows @ keys.transpose(2, 3)).view(batch, kv_heads, group, tokens, length).long()
    scaled = dots * cache.key_scales[:, :, None, None, :length]
    shape = (batch, kv_heads, group, tokens, 1)
    query = Scale(query_scales.mantissa.reshape(shape), query_scales.exponent.reshape(shape))
    scores = requantise(scaled, query)
    visible = None
    if tokens > 1:
        visible = torch.arange(length) <= torch.arange(start, length)[:, None]
    if selected is not None:
        folded = selected.reshape(batch, kv_heads, group, tokens, length)
        visible = folded if visible is None else folded & visible
    weights, total = softmax_weights(scores, visible)
    codes, largest = absmax(weights * cache.value_scales[:, :, None, None, :length], UNSIGNED_MAX)
    sums = (codes.int().view(batch, kv_heads, group * tokens, length) @ values).long()
    unit = divide(multiply(normalise(largest), output_unit), normalise(total)).unsqueeze(-1)
    output = requantise(sums.view(batch, kv_heads, group, tokens, head_dim), unit)

    def unfold(x: Tensor) -> Tensor:
        return x.reshape(batch, heads, tokens, -1)

    return {
        "scores": unfold(scores),
        "weights": unfold(weights),
        "probabilities": unfold(codes),
        "output": unfold(output),
    }
