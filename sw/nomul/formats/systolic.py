"""The streams of `nomul.systolic.systolic`: operands in the order in which its elements meet them.

Dataflow `output`: tiles of R outputs by C tokens, token tile by token tile, in it output tile by output tile. Each tile
has, for each input of its whole groups, a transfer of R codes and one of C activations; and for each group R transfers
of one entry. Results: for each tile R transfers, output by output, of C tokens.

Dataflow `weight`: tiles of R inputs by C outputs, in the same order for each tile of `tokens_tile` tokens, output tile
by output tile, in it rows of inputs. Each tile has R transfers of C codes, input by input; one of C entries; and for
each token a transfer of R activations. Results: for each token tile and output tile a transfer for each token, of C
outputs.

Codes are unsigned, signed ones 8 more. An entry is the zero point, and above its four bits the scale. Inputs and
tokens beyond the last are activations of zero, outputs beyond the last have scale 0.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.job import Job, refuse_length, refuse_outside
from nomul.formats.mixpe import GroupQuantized
from nomul.golden import systolic

__all__ = ["streams", "systolic_job"]

Lanes = npt.NDArray[np.int64]


def _pad(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Pad with zeros up to whole multiples."""
    below, right = -matrix.shape[0] % rows, -matrix.shape[1] % columns
    return torch.nn.functional.pad(matrix.long(), (0, right, 0, below))


def streams(
    operands: GroupQuantized, activations: Tensor, result: Tensor, *, rows: int, columns: int, tokens_tile: int | None
) -> dict[str, Lanes]:
    """Return the transfers, int64 [transfers, lanes], of `codes`, `vectors`, `scales` and `results`.

    Parameters
    ----------
    operands : GroupQuantized
        Weights in groups.
    activations : Tensor
        Integers, or binary16 words, [tokens, n_in].
    result : Tensor
        Integers [tokens, n_out], or with what outputs beyond the last say, up to whole tiles.
    rows, columns : int
        Of the array.
    tokens_tile : int or None
        Tokens of a tile; None for dataflow `output`.
    """
    bias = 8 if min(int(operands.codes.min()), int(operands.zeros.min())) < 0 else 0
    codes, entries = operands.codes.long() + bias, operands.zeros.long() + bias + (operands.scales.long() << 4)
    if tokens_tile is None:
        return _output(codes, entries, activations, result, operands.group, rows, columns)
    return _weight(codes, entries, activations, result, operands.group, rows, columns, tokens_tile)


def _output(
    codes: Tensor, entries: Tensor, activations: Tensor, result: Tensor, group: int, rows: int, columns: int
) -> dict[str, Lanes]:
    codes, entries = _pad(codes, rows, group), _pad(entries, rows, 1)
    activations, result = _pad(activations, columns, group), _pad(result, columns, rows)
    tiles, parts = len(codes) // rows, len(activations) // columns
    of_weights = codes.view(tiles, rows, -1).transpose(1, 2).reshape(-1, rows)
    of_tokens = activations.view(parts, columns, -1).transpose(1, 2)
    of_entries = entries.view(tiles, rows, -1).transpose(1, 2).reshape(-1, 1)
    of_results = result.view(parts, columns, tiles * rows).transpose(1, 2)
    return {
        "codes": of_weights.repeat(parts, 1).numpy(),
        "vectors": of_tokens.repeat(1, tiles, 1).reshape(-1, columns).numpy(),
        "scales": of_entries.repeat(parts, 1).numpy(),
        "results": of_results.reshape(-1, columns).numpy(),
    }


def _weight(
    codes: Tensor, entries: Tensor, activations: Tensor, result: Tensor, group: int, rows: int, columns: int, most: int
) -> dict[str, Lanes]:
    codes, entries = _pad(codes, columns, rows), _pad(entries, columns, 1)
    activations, result = _pad(activations, 1, rows), _pad(result, 1, columns)
    tiles, parts = len(codes) // columns, codes.shape[1] // rows
    of_weights = codes.view(tiles, columns, parts, rows).permute(0, 2, 3, 1).reshape(-1, columns)
    whole = entries[:, torch.arange(parts) * rows // group]
    of_entries = whole.view(tiles, columns, parts).transpose(1, 2).reshape(-1, columns)
    of_tokens, of_results, repeats = [], [], 0
    for first in range(0, len(activations), most):
        some, said = activations[first : first + most], result[first : first + most]
        of_tokens.append(some.view(len(some), parts, rows).transpose(0, 1).reshape(-1, rows).repeat(tiles, 1))
        of_results.append(said.view(len(said), tiles, columns).transpose(0, 1).reshape(-1, columns))
        repeats += 1
    return {
        "codes": of_weights.repeat(repeats, 1).numpy(),
        "vectors": torch.cat(of_tokens).numpy(),
        "scales": of_entries.repeat(repeats, 1).numpy(),
        "results": torch.cat(of_results).numpy(),
    }


def systolic_job(config: Any, operands: GroupQuantized, activations: Tensor) -> Job:
    """Multiply activations, integers or binary16 words [tokens, n_in], by weights in groups.

    Outputs beyond the last, up to whole tiles, have scale 0. InputError if the operands do not fit the unit.
    """
    (n_out, n_in), tokens = operands.shape, len(activations)
    fields = {"n_in": n_in, "n_out": n_out, "tokens": tokens}
    for name, length in fields.items():
        refuse_length(name, length, config.job_limits)
    if activations.shape[1] != n_in:
        raise InputError(f"activations have shape {list(activations.shape)}; these weights want [tokens, {n_in}]")
    if operands.group != config.group and not (operands.group >= n_in and config.group >= n_in):
        raise InputError(f"the weights have groups of {operands.group}; this unit's group is {config.group}")
    if config.floats:
        refuse_outside("activation", activations, config.vector_bits)
    else:
        refuse_outside("activation", activations, config.act_bits, "act_bits")
    if int(operands.scales.max()) >= 1 << config.scale_bits:
        raise InputError(
            f"a scale is {int(operands.scales.max())}; this unit takes 0 to {(1 << config.scale_bits) - 1} "
            f"(scale_bits = {config.scale_bits})"
        )
    result = _systolic_result(config, operands, activations)
    exists = torch.zeros_like(result)
    exists[:, :n_out] = 1

    def order(values: Tensor) -> dict[str, Lanes]:
        whole = dataclasses.replace(operands, group=config.group)
        tokens_tile = config.tokens_tile if config.keeps_weights else None
        return streams(whole, activations, values, rows=config.rows, columns=config.columns, tokens_tile=tokens_tile)

    lanes, beyond = order(result), order(exists)["results"] == 0
    results = lanes.pop("results")
    last = np.arange(len(results)) == len(results) - 1
    return Job(fields, lanes, {"results": (results, last)}, {"results": beyond})


def _systolic_result(config: Any, operands: GroupQuantized, activations: Tensor) -> Tensor:
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
