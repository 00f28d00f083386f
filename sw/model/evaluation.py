"""Evaluation: loss of the float and of the integer model on a text, and how often they choose the same token."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from sw.golden.lm_head import greedy
from sw.model.integer import IntegerModel
from sw.model.text import windows
from sw.model.transformer import Transformer

ROWS = 1
"""Windows at a time; more do not go faster, since the temporaries leave the processor's caches."""


@dataclass
class Evaluation:
    """Means over all predicted characters; what needs an integer model is None where there is none."""

    characters: int
    nats_per_char_float: float
    nats_per_char_integer: float | None
    agreement: float | None
    """Share of positions at which both models' greedy choices are equal."""


def evaluate(
    model: Transformer,
    integer: IntegerModel | None,
    tokens: Tensor,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Predict every token but the first, in consecutive windows of the model's context, on all cores.

    The integer model's losses are computed in float64 from its integer logits and scales; the model itself stays in
    integers.
    """
    total = len(tokens) - 1
    chunks = [
        pair
        for inputs, targets in windows(tokens, model.config.context)
        for pair in zip(inputs.split(ROWS), targets.split(ROWS), strict=True)
    ]

    @torch.no_grad()
    def measure(chunk: tuple[Tensor, Tensor]) -> tuple[int, float, float, int]:
        x, y = chunk
        logits = model(x).double()
        loss = _loss(logits, y)
        if integer is None:
            return x.numel(), loss, 0.0, 0
        values, scale = integer.forward(x, integer.caches(len(x), x.shape[1]))
        equal = int((logits.argmax(-1) == greedy(values)).sum())
        return x.numel(), loss, _loss(values.double() * scale.to_float()[..., None], y), equal

    done, float_loss, integer_loss, equal = 0, 0.0, 0.0, 0
    # Windows are independent: a thread for each core, each on one window, beats sharing out every small operation.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for count, first, second, same in pool.map(measure, chunks):
                done, float_loss = done + count, float_loss + first
                integer_loss, equal = integer_loss + second, equal + same
                on_progress(done, total)
    finally:
        torch.set_num_threads(threads)
    return Evaluation(
        characters=total,
        nats_per_char_float=float_loss / total,
        nats_per_char_integer=None if integer is None else integer_loss / total,
        agreement=None if integer is None else equal / total,
    )


def perplexity_change(result: Evaluation) -> float | None:
    """Return the relative change of perplexity from the float to the integer model, or None."""
    if result.nats_per_char_integer is None:
        return None
    return math.expm1(result.nats_per_char_integer - result.nats_per_char_float)


def _loss(logits: Tensor, targets: Tensor) -> float:
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()


def total_loss(
    model: IntegerModel,
    inputs: Tensor,
    targets: Tensor,
    record: Callable[[str, Tensor], None] = lambda name, value: None,
) -> float:
    """Return the summed loss in nats of an integer model on one window `[rows, n]`, computed in float64."""
    values, scale = model.forward(inputs, model.caches(len(inputs), inputs.shape[1]), record)
    return _loss(values.double() * scale.to_float()[..., None], targets)
