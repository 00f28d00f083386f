"""The units as the host sees them: a job, what goes into their streams, and what the golden functions say comes out."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.catalog import pack_weights
from nomul.errors import InputError
from nomul.formats.mixpe import Operands
from nomul.formats.systolic import streams
from nomul.golden import systolic
from nomul.golden.absmax import absmax
from nomul.golden.bwta_attention import attend
from nomul.golden.leading_one import leading_one, predict
from nomul.golden.top_k import top_k

__all__ = [
    "UnitJob", "absmax_job", "bwta_attention_job", "frame", "leading_one_job", "pack_lanes", "systolic_job",
    "top_k_job",
]  # fmt: skip

Lanes = npt.NDArray[np.int64]
"""Values [transfers, lanes]."""


@dataclasses.dataclass(frozen=True)
class UnitJob:
    """A job, the transfers of its inputs, and those that must come out: values, and whether each is a `last`."""

    fields: dict[str, int]
    inputs: dict[str, Lanes]
    outputs: dict[str, tuple[Lanes, npt.NDArray[np.bool_]]]


def frame(vectors: Tensor, lanes: int, noise: torch.Generator | None = None) -> tuple[Lanes, npt.NDArray[np.bool_]]:
    """Cut vectors [n, length] into transfers [n * transfers, lanes], and say which of them end a vector.

    What is left of a vector's last transfer is zero, or taken from the other values in an order that `noise` draws.
    """
    count, length = vectors.shape
    transfers = -(-length // lanes)
    padded = torch.nn.functional.pad(vectors.long(), (0, transfers * lanes - length))
    if noise is not None and transfers * lanes > length:
        picks = torch.randint(vectors.numel(), (count, transfers * lanes - length), generator=noise)
        padded[:, length:] = vectors.flatten().long()[picks]
    last = np.tile(np.arange(transfers) == transfers - 1, count)
    return padded.reshape(count * transfers, lanes).numpy(), last


def pack_lanes(values: Lanes, width: int, last: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.uint8]:
    """Return transfers as bytes, little-endian, lane 0 in the lowest bits and `last` above all lanes."""
    bits = ((values[:, :, None] >> np.arange(width)) & 1).reshape(len(values), -1).astype(np.uint8)
    if last is not None:
        bits = np.concatenate([bits, last[:, None].astype(np.uint8)], axis=1)
    return np.packbits(bits, axis=1, bitorder="little")


def _refuse_outside(what: str, values: Tensor, bits: int, field: str | None = None) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    wide = values.long()  # a bound need not fit the values' own type
    outside = (wide < low) | (wide > high)
    if outside.any():
        place = outside.nonzero()[0].tolist()
        said = f"{field} = {bits}" if field else "binary16"
        where = " of vector ".join(str(index) for index in reversed(place))
        raise InputError(f"{what} {where} is {values[tuple(place)]}; allowed: {low} to {high} ({said})")


def _refuse_length(name: str, length: int, limits: dict[str, int]) -> None:
    if not 1 <= length <= limits[name]:
        field = f"{name}_max"
        remedy = f"; set {field} to {length} or more" if length > limits[name] and name != "vectors" else ""
        raise InputError(f"{name} is {length}; this unit takes 1 to {limits[name]}{remedy}")


def absmax_job(config: Any, vectors: Tensor, noise: torch.Generator | None = None) -> UnitJob:
    """Quantise vectors, integers [vectors, length]; InputError if one does not fit the unit."""
    count, length = vectors.shape
    _refuse_length("length", length, config.job_limits)
    _refuse_length("vectors", count, config.job_limits)
    _refuse_outside("value", vectors, config.word_bits, "word_bits")
    codes, largest = absmax(vectors.long(), (1 << (config.code_bits - 1)) - 1)
    values, _ = frame(vectors, config.lanes, noise)
    maxima = largest[:, None].numpy()
    return UnitJob(
        {"length": length, "vectors": count},
        {"values": values},
        {"results": frame(codes, config.lanes), "maxima": (maxima, np.ones(count, dtype=bool))},
    )


def top_k_job(config: Any, scores: Tensor, k: int) -> UnitJob:
    """Choose the k largest of scores, integers [m]; InputError if they do not fit the unit."""
    _refuse_length("scores", len(scores), config.job_limits)
    if not 1 <= k <= config.scores_max:
        raise InputError(f"k is {k}; this unit takes 1 to {config.scores_max}")
    _refuse_outside("score", scores, config.score_bits, "score_bits")
    chosen = top_k(scores.long(), k, config.score_bits)
    values, _ = frame(scores[None], 1)
    return UnitJob({"scores": len(scores), "k": k}, {"scores": values}, {"results": frame(chosen[None], 1)})


def leading_one_job(config: Any, query: Tensor, keys: Tensor, noise: torch.Generator | None = None) -> UnitJob:
    """Code keys, integers [m, d], and predict their scores for a query [d]; InputError if they do not fit the unit."""
    count, length = keys.shape
    _refuse_length("length", length, config.job_limits)
    _refuse_length("keys", count, config.job_limits)
    _refuse_outside("element", query, config.act_bits, "act_bits")
    _refuse_outside("element", keys, config.act_bits, "act_bits")
    codes = leading_one(keys, config.act_bits)
    scores = predict(query[None], codes, config.predictor, config.act_bits)
    raw, _ = frame(keys, config.lanes, noise)
    coded = leading_one(torch.from_numpy(raw), config.act_bits).numpy()
    return UnitJob(
        {"length": length, "keys": count},
        {"keys": raw, "queries": frame(query[None], config.lanes, noise)[0], "codes": coded},
        {"results": frame(scores, 1), "key_codes": (coded, np.ones(len(coded), dtype=bool))},
    )


def systolic_job(config: Any, operands: Operands, activations: Tensor) -> UnitJob:
    """Multiply activations, integers or binary16 words [tokens, n_in], by weights in groups.

    Outputs beyond the last, up to whole tiles, have scale 0. InputError if the operands do not fit the unit.
    """
    (n_out, n_in), tokens = operands.shape, len(activations)
    fields = {"n_in": n_in, "n_out": n_out, "tokens": tokens}
    for name, length in fields.items():
        _refuse_length(name, length, config.job_limits)
    if activations.shape[1] != n_in:
        raise InputError(f"activations have shape {list(activations.shape)}; these weights want [tokens, {n_in}]")
    if operands.group != config.group and not (operands.group >= n_in and config.group >= n_in):
        raise InputError(f"the weights have groups of {operands.group}; this unit's group is {config.group}")
    if config.floats:
        _refuse_outside("activation", activations, config.vector_bits)
    else:
        _refuse_outside("activation", activations, config.act_bits, "act_bits")
    if int(operands.scales.max()) >= 1 << config.scale_bits:
        raise InputError(
            f"a scale is {int(operands.scales.max())}; this unit takes 0 to {(1 << config.scale_bits) - 1} "
            f"(scale_bits = {config.scale_bits})"
        )
    result = _systolic_result(config, operands, activations)
    lanes = streams(
        dataclasses.replace(operands, group=config.group), activations, result, rows=config.rows,
        columns=config.columns, tokens_tile=config.tokens_tile if config.keeps_weights else None,
    )  # fmt: skip
    results = lanes.pop("results")
    return UnitJob(fields, lanes, {"results": (results, np.arange(len(results)) == len(results) - 1)})


def _systolic_result(config: Any, operands: Operands, activations: Tensor) -> Tensor:
    """Return what a systolic array says, int64 [tokens, n_out], and in FP16 form of whole tiles of outputs."""
    n_out, n_in = operands.shape
    weight = operands.codes.long() - operands.zeros.long()[:, torch.arange(n_in) // operands.group]
    if not config.floats:
        return systolic.matmul(weight, operands.scales, activations, group=operands.group)
    beyond = (0, 0, 0, -n_out % config.outputs_tile)
    weight, scales = (torch.nn.functional.pad(part.long(), beyond) for part in (weight, operands.scales))
    return systolic.matmul_fp16(
        weight, scales, activations, group=config.group, summed=config.summed, significand=config.significand,
        fraction=config.fraction, width=config.total_width,
    )  # fmt: skip


def bwta_attention_job(
    config: Any,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    query_scale: int,
    score_scale: int,
    noise: torch.Generator | None = None,
) -> UnitJob:
    """Attend with a query [size] to keys and values [keys, size] of -1, 0, 1; InputError if they do not fit the unit.

    A scale of 0 does what 1 does, and has to be given as that.
    """
    count, size = keys.shape
    fields = {"size": size, "keys": count, "query_scale": query_scale, "score_scale": score_scale}
    for name in ("size", "keys"):
        _refuse_length(name, fields[name], config.job_limits)
    for name in ("query_scale", "score_scale"):
        if not 1 <= fields[name] <= config.job_limits[name]:
            raise InputError(f"{name} is {fields[name]}; this unit takes 1 to {config.job_limits[name]}")
    if query.shape != (size,) or values.shape != keys.shape:
        raise InputError(
            f"the query has shape {list(query.shape)} and the values {list(values.shape)}; these keys want [{size}] "
            f"and {list(keys.shape)}"
        )
    _refuse_outside("element", query, config.query_bits, "query_bits")
    packed = [pack_weights("bwta", config.engine, matrix) for matrix in (keys, values.T.contiguous())]
    return UnitJob(
        fields,
        {
            "queries": frame(query[None], config.lanes_in, noise)[0],
            "weights": np.concatenate(packed).astype(np.int64),
        },
        {"results": frame(attend(query[None], keys, values, query_scale, score_scale), config.rows)},
    )
