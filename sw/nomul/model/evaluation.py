"""Evaluation: loss of the float and of the integer model on a text, and how often they choose the same token."""

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from nomul.golden.lm_head import greedy
from nomul.model.integer import IntegerModel
from nomul.model.text import windows
from nomul.model.transformer import Transformer

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

    seconds_float: float
    """Processor time of the float model, all threads added."""

    nats_per_char_packed: float | None
    seconds_packed: float | None
    """Of the packed form of a BWTA model (`nomul.model.packed`)."""


def evaluate(
    model: Transformer,
    integer: IntegerModel | None,
    tokens: Tensor,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    packed: Transformer | None = None,
) -> Evaluation:
    """Predict every token but the first, in consecutive windows of the model's context, on all cores.

    The integer model's losses are computed in float64 from its integer logits and scales; the model itself stays in
    integers. With `packed`, the packed form of a BWTA model, its loss is measured too.
    """
    total = len(tokens) - 1
    chunks = [
        pair
        for inputs, targets in windows(tokens, model.config.context)
        for pair in zip(inputs.split(ROWS), targets.split(ROWS), strict=True)
    ]

    @torch.no_grad()
    def measure(chunk: tuple[Tensor, Tensor]) -> dict[str, float]:
        x, y = chunk
        begin = time.thread_time()
        logits = model(x)
        found: dict[str, float] = {"characters": x.numel(), "seconds_float": time.thread_time() - begin}
        logits = logits.double()
        found["float"] = _loss(logits, y)
        if packed is not None:
            begin = time.thread_time()
            same = packed(x)
            found["seconds_packed"] = time.thread_time() - begin
            found["packed"] = _loss(same.double(), y)
        if integer is not None:
            values, scale = integer.forward(x, integer.caches(len(x), x.shape[1]))
            found["equal"] = int((logits.argmax(-1) == greedy(values)).sum())
            found["integer"] = _loss(values.double() * scale.to_float()[..., None], y)
        return found

    sums: dict[str, float] = defaultdict(float)
    # Windows are independent: a thread for each core, each on one window, beats sharing out every small operation.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for found in pool.map(measure, chunks):
                for name, value in found.items():
                    sums[name] += value
                on_progress(int(sums["characters"]), total)
    finally:
        torch.set_num_threads(threads)
    return Evaluation(
        characters=total,
        nats_per_char_float=sums["float"] / total,
        nats_per_char_integer=None if integer is None else sums["integer"] / total,
        agreement=None if integer is None else sums["equal"] / total,
        seconds_float=sums["seconds_float"],
        nats_per_char_packed=None if packed is None else sums["packed"] / total,
        seconds_packed=None if packed is None else sums["seconds_packed"],
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
