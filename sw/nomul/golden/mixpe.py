"""Reference of `nomul.engines.mixpe`: what its array makes of a weight stream, transfer by transfer.

It works on the codes and entries that `nomul.formats.mixpe` documents, digit by digit, so a test of it against a plain
matrix product checks the recodings, the entries' places, the padding and the corrections.
"""

import torch
from torch import Tensor

from nomul.golden.mixpe_stream import Layout, digits_of, excess

__all__ = ["matmul"]


def matmul(codes: Tensor, entries: dict[str, Tensor], activations: Tensor, n_out: int, layout: Layout) -> Tensor:
    """Return y of every token.

    Parameters
    ----------
    codes : Tensor
        int64 [transfers, rows / fold, lanes * fold], unsigned.
    entries : dict of str to Tensor
        `zero`, `scale`, `correction`, int64 [transfers, units].
    activations : Tensor
        Integers [tokens, n_in]. Where they do not fill a transfer, any values stand there; here, the number 1.
    n_out : int
        Outputs.
    layout : Layout
        Of the engine.

    Returns
    -------
    Tensor
        int64 [tokens, n_out].
    """
    tokens, n_in = activations.shape
    blocks = -(-n_out // layout.rows)
    steps = (len(codes) - layout.drain) // blocks
    fold, high, wide = layout.fold, layout.rows // layout.fold, layout.lanes * layout.fold
    each = steps // fold if layout.group is None else layout.group // wide
    groups = steps // (each * fold)

    # What the engine reads: the vector, padding of its last transfer, and what stood beyond in its memory before.
    summed = -(-n_in // layout.transfer) * layout.transfer
    vector = torch.full((tokens, groups * each * wide), -3)
    vector[:, :summed] = 1
    vector[:, :n_in] = activations
    inside = torch.arange(groups * each * wide) < summed
    sums = (vector * inside).view(tokens, groups, -1).sum(-1)
    words = vector.view(tokens, groups, each * wide)

    parts = codes[: blocks * steps].view(blocks, groups, fold, each, high, wide)
    grouped = parts.permute(0, 2, 4, 1, 3, 5).reshape(blocks, layout.rows, groups, -1)
    totals = torch.zeros(tokens, blocks, layout.rows, groups, dtype=torch.long)
    corrected = layout.correction_bits > 0
    for shift, values in digits_of(grouped, layout).items():
        products = torch.einsum("brgk,tgk->tbrg", values, words)
        if corrected:
            products = products + excess(values, shift, layout).sum(-1)
        totals += products << shift

    ends = ((torch.arange(blocks * groups * fold) + 1) * each - 1).view(blocks, groups, fold, 1)
    rows = torch.arange(high)
    places = (ends + layout.delay + rows % layout.turn).view(blocks, groups, layout.rows)
    units = (rows // layout.turn).repeat(fold)
    zero, scale, correction = (
        entries[name][places, units].permute(0, 2, 1) for name in ("zero", "scale", "correction")
    )
    for shift, values in digits_of(zero, layout).items():
        products = -values * sums[:, None, None, :]
        totals += (products - (values > 0).long() * corrected) << shift
    if corrected:
        if layout.group is None:
            width = layout.correction_bits
            totals = ((totals + correction + (1 << width - 1)) % (1 << width)) - (1 << width - 1)
        else:
            totals += correction
    pairs = (layout.scale_bits + 1) // 2
    scale = scale - 2 * ((1 << 2 * pairs) - 1) // 3
    return (totals * scale).sum(-1).flatten(1)[:, :n_out]
