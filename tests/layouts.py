"""The published layouts, written one weight at a time: what the readers of `nomul.formats` are tested with."""

import numpy as np
import torch


def hf_bytes(weight):
    """Packed weights by the published layout, one weight at a time."""
    rows = -(-weight.shape[0] // 4)
    packed = np.zeros((rows, weight.shape[1]), np.uint8)
    for r, c in np.ndindex(*weight.shape):
        packed[r % rows, c] |= (int(weight[r, c]) + 1) << 2 * (r // rows)
    return torch.from_numpy(packed)


def quantised(n_out=24, n_in=40, group=16, seed=0):
    """Asymmetric round-to-nearest of a random float matrix: (float weights, codes, zeros, scales), zeros 0 to 15."""
    rng = np.random.default_rng(seed)
    groups = -(-n_in // group)
    scales = rng.uniform(0.01, 0.02, (n_out, groups)).astype(np.float16)
    zeros = rng.integers(0, 16, (n_out, groups))
    expand = np.arange(n_in) // group
    # Weights inside the range of the codes, so that rounding is the only error.
    position = rng.uniform(-0.49, 15.49, (n_out, n_in))
    weights = (position - zeros[:, expand]) * scales.astype(np.float64)[:, expand]
    return weights, np.rint(position).astype(np.int64), zeros, scales


def words(matrix):
    return torch.from_numpy(matrix.astype(np.uint32).view(np.int32))


def gptq_tensors(layer, codes, zeros, scales, group, offset=1):
    """Per GPTQModel: qweight packs inputs, qzeros packs outputs, lowest nibble first; for version 1 a one is then taken
    from each nibble, by one subtraction from the whole word, so that a zero of 0 borrows from the next."""
    (n_out, n_in), groups = codes.shape, zeros.shape[1]
    qweight = np.zeros((n_in // 8, n_out), np.int64)
    qzeros = np.zeros((groups, n_out // 8), np.int64)
    for o in range(n_out):
        for k in range(n_in):
            qweight[k // 8, o] |= int(codes[o, k]) << 4 * (k % 8)
        for g in range(groups):
            qzeros[g, o // 8] |= int(zeros[o, g]) << 4 * (o % 8)
    qzeros = (qzeros - offset * 0x11111111) % 2**32
    g_idx = torch.arange(n_in, dtype=torch.int32) // group
    return {
        f"{layer}.qweight": words(qweight),
        f"{layer}.qzeros": words(qzeros),
        f"{layer}.scales": torch.from_numpy(scales.T.copy()),
        f"{layer}.g_idx": g_idx,
    }


def awq_tensors(layer, codes, zeros, scales):
    """Per AutoAWQ: both pack outputs, and nibbles 0 to 7 hold outputs 0, 2, 4, 6, 1, 3, 5, 7 of eight."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    (n_out, n_in), groups = codes.shape, zeros.shape[1]
    qweight = np.zeros((n_in, n_out // 8), np.int64)
    qzeros = np.zeros((groups, n_out // 8), np.int64)
    for column in range(n_out // 8):
        for nibble, output in enumerate(order):
            for k in range(n_in):
                qweight[k, column] |= int(codes[8 * column + output, k]) << 4 * nibble
            for g in range(groups):
                qzeros[g, column] |= int(zeros[8 * column + output, g]) << 4 * nibble
    return {
        f"{layer}.qweight": words(qweight),
        f"{layer}.qzeros": words(qzeros),
        f"{layer}.scales": torch.from_numpy(scales.T.copy()),
    }
