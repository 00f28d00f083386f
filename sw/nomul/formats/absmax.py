"""The streams of `nomul.vector.absmax`: vectors, and their codes and maxima."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.formats.job import Job, frame, refuse_length, refuse_outside
from nomul.golden.absmax import absmax

__all__ = ["absmax_job"]


def absmax_job(config: Any, vectors: Tensor, noise: torch.Generator | None = None) -> Job:
    """Quantise vectors, integers [vectors, length]; InputError if one does not fit the unit."""
    count, length = vectors.shape
    refuse_length("length", length, config.job_limits)
    refuse_length("vectors", count, config.job_limits)
    refuse_outside("value", vectors, config.word_bits, "word_bits")
    codes, largest = absmax(vectors.long(), (1 << (config.code_bits - 1)) - 1)
    values, _ = frame(vectors, config.lanes, noise)
    maxima = largest[:, None].numpy()
    return Job(
        {"length": length, "vectors": count},
        {"values": values},
        {"results": frame(codes, config.lanes), "maxima": (maxima, np.ones(count, dtype=bool))},
    )
