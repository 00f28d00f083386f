"""The metadata of a GGUF file as a config.json: every key is read, known to change nothing, or kept under its name.

A key that is kept so is one that `nomul.formats.settings` does not know, so that the model is refused by that name.
Keys of a rotation in front of each matmul (`prism.hadamard.*`) are refused when the file is opened, because not even a
layer alone means what it says without it.

Sources: gguf-py, gguf/constants.py; llama.cpp, src/llama-model.cpp and src/llama-graph.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.rotary import Rotary


@dataclass(frozen=True)
class Kind:
    """What an architecture of llama.cpp is to Hugging Face, and whether rows of q and k are reordered."""

    model_type: str
    hidden_act: str
    permuted: bool = False


KINDS = {
    "llama": Kind("llama", "silu", permuted=True),
    "qwen2": Kind("qwen2", "silu"),
    "qwen3": Kind("qwen3", "silu"),
    "bitnet": Kind("bitnet", "silu"),
    "bitnet-b1.58": Kind("bitnet", "relu2"),
    "bitnet-25": Kind("bitnet", "relu2"),
}
"""Values of `general.architecture` that are read; the last two are bitnet.cpp's."""

ROTATION = "prism.hadamard."
"""What the keys begin with that say that weights are rotated."""

HARMLESS = ("general.", "tokenizer.", "quantize.imatrix.", "split.")
"""What keys begin with that say nothing of the arithmetic; the tokenizer has a reader of its own."""

SIZES = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "context_length": "max_position_embeddings",
}
"""Keys of an architecture that must be there, by the names of config.json."""

