"""Frequencies of rotary embedding: plain, and scaled to contexts longer than a model was first trained for.

Pair `i` of a head turns by `frequency[i]` radians a position; unscaled, `frequency[i] = theta^(-2 i / head_dim)`.

* `linear`: every frequency over `factor` (Chen et al., arXiv 2306.15595).
* `llama3`: as `linear` for wavelengths above `original / low_freq_factor` positions, unchanged below
  `original / high_freq_factor`, and between them a blend that is linear in `original / wavelength` (Llama 3.1's code).
* `yarn`: a blend that is linear in `i`, from unchanged for pairs that turn `beta_fast` times in `original` positions to
  `linear` for those that turn `beta_slow` times; cosine and sine are multiplied by `attention_factor`,
  `0.1 ln(factor) + 1` by default (Peng et al., arXiv 2309.00071, sections 3.2 to 3.4).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError

__all__ = ["KINDS", "Rotary"]

_READ: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
             "mscale_all_dim", "truncate"),
}  # fmt: skip
"""Keys of each kind, as config.json names them."""

KINDS = tuple(_READ)


@dataclass(frozen=True)
class Rotary:
    """Rotary embedding of a model; raises `InputError` for a value that makes no sense.

    The fields are those of `rope_parameters` in config.json; `original` is `original_max_position_embeddings`.
    """

    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    original: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"rotary embedding of the type {self.kind!r} is not supported; {_said()}")
        for name, value in (("rope_theta", self.theta), ("factor", self.factor), ("beta_slow", self.beta_slow)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}, but it must be finite and greater than 0")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise InputError(
                f"low_freq_factor is {self.low_freq_factor} and high_freq_factor {self.high_freq_factor}; the first "
                "must be above 0 and below the second"
            )
        if not self.beta_slow < self.beta_fast:
            raise InputError(f"beta_fast is {self.beta_fast}, but it must be above beta_slow, {self.beta_slow}")

    @classmethod
    def read(cls, settings: Mapping[str, Any], theta: float, context: int) -> "Rotary":
        """Read `rope_parameters` or `rope_scaling` of config.json, for a model of this theta and context.

        Raises `InputError` for a kind that is not supported, a key that its kind does not have, and a wrong value.
        """
        kind = settings.get("rope_type", settings.get("type")) or "default"
        if kind not in _READ:
            raise InputError(f"rotary embedding of the type {kind!r} is not supported; {_said()}")
        for key, value in settings.items():
            if key not in (*_READ[kind], "rope_type", "type", "rope_theta", "partial_rotary_factor"):
                raise InputError(f"rotary embedding of the type {kind!r} has {key} = {value!r}, which is not known")
        if kind == "default":
            return cls(theta)

        def number(key: str, default: float | None = None) -> float:
            value = settings.get(key, default)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"rotary embedding of the type {kind!r} needs a number as {key}, not {value!r}")
            return float(value)

        factor = number("factor")
        if kind == "linear":
            return cls(theta, kind, factor)
        original = int(number("original_max_position_embeddings", context if kind == "yarn" else None))
        if original < 1:
            raise InputError(f"original_max_position_embeddings is {original}, but it must be 1 or more")
        if kind == "llama3":
            return cls(theta, kind, factor, original, number("low_freq_factor"), number("high_freq_factor"))
        attention = settings.get("attention_factor")
        if attention is None:
            scales = [settings.get(key) for key in ("mscale", "mscale_all_dim")]
            both = all(scales)
            first, second = (number(key) for key in ("mscale", "mscale_all_dim")) if both else (1.0, 0.0)
            attention = _magnitude(factor, first) / (_magnitude(factor, second) if both else 1.0)
        truncate = settings.get("truncate", True)
        return cls(
            theta, kind, factor, original, beta_fast=number("beta_fast", 32), beta_slow=number("beta_slow", 1),
            attention_factor=float(attention), truncate=bool(truncate),
        )  # fmt: skip

    def stored(self) -> dict[str, Any]:
        """Return `rope_parameters` of config.json."""
        values: dict[str, Any] = {"rope_theta": self.theta, "rope_type": self.kind}
        for key in _READ[self.kind]:
            name = "original" if key.startswith("original") else key
            if hasattr(self, name):
                values[key] = getattr(self, name)
        return values

    def frequencies(self, head_dim: int) -> Tensor:
        """Return radians a position of each pair, float64 `[head_dim / 2]`."""
        pairs = torch.arange(head_dim // 2, dtype=torch.float64)
        plain = self.theta ** (-2 * pairs / head_dim)
        slow = plain / self.factor
        if self.kind == "llama3":
            turns = self.original * plain / math.tau
            share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        elif self.kind == "yarn":
            ends = [self._pair(turns, head_dim) for turns in (self.beta_fast, self.beta_slow)]
            low, high = (math.floor(ends[0]), math.ceil(ends[1])) if self.truncate else ends
            low, high = max(low, 0), min(high, head_dim - 1)
            share = 1 - (pairs - low) / (high - low if high != low else 0.001)
        else:
            return slow
        share = share.clamp(0, 1)
        return slow * (1 - share) + plain * share

    def _pair(self, turns: float, head_dim: int) -> float:
        """Return the number of the pair, not a whole one, that turns so often in the original context."""
        return head_dim * math.log(self.original / (turns * math.tau)) / (2 * math.log(self.theta))


def _magnitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _said() -> str:
    return f"supported are {', '.join(KINDS)}"
