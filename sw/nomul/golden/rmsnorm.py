"""RMSNorm fused with the absmax quantiser.

The quantised vector does not depend on the root mean square at all: `absmax(x * gain / rms) = absmax(x * gain)`. Only
the scale does, so one pass over the vector finds the maximum and the sum of squares together, and a second divides.
"""

from torch import Tensor

from nomul.golden.absmax import absmax
from nomul.golden.rounding import shift_round
from nomul.golden.scale import Scale, add, multiply, normalise, rsqrt


def rmsnorm_absmax(
    x: Tensor, gain: Tensor, gain_unit: Scale, inverse_length: Scale, eps: Scale
) -> tuple[Tensor, Scale]:
    """Return the INT8 codes and the scale of `x * gain / sqrt(mean(x^2) + eps)`.

    `x` are words, int64 `[..., n]`; `gain` int64 `[n]` in -127..127. `gain_unit` is the real value of a gain of 1,
    divided by 127; `inverse_length` is `1 / n`; `eps` is in units of `x^2` (the model's, divided by the square of the
    scale of `x`), `[...]` or a scalar.

    Codes are those of `absmax(x * gain)`, exactly; `x * gain` has 26 magnitude bits. With `M` its maximum and
    `S = sum(x^2)` exact (38 + log2 n bits):

        scale = (M * gain_unit) * rsqrt(S * inverse_length + eps)

    each operation rounded as in `nomul.golden.scale`; eight roundings keep the relative error below 2^-13. A zero
    vector gives zero codes and the scale 0.
    """
    codes, largest = absmax(x * gain)
    mean = multiply(normalise(x.square().sum(-1)), inverse_length)
    return codes, multiply(multiply(normalise(largest), gain_unit), rsqrt(add(mean, eps)))


GAIN_SHIFT = 7
"""Bits that a product with a gain loses where it is kept."""


def norm_words(x: Tensor, gain: Tensor, gain_unit: Scale, inverse_length: Scale, eps: Scale) -> tuple[Tensor, Scale]:
    """Return words `rhe(x * gain / 2^7)`, and the real value of one in `x * gain / sqrt(mean(x^2) + eps)`.

    For the norm of a head's queries or keys, which are rotated before they are quantised. As `rmsnorm_absmax` takes
    them, `x` int64 `[..., n]` are exact sums, `gain` is in -127..127, so that words do not exceed the bound of `x`;
    `gain_unit` is over 127, so that the scale is `2^7 * 127 * gain_unit * rsqrt(S * inverse_length + eps)`.
    """
    mean = multiply(normalise(x.square().sum(-1)), inverse_length)
    root = multiply(gain_unit, rsqrt(add(mean, eps)))
    unit = normalise(root.mantissa * 127, root.exponent + GAIN_SHIFT)
    return shift_round(x * gain, GAIN_SHIFT), unit
