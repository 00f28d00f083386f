"""The streams of `nomul.attention.leading_one`: keys, their codes, and predicted scores."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.formats.job import Job, frame, refuse_length, refuse_outside
from nomul.golden.leading_one import leading_one, predict

__all__ = ["leading_one_job"]


def leading_one_job(config: Any, query: Tensor, keys: Tensor, noise: torch.Generator | None = None) -> Job:
    """Code keys, integers [m, d], and predict their scores for a query [d]; InputError if they do not fit the unit."""
    count, length = keys.shape
    refuse_length("length", length, config.job_limits)
    refuse_length("keys", count, config.job_limits)
    refuse_outside("element", query, config.act_bits, "act_bits")
    refuse_outside("element", keys, config.act_bits, "act_bits")
    codes = leading_one(keys, config.act_bits)
    scores = predict(query[None], codes, config.predictor, config.act_bits)
    raw, _ = frame(keys, config.lanes, noise)
    coded = leading_one(torch.from_numpy(raw), config.act_bits).numpy()
    return Job(
        {"length": length, "keys": count},
        {"keys": raw, "queries": frame(query[None], config.lanes, noise)[0], "codes": coded},
        {"results": frame(scores, 1), "key_codes": (coded, np.ones(len(coded), dtype=bool))},
    )
