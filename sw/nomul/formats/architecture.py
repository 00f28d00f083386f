"""The architecture that a Hugging Face config.json describes: a decoder of the Llama family, as BitNet models are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nomul.errors import InputError

ACTIVATIONS = ("relu2", "silu")
"""Values of `hidden_act` that Nomul's models have: ReLU squared, and SiLU (SwiGLU)."""


_LLAMA = {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"}

DEFAULTS: dict[str, dict[str, Any]] = {
    "bitnet": {"num_key_value_heads": 5, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "hidden_act": "relu2"},
    "llama": _LLAMA,
    "qwen2": {**_LLAMA, "num_key_value_heads": 32},
    "qwen3": {**_LLAMA, "num_key_value_heads": 32, "head_dim": 128},
}
"""What transformers takes for an absent key, by `model_type`; others are read as Llama's. Null key-value heads, and
absent ones in Llama, are as many as there are heads."""


@dataclass(frozen=True)
class Architecture:
    """Sizes and constants of a decoder, under the names of config.json.

    Raises `InputError` for a size that is not positive or heads that do not divide evenly.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    hidden_act: str
    tie_word_embeddings: bool

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is int and value < 1:
                raise InputError(f"config.json: {name} is {value}, but it must be 1 or more")
            if type(value) is float and not (math.isfinite(value) and value > 0):
                raise InputError(f"config.json: {name} is {value}, but it must be finite and greater than 0")
        if self.num_attention_heads % self.num_key_value_heads:
            raise InputError(
                f"config.json: num_attention_heads is {self.num_attention_heads}, "
                f"which is no multiple of num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise InputError(f"config.json: head_dim is {self.head_dim}, but rotary embedding needs an even number")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture":
        """Read the fields from config.json, with the defaults that transformers gives them (`DEFAULTS`).

        `head_dim` is hidden_size / num_attention_heads if absent; `rope_theta` may stand in `rope_parameters` or
        `rope_scaling`. Raises `InputError` for a missing field or one of the wrong type.
        """
        defaults = DEFAULTS.get(model_type(config), DEFAULTS["llama"])
        hidden_size = _integer(config, "hidden_size")
        heads = _integer(config, "num_attention_heads")
        if config.get("head_dim") is None and "head_dim" not in defaults and (heads < 1 or hidden_size % heads):
            raise InputError(f"config.json: hidden_size {hidden_size} is no multiple of num_attention_heads {heads}")
        key_value_heads = heads if "num_key_value_heads" in config else defaults.get("num_key_value_heads", heads)
        return cls(
            hidden_size=hidden_size,
            intermediate_size=_integer(config, "intermediate_size"),
            num_hidden_layers=_integer(config, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=_integer(config, "num_key_value_heads", key_value_heads),
            head_dim=_integer(config, "head_dim", defaults.get("head_dim", hidden_size // max(heads, 1))),
            vocab_size=_integer(config, "vocab_size"),
            max_position_embeddings=_integer(config, "max_position_embeddings", 2048),
            rope_theta=_number({**config, **rope(config)}, "rope_theta", defaults["rope_theta"]),
            rms_norm_eps=_number(config, "rms_norm_eps", defaults["rms_norm_eps"]),
            hidden_act=_of_type(config, "hidden_act", str, defaults["hidden_act"]),
            tie_word_embeddings=_of_type(config, "tie_word_embeddings", bool, False),
        )


def projection_shapes(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """Return (n_out, n_in) of the seven projections of every decoder layer, by their Hugging Face names."""
    hidden, ffn = architecture.hidden_size, architecture.intermediate_size
    queries = architecture.num_attention_heads * architecture.head_dim
    keys = architecture.num_key_value_heads * architecture.head_dim
    block = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    return {
        f"model.layers.{i}.{name}": shape
        for i in range(architecture.num_hidden_layers)
        for name, shape in block.items()
    }


def quantization(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `quantization_config` of config.json, or an empty object."""
    value = config.get("quantization_config")
    return value if isinstance(value, Mapping) else {}


def rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what config.json says of rotary embedding; where both of its objects are there, `rope_scaling` counts.

    Raises `InputError` if it is no object.
    """
    value = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(value, Mapping):
        name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
        raise InputError(f"config.json: {name} is {value!r}, but a JSON object or null is needed")
    return value


def model_type(config: Mapping[str, Any]) -> str:
    """Return `model_type` of config.json; without one, `bitnet` if an architecture is called so and else `llama`."""
    value = config.get("model_type")
    if value is None:
        return "bitnet" if _named_bitnet(config) else "llama"
    return str(value)


def is_bitnet(config: Mapping[str, Any]) -> bool:
    """Say whether config.json describes a model that was trained with ternary weights.

    True for quant_method `bitnet`, model_type `bitnet`, an architecture that begins with BitNet in any case, and
    `weight_bits` 1 (1bitLLM writes that for 1.58 bit).
    """
    return (
        quantization(config).get("quant_method") == "bitnet"
        or config.get("model_type") == "bitnet"
        or _named_bitnet(config)
        or config.get("weight_bits") == 1
    )


def _named_bitnet(config: Mapping[str, Any]) -> bool:
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).lower().startswith("bitnet") for name in names)


def _integer(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    return _of_type(config, name, int, default)


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name)
    return float(value) if type(value) is int else _of_type(config, name, float, default)


def _of_type(config: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = config.get(name)
    if value is None:
        if default is None:
            raise InputError(f"config.json has no {name}, which is needed")
        return default
    if type(value) is not kind:
        raise InputError(f"config.json: {name} is {value!r}, but a value of type {kind.__name__} is needed")
    return value
