"""The shape of a language model, as the gateware needs it."""

import dataclasses

from nomul.config import parameter, refuse, validate

__all__ = ["ACTIVATIONS", "DIGITS_MAX", "ModelShape"]

ACTIVATIONS = ("relu2", "silu")
"""Gated activations: ReLU^2 (BitNet b1.58 2B-4T) and SiLU (SwiGLU models)."""

DIGITS_MAX = 6
"""Ternary digits of an INT8 weight: 3^5 codes reach +-121, 3^6 all."""


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only transformer with ternary projections (docs/numerics.md).

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    width: int = parameter(160, "length of the residual stream", low=2, high=1 << 14)
    layers: int = parameter(5, "decoder layers", low=1, high=256)
    heads: int = parameter(5, "query heads", low=1, high=256)
    kv_heads: int = parameter(1, "key and value heads; divides heads", low=1, high=256)
    head_dim: int = parameter(32, "length of a head's vectors", low=2, high=512)
    ffn: int = parameter(400, "length of the gated hidden vector", low=2, high=1 << 15)
    vocabulary: int = parameter(66, "tokens", low=2, high=1 << 18)
    context: int = parameter(256, "tokens that attention sees at most", low=2, high=1 << 16)
    activation: str = parameter("relu2", "gated activation", choices=ACTIVATIONS)
    head_digits: int = parameter(DIGITS_MAX, "ternary digits of a weight of the LM head", low=1, high=DIGITS_MAX)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.heads % self.kv_heads:
            refuse(self, "kv_heads", f"a divisor of heads = {self.heads}")
        if self.head_dim % 2:
            refuse(self, "head_dim", "an even number, for rotary embedding")

    @property
    def queries(self) -> int:
        """Length of all query heads together."""
        return self.heads * self.head_dim

    @property
    def vectors(self) -> int:
        """Vectors of a token that the first projection makes: queries, keys and values."""
        return self.heads + 2 * self.kv_heads

    @property
    def longest(self) -> int:
        """The longest vector that is an operand of a projection."""
        return max(self.width, self.queries, self.ffn)
