"""Range analysis: a bound for every integer of the integer model, from the model's shape alone.

A bound holds for all weights, gains, tokens and cached values, since it uses only the widths of operands and the
lengths of sums. `check` is called when an integer model is made.
"""

from dataclasses import dataclass

from sw.golden.absmax import CODE_MAX, UNSIGNED_MAX
from sw.golden.absmax import INPUT_BITS as ABSMAX_BITS
from sw.golden.activation import SILU_OUTPUT_BITS
from sw.golden.attention import SCALE_BITS
from sw.golden.requantise import PRODUCT_BITS, WORD_BITS
from sw.golden.rope import AMPLITUDE_BITS, FRACTION_BITS
from sw.golden.scale import MANTISSA_BITS
from sw.golden.softmax import WEIGHT_BITS
from sw.model.transformer import TransformerConfig

WORD_MAX = (1 << (WORD_BITS - 1)) - 1
CONTAINER_BITS = 62
"""Magnitude bits that the golden functions' int64 arithmetic may use."""


@dataclass(frozen=True)
class Range:
    """The largest magnitude that a value can have, and the most that its use allows."""

    name: str
    bound: int
    limit: int

    @property
    def bits(self) -> int:
        """Width of a two's complement signal that holds the value."""
        return self.bound.bit_length() + 1


def ranges(config: TransformerConfig, context: int | None = None) -> list[Range]:
    """Return the bound of every intermediate value, with the limit of the operator that takes it."""
    container, requantiser = (1 << CONTAINER_BITS) - 1, (1 << (PRODUCT_BITS - MANTISSA_BITS)) - 1
    absmax = (1 << ABSMAX_BITS) - 1
    length = context or config.context
    inner = config.heads * config.head_dim
    amplitude = 1 << AMPLITUDE_BITS
    sums = CODE_MAX * config.width
    # |low cos - high sin| <= |sums| (|cos| + |sin|), and cos^2 + sin^2 of the table exceeds 1 by its rounding only.
    pair = sums * (-int(-amplitude * 2**0.5 // 1) + 1)
    rotated = (pair >> (AMPLITUDE_BITS - FRACTION_BITS)) + 1
    dots = config.head_dim * CODE_MAX**2
    scale_max = (1 << SCALE_BITS) - 1
    weight = 1 << (WEIGHT_BITS - 1)
    gated = sums**3 if config.activation == "relu2" else ((WORD_MAX << (SILU_OUTPUT_BITS - 7)) + weight) * sums
    return [
        Range("norm product x * gain", WORD_MAX * CODE_MAX, absmax),
        Range("norm sum of squares, width", config.width * WORD_MAX**2, container),
        Range("norm sum of squares, attention", inner * WORD_MAX**2, container),
        Range("norm sum of squares, ffn", config.ffn * WORD_MAX**2, container),
        Range("sums of q, k, v, gate, up", sums, requantiser),
        Range("sums of o", CODE_MAX * inner, requantiser),
        Range("sums of down", CODE_MAX * config.ffn, requantiser),
        Range("rotation before rounding", pair, container),
        Range("rotated", rotated, absmax),
        Range("scores q . k", dots, (1 << 31) - 1),
        Range("scores q . k * key scale", dots * scale_max, requantiser),
        Range("softmax weight", weight, container),
        Range("softmax sum", length * weight, container),
        Range("weight * value scale", weight * scale_max, absmax),
        Range("weighted sum p . v", length * UNSIGNED_MAX * CODE_MAX, (1 << 31) - 1),
        Range("gated product", gated, container),
        Range("logits", config.width * CODE_MAX**2, (1 << 31) - 1),
    ]


def check(config: TransformerConfig) -> None:
    """Raise `OverflowError` that names the first value whose bound exceeds its limit."""
    for entry in ranges(config):
        if entry.bound > entry.limit:
            raise OverflowError(
                f"{entry.name} can reach {entry.bound} ({entry.bits} bits), more than its limit of {entry.limit}"
            )
