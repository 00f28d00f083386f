"""The two products of attention as BWTA's engine takes them, from a model that reads a text.

Scores are Q K^T with ternary operands; the output is A V with boolean A (BWTA, arXiv 2604.03957: ternary levels for
what is distributed around zero, boolean ones for the softmax's output). The scales are those at which the elastic
quantisers of BWTA's ancestors start (BiT: 2 mean|x| around zero, 4 mean|x| from zero up); exactly half a scale is 0.
The matrix of each product is what a cache holds, keys or values; the vectors are queries and rows of A.
"""

import dataclasses
import math
from pathlib import Path

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.checkpoint import suggest
from nomul.formats.plane_words import quantise_ternary
from nomul.golden import threshold
from nomul.model.store import load_model, load_tokenizer
from nomul.model.transformer import Transformer, rotate

__all__ = ["OPERATORS", "Head", "attention_heads", "attention_operands"]

OPERATORS = {"scores": "ternary", "values": "boolean"}
"""The operators of a self-attention by the last part of their names, and the engine's mode for each."""


@dataclasses.dataclass(frozen=True)
class Head:
    """The first head of a self-attention over a context, as `nomul.attention.bwta_attention` takes it."""

    queries: Tensor
    """int64 [tokens, head_dim], INT8 with one scale."""

    keys: Tensor
    values: Tensor
    """int8 [tokens, head_dim] of -1, 0, 1."""

    query_scale: int
    """s of the ternary threshold, in units of the queries."""

    score_scales: list[int]
    """s of the boolean threshold of each query over the keys up to its own: from zero up, where the softmax of the
    scores reaches twice its mean."""


@torch.no_grad()
def attention_operands(checkpoint: Path, name: str, text: str, tokens: int) -> tuple[Tensor, Tensor]:
    """Return (weight int8 [n_out, n_in], activations int8 [tokens, n_in]) of an operator such as
    `model.layers.0.self_attn.scores`, in the first head, over a context of `text`; the vectors are the last `tokens`.

    Raises `InputError` for an unknown operator, or more tokens than the model's context or the text has.
    """
    model, _ = load_model(checkpoint)
    config = model.config
    prefix, _, operator = name.rpartition(".")
    names = [f"model.layers.{index}.self_attn.{each}" for index in range(config.layers) for each in OPERATORS]
    if name not in names:
        raise InputError(f"{checkpoint} has no operator {name!r}; {suggest(name, names)}")
    heard = load_tokenizer(checkpoint).encode(text)[: config.context]
    length = len(heard)
    if not 1 <= tokens <= length:
        raise InputError(f"tokens is {tokens}; the context allows 1 to {length}")
    q, k, v = _first_head(model, prefix, heard)
    if operator == "scores":
        return _ternary(k), _ternary(q)[-tokens:]
    scores = (q @ k.T / config.head_dim**0.5).masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    share = scores.softmax(-1)[-tokens:]
    return _ternary(v).T.contiguous(), (share / (4 * share.mean()) > 0.5).to(torch.int8)


@torch.no_grad()
def attention_heads(checkpoint: Path, prefix: str, text: str, tokens: int) -> Head:
    """Return the first head of a self-attention such as `model.layers.0.self_attn`, over a text's first `tokens`.

    Keys and values are packed as in `attention_operands`; scores are those of packed queries and keys.
    """
    model, _ = load_model(checkpoint)
    q, k, v = _first_head(model, prefix, load_tokenizer(checkpoint).encode(text)[:tokens])
    unit = q.abs().max().item() / 127
    queries, query_scale = (q / unit).round().long(), round(2 * q.abs().mean().item() / unit)
    keys = _ternary(k)
    packed = threshold.ternary(queries, query_scale).long()
    scores = packed @ keys.long().T
    # The real value of one unit of the scores.
    alpha = 4 * q.abs().mean().item() * k.abs().mean().item() / model.config.head_dim**0.5
    scales = []
    for position, row in enumerate(scores):
        bar = (alpha * row[: position + 1]).exp().mean().mul(2).log().item() / alpha
        scales.append(max(0, 2 * math.floor(bar)))
    return Head(queries, keys, _ternary(v), query_scale, scales)


def _first_head(model: Transformer, prefix: str, tokens: Tensor) -> list[Tensor]:
    """Return rotated queries and keys, and values, float32 [tokens, head_dim], of a model that reads tokens."""
    config, attention = model.config, model.get_submodule(prefix)
    heard: dict[str, Tensor] = {}

    def hear(part: str) -> None:
        attention.get_submodule(part).register_forward_hook(lambda module, args, out: heard.update({part: out}))

    parts = {"q": "q_norm", "k": "k_norm", "v": "v_proj"}
    for part in parts.values():
        hear(part)
    model(tokens[None])
    q, k = (heard[parts[name]][0, 0].float() for name in "qk")
    length = len(tokens)
    turned = [rotate(part, model.cos[:length], model.sin[:length]) for part in (q, k)]
    return [*turned, heard["v_proj"][0, :, : config.head_dim].float()]


def _ternary(values: Tensor) -> Tensor:
    return quantise_ternary(values, 2 * values.abs().mean().item())
