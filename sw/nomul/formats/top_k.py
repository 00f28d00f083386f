"""The streams of `nomul.attention.top_k`: scores, and the places of the largest."""

from typing import Any

from torch import Tensor

from nomul.errors import InputError
from nomul.formats.job import Job, frame, refuse_length, refuse_outside
from nomul.golden.top_k import top_k

__all__ = ["top_k_job"]


def top_k_job(config: Any, scores: Tensor, k: int) -> Job:
    """Choose the k largest of scores, integers [m]; InputError if they do not fit the unit."""
    refuse_length("scores", len(scores), config.job_limits)
    if not 1 <= k <= config.scores_max:
        raise InputError(f"k is {k}; this unit takes 1 to {config.scores_max}")
    refuse_outside("score", scores, config.score_bits, "score_bits")
    chosen = top_k(scores.long(), k, config.score_bits)
    values, _ = frame(scores[None], 1)
    return Job({"scores": len(scores), "k": k}, {"scores": values}, {"results": frame(chosen[None], 1)})
