"""Attention of packed operands from end to end, after BWTA."""

from typing import TYPE_CHECKING

from nomul.attention.bwta_attention import BwtaAttention, BwtaAttentionConfig
from nomul.cores.api import Core
from nomul.spec import Spec

if TYPE_CHECKING:
    from nomul.draw import Draw
    from nomul.formats.job import Job

__all__ = ["CORE"]


def random_job(config: BwtaAttentionConfig, draw: "Draw") -> "Job":
    """Return a job whose scales have halves that are a value or near it, and a score, near it, or half of it."""
    import torch

    from nomul.formats.bwta_attention import bwta_attention_job
    from nomul.golden.threshold import ternary

    size, count = draw.number(1, min(config.size_max, 3 * config.lanes_in)), draw.number(1, min(config.keys_max, 200))
    query = draw.values(config.query_bits, size)
    keys, cached = (draw.values(2, count, size).clamp(min=-1).to(torch.int8) for _ in range(2))
    scale = draw.near(int(query[draw.number(0, size - 1)]), config.job_limits["query_scale"])
    scores = keys.long() @ ternary(query, scale).long()
    score = int(scores[draw.number(0, count - 1)]) >> draw.number(0, 1)
    bar = draw.near(score, config.job_limits["score_scale"])
    if draw.number(0, 9) == 0:
        scale = config.job_limits["query_scale"]
    return bwta_attention_job(config, query, keys, cached, scale, bar, draw.random)


CORE = Core(
    gateware=Spec(
        "bwta_attention", 261, "attention of packed operands from end to end, after BWTA",
        BwtaAttentionConfig, BwtaAttention,
    ),
    jobs=random_job,
)  # fmt: skip
