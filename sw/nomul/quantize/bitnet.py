"""BitNet b1.58 quantisers: absmean ternary weights and absmax INT8 activations, with straight-through gradients.

Source: BitNet b1.58 (arXiv 2402.17764) section 2 and the 2B-4T report (arXiv 2504.12285) section 2. These are the
quantisers of training and of the float model; the integer semantics are in `nomul.golden`.
"""

from torch import Tensor

ABSMAX = 127
"""The largest INT8 code of an activation; -128 is never produced."""

FLOOR = 1e-5
"""The least scale that a division uses, as in the published code."""


def straight_through(value: Tensor, quantised: Tensor) -> Tensor:
    """Return `quantised` in the forward pass and the gradient of `value` in the backward pass."""
    return value + (quantised - value).detach()


def ternary_codes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise a weight matrix to `codes * scale`, codes in {-1, 0, 1}, scale the mean absolute value.

    Returns the codes (floating, same shape, differentiable straight through) and the scale (a scalar tensor).
    `codes = clamp(round_half_even(weight / scale), -1, 1)`.
    """
    scale = weight.detach().abs().mean().clamp(min=FLOOR)
    ratio = weight / scale
    return straight_through(ratio, ratio.round().clamp(-1, 1)), scale


def absmax_codes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise the last axis to `codes * scale`, codes whole numbers in -127..127, scale `max|values| / 127`.

    Returns the codes (floating, differentiable straight through) and the scale with the last axis of length 1.
    An all-zero vector gives zero codes.
    """
    scale = values.detach().abs().amax(-1, keepdim=True).clamp(min=FLOOR) / ABSMAX
    ratio = values / scale
    return straight_through(ratio, ratio.round()), scale


def published_codes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes, and `127 / max|values|` of the last axis, as transformers' BitLinear computes them.

    `codes = round(values * (127 / max))`: where that lies between two codes, `absmax_codes` may choose the other one.
    """
    inverse = ABSMAX / values.abs().amax(-1, keepdim=True).clamp(min=FLOOR)
    return (values * inverse).round(), inverse


def fake_absmax(values: Tensor) -> Tensor:
    """Round the last axis to its INT8 grid and return real values; the gradient passes straight through."""
    codes, scale = absmax_codes(values)
    return codes * scale


def fake_absmax_tensor(values: Tensor) -> Tensor:
    """Round a whole tensor to one INT8 grid (its own maximum is 127); the gradient passes straight through.

    Used for embeddings and norm gains, which hardware keeps as INT8 with one scale.
    """
    scale = values.detach().abs().amax().clamp(min=FLOOR) / ABSMAX
    return straight_through(values, (values / scale).round() * scale)
