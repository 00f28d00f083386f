"""The residual stream: words in a fixed point that calibration chose for the model."""

from torch import Tensor

from nomul.golden.requantise import WORD_BITS, requantise
from nomul.golden.rounding import saturate
from nomul.golden.scale import Scale


def add_residual(stream: Tensor, sums: Tensor, scale: Scale) -> Tensor:
    """Return `saturate(stream + requantise(sums, scale))`, both saturations to a word of 20 bits.

    `stream` are words `[..., n]`, `sums` the exact results of a projection, `scale` `[..., 1]` turns them into words.
    """
    return saturate(stream + requantise(sums, scale), WORD_BITS)
