"""The streams of `nomul.attention.bwta_attention`: a query, packed keys and values, and outputs."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats import bwta
from nomul.formats.job import Job, frame, refuse_length, refuse_outside
from nomul.golden.bwta_attention import attend

__all__ = ["bwta_attention_job"]


def bwta_attention_job(
    config: Any,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    query_scale: int,
    score_scale: int,
    noise: torch.Generator | None = None,
) -> Job:
    """Attend with a query [size] to keys and values [keys, size] of -1, 0, 1; InputError if they do not fit the unit.

    A scale of 0 does what 1 does, and has to be given as that.
    """
    count, size = keys.shape
    fields = {"size": size, "keys": count, "query_scale": query_scale, "score_scale": score_scale}
    for name in ("size", "keys"):
        refuse_length(name, fields[name], config.job_limits)
    for name in ("query_scale", "score_scale"):
        if not 1 <= fields[name] <= config.job_limits[name]:
            raise InputError(f"{name} is {fields[name]}; this unit takes 1 to {config.job_limits[name]}")
    if query.shape != (size,) or values.shape != keys.shape:
        raise InputError(
            f"the query has shape {list(query.shape)} and the values {list(values.shape)}; these keys want [{size}] "
            f"and {list(keys.shape)}"
        )
    refuse_outside("element", query, config.query_bits, "query_bits")
    packed = [bwta.stream(config.engine, matrix) for matrix in (keys, values.T.contiguous())]
    return Job(
        fields,
        {
            "queries": frame(query[None], config.lanes_in, noise)[0],
            "weights": np.concatenate(packed).astype(np.int64),
        },
        {"results": frame(attend(query[None], keys, values, query_scale, score_scale), config.rows)},
    )
