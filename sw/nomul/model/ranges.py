"""Range analysis: a bound for every integer of the integer model, from the model's shape alone.

A bound holds for all weights, gains, tokens and cached values, since it uses only the widths of operands and the
lengths of sums. `check` is called when an integer model is made.
"""

import math
from dataclasses import dataclass

from nomul.golden.absmax import CODE_MAX, UNSIGNED_MAX
from nomul.golden.absmax import INPUT_BITS as ABSMAX_BITS
from nomul.golden.activation import SILU_FRACTION_BITS, SILU_OUTPUT_BITS, SILU_REST
from nomul.golden.attention import SCALE_BITS
from nomul.golden.requantise import PRODUCT_BITS, WORD_BITS
from nomul.golden.rope import AMPLITUDE_BITS, FRACTION_BITS
from nomul.golden.scale import EXPONENT_BITS, MANTISSA_BITS, Scale
from nomul.golden.softmax import WEIGHT_BITS
from nomul.model.transformer import TransformerConfig

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
    # |low cos - high sin| <= |sums| (|cos| + |sin|), which is at most sqrt(2) and the rounding of two table entries.
    pair = sums * (math.isqrt(2 * amplitude**2) + 2)
    rotated = (pair >> (AMPLITUDE_BITS - FRACTION_BITS)) + 1
    dots = config.head_dim * CODE_MAX**2
    scale_max = (1 << SCALE_BITS) - 1
    weight = 1 << (WEIGHT_BITS - 1)
    silu = (WORD_MAX << (SILU_OUTPUT_BITS - SILU_FRACTION_BITS)) + int(SILU_REST.max())
    gated = sums**3 if config.activation == "relu2" else silu * sums
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


def exponent_ranges(config: TransformerConfig, constants: dict[str, Scale]) -> dict[str, tuple[int, int]]:
    """Return the least and the largest exponent that each scale of a layer can have, from the layer's constants.

    `constants` are those of `nomul.model.integer.IntegerLayer.constants`: units of gains over 127, of sums, and of what
    the operators multiply. Zero scales, whose exponent is 0, are apart.
    """
    log = {name: _log2(scale) for name, scale in constants.items()}
    word = math.log2(WORD_MAX)
    lengths = {
        "input": config.width,
        "post": config.width,
        **({"sub": config.heads * config.head_dim, "ffn": config.ffn} if config.sub_norms else {}),
    }
    found: dict[str, tuple[float, float]] = {}
    for name, length in lengths.items():
        # A product x * gain of 1 or more has an x of 1 or more, so the mean square is 1/n or more; eps only adds to it.
        root = (-math.log2(2.0 ** (2 * word) + 2.0 ** max(log["eps"], 0)) / 2, math.log2(length) / 2)
        found[name] = _sum((0, word + 7), (log[f"{name}_gain"],) * 2, root)
    sums = (0.0, math.log2(CODE_MAX * config.width) + FRACTION_BITS + 1)
    one = (0.0, 0.0)
    heads = {name: one if f"{projection}_proj" in config.biases else found["input"]
             for name, projection in (("query", "q"), ("key", "k"), ("value", "v"))}  # fmt: skip
    for name in ("query", "key") if config.qk_norm else ():
        unit = _sum(found["input"], (log[f"{name}_sums"],) * 2)
        largest = max(2 * sums[1], log["eps"] - 2 * unit[0]) + 1
        heads[name] = _sum((log[f"{name}_gain"] + 14,) * 2, (-largest / 2, math.log2(config.head_dim) / 2))
    found["query"] = _sum(sums, heads["query"], (log["query"],) * 2)
    for name in ("key", "value"):
        found[name] = _sum(heads[name], (log[name],) * 2)
    if not config.sub_norms:
        found["sub"] = _sum((0, word), (log["attention"],) * 2)
    found["output"] = _sum((0, 31), (log["output"],) * 2, (-math.log2(config.context) - WEIGHT_BITS, 1 - WEIGHT_BITS))
    found["o"] = _sum(found["sub"], (log["o"],) * 2)
    gate, up = (
        _sum(one if f"{name}_proj" in config.biases else found["post"], (log[name],) * 2) for name in ("gate", "up")
    )
    shift = (0.0, float(CONTAINER_BITS - WORD_BITS + 1))
    found["unit"] = (
        _sum(gate, gate, up, shift) if config.activation == "relu2" else _sum(up, shift, (-SILU_OUTPUT_BITS, 0))
    )
    if not config.sub_norms:
        found["ffn"] = _sum((0, word), found["unit"], (-7, -6))
    found["down"] = _sum(found["ffn"], (log["down"],) * 2)
    square = _sum(found["unit"], found["unit"])
    found["unit squared"] = square
    found["eps over unit squared"] = (log["eps"] - square[1], log["eps"] - square[0])
    # A mantissa is 2^15 to 2^16, and a few roundings may carry into the next exponent.
    return {name: (math.floor(low) - 17, math.ceil(high) - 14) for name, (low, high) in found.items()}


def check_exponents(config: TransformerConfig, constants: dict[str, Scale]) -> None:
    """Raise `OverflowError` that names the first scale whose exponent could leave its width."""
    limit = 1 << (EXPONENT_BITS - 1)
    for name, (low, high) in exponent_ranges(config, constants).items():
        if low < -limit or high >= limit:
            raise OverflowError(
                f"the exponent of the scale '{name}' can be {low} to {high}; {EXPONENT_BITS} bits hold {-limit} to "
                f"{limit - 1}"
            )


def _log2(scale: Scale) -> float:
    return math.log2(max(int(scale.mantissa), 1)) + int(scale.exponent)


def _sum(*intervals: tuple[float, float]) -> tuple[float, float]:
    return sum(low for low, _ in intervals), sum(high for _, high in intervals)