RENAMED = {
    "attention.sliding_window": "sliding_window",
    "expert_count": "num_experts",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.scale": "attention_multiplier",
}
"""Keys of an architecture that config.json has too; what they ask for is judged there."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tensor_data_layout": ("reference", "Meta AI original pth"),
    "attention.causal": (True,),
    "attention.max_alibi_bias": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "expert_used_count": (0,),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
    "embedding_scale": (1.0,),
    "residual_scale": (1.0,),
    "logit_scale": (0.0, 1.0),
    "rope.scale_linear": (1.0,),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.yarn_attn_factor": (1.0,),
    "rope.scaling.yarn_ext_factor": (1.0,),
}
"""Keys of an architecture that change nothing where they have one of these values."""

LAYERS_MAX = 4096
"""Layers of a model, far above any, so that a broken number takes no memory."""

SPECIAL = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id", "unknown": "unk_token_id"}
"""Tokens of `tokenizer.ggml.<name>_token_id`, by the names of config.json."""

_SCALING = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}


def read_config(metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], Kind]:
    """Return the config and what kind of model it is; `shapes` are those of the tensors, by Hugging Face's names.

    Raises `InputError` for an architecture that is not read, a key that is missing or of the wrong type, a rotation,
    and one file of several.
    """
    for key in metadata:
        if key.startswith(ROTATION):
            raise InputError(
                f"the metadata has {key}: the weights are rotated (Hadamard), and Nomul has no rotation in front of a "
                f"matmul; a model that was quantised without one would do"
            )
    if metadata.get("split.count", 1) not in (0, 1):
        raise InputError(
            f"it is one of {metadata['split.count']} files of a model; llama-gguf-split --merge makes one of them"
        )
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in KINDS:
        allowed = ", ".join(KINDS)
        raise InputError(f"general.architecture is {name!r}, which Nomul does not read; it reads {allowed}")
    kind = KINDS[name]
    own = {key.removeprefix(f"{name}."): value for key, value in metadata.items() if key.startswith(f"{name}.")}
    config: dict[str, Any] = {"model_type": kind.model_type, "hidden_act": kind.hidden_act}
    config |= {theirs: _integer(own, key, f"{name}.") for key, theirs in SIZES.items()}
    if config["num_hidden_layers"] > LAYERS_MAX:
        raise InputError(f"{name}.block_count is {config['num_hidden_layers']}; Nomul reads up to {LAYERS_MAX} layers")
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = _integer(own, "attention.head_count_kv", f"{name}.", heads)
    if heads < 1 or (config["hidden_size"] % heads and "attention.key_length" not in own):
        raise InputError(f"{name}.embedding_length {config['hidden_size']} does not divide into {heads} heads")
    size = config["head_dim"] = _integer(own, "attention.key_length", f"{name}.", config["hidden_size"] // heads)
    config |= {
        "rms_norm_eps": _number(own, "attention.layer_norm_rms_epsilon", f"{name}."),
        "rope_theta": _number(own, "rope.freq_base", f"{name}.", 10000.0),
        # Tokens that were added later are in the embedding, but not always in the key.
        "vocab_size": shapes["model.embed_tokens.weight"][0]
        if "model.embed_tokens.weight" in shapes
        else _integer(own, "vocab_size", f"{name}."),
        "tie_word_embeddings": "lm_head.weight" not in shapes,
    }
    # Qwen2 has biases whatever its config.json says.
    if kind.model_type != "qwen2" and any(key.endswith("_proj.bias") for key in shapes):
        config["attention_bias"] = True
    rotated = _integer(own, "rope.dimension_count", f"{name}.", size)
    if rotated != size:
        config["partial_rotary_factor"] = rotated / size
    read = {*SIZES, "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon"}
    read |= {"rope.freq_base", "vocab_size", "rope.dimension_count"}
    if own.get("attention.value_length") == size:
        read.add("attention.value_length")
    scaling, told = _scaling(own, name)
    config |= scaling
    for key, value in own.items():
        if key in read | told or (key in NEUTRAL and value in NEUTRAL[key]):
            continue
        config[RENAMED.get(key, f"{name}.{key}")] = value
    for key, value in metadata.items():
        if not key.startswith((f"{name}.", *HARMLESS)):
            config[key] = value
    for token, theirs in SPECIAL.items():
        if f"tokenizer.ggml.{token}_token_id" in metadata:
            config[theirs] = metadata[f"tokenizer.ggml.{token}_token_id"]
    return config, kind


def _scaling(own: Mapping[str, Any], name: str) -> tuple[dict[str, Any], set[str]]:
    """Return `rope_scaling` of config.json, if there is any, and the keys that it was read from."""
    kind, factor = own.get("rope.scaling.type", "none"), own.get("rope.scaling.factor", 1.0)
    told = {"rope.scaling.type", "rope.scaling.finetuned"}
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return {}, told | {"rope.scaling.factor", "rope.scaling.original_context_length"}
    scaling = {"rope_type": kind}
    if kind == "linear":
        told.add("rope.scaling.original_context_length")
    for key, theirs in _SCALING.items():
        if f"rope.scaling.{key}" in own and f"rope.scaling.{key}" not in told:
            scaling[theirs] = own[f"rope.scaling.{key}"]
            told.add(f"rope.scaling.{key}")
    return {"rope_scaling": scaling}, told


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What llama.cpp's converter makes the divisors of `rope_freqs.weight` with, but for the factor."""


def llama3_scaling(divisors: Tensor, theta: float) -> dict[str, Any] | None:
    """Return the `rope_scaling` of Llama 3 that these divisors of the frequencies are made with; None if it is another.

    The largest is the factor; all others must be what it gives with `LLAMA3`, to a part in ten thousand.
    """
    found = {"rope_type": "llama3", "factor": float(divisors.max()), **LLAMA3}
    size = 2 * divisors.numel()
    try:
        plain, scaled = Rotary(theta), Rotary.read(found, theta, 1)
    except InputError:
        return None
    expected = plain.frequencies(size) / scaled.frequencies(size)
    return found if torch.allclose(divisors.double(), expected, rtol=1e-4, atol=0) else None


def _integer(own: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = own.get(key, default)
    if isinstance(value, list) and value and len(set(value)) == 1:
        value = value[0]
    if value is None:
        raise InputError(f"the metadata has no {where}{key}, which is needed")
    if type(value) is not int:
        raise InputError(f"{where}{key} is {str(value)[:60]}, but one whole number is needed")
    return value


def _number(own: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = own.get(key, default)
    if value is None:
        raise InputError(f"the metadata has no {where}{key}, which is needed")
    if type(value) is not float:
        raise InputError(f"{where}{key} is {str(value)[:60]}, but a fraction is needed")
    return value
