"""What a Hugging Face model needs that Nomul's models do not have, each as one sentence."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nomul.errors import InputError
from nomul.formats.architecture import Architecture, projection_shapes
from nomul.formats.companions import PREFIX
from nomul.formats.compressed_tensors import PARTS
from nomul.formats.container import Container
from nomul.formats.settings import unsupported_settings

SUB_NORMS = {
    "self_attn.inner_attn_ln": "self_attn.attn_sub_norm",
    "mlp.ffn_layernorm": "mlp.ffn_sub_norm",
}
"""SubLN as 1bitLLM names it -> as transformers names it. Both stand before o_proj and before down_proj."""

HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
"""Norms of each head's queries and keys, as transformers' Qwen3 names them."""

_UNUSED = re.compile(r"\.rotary_emb\.inv_freq$")


def standard_name(name: str) -> str:
    """Return the name that transformers' BitNet gives a tensor; only SubLN has had another one."""
    for old, new in SUB_NORMS.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def standard_tensors(tensors: Mapping[str, Tensor], tied: bool) -> dict[str, Tensor]:
    """Return the tensors that a model needs, under the names that transformers' BitNet gives them.

    Left out are the tables of rotary frequencies that old files hold and, if the embeddings are tied, `lm_head`.
    """
    return {
        standard_name(name): tensor
        for name, tensor in tensors.items()
        if not _UNUSED.search(name) and not (tied and name == "lm_head.weight")
    }


@dataclass(frozen=True)
class Features:
    """What a decoder has beyond Llama's, as its tensors say."""

    sub_norms: bool = False
    """SubLN: norms before o_proj and before down_proj."""
    qk_norm: bool = False
    """Norms of each head's queries and keys."""
    biases: tuple[str, ...] = ()
    """Names of the projections that have biases, in the order of a layer."""


def features(architecture: Architecture, names: Iterable[str]) -> Features:
    """Return what the tensors of these names say; `InputError` if only some of the layers have a feature."""
    present = {standard_name(name) for name in names}
    layers = range(architecture.num_hidden_layers)

    def has(parts: Iterable[str], what: str) -> bool:
        needed = [f"model.layers.{i}.{part}" for i in layers for part in parts]
        missing = [name for name in needed if name not in present]
        if missing and len(missing) < len(needed):
            raise InputError(f"the tensor {missing[0]} is missing, although other layers have {what}")
        return not missing

    block = [name.removeprefix("model.layers.0.") for name in projection_shapes(architecture) if ".layers.0." in name]
    return Features(
        has([f"{norm}.weight" for norm in SUB_NORMS.values()], "SubLN"),
        has([f"{norm}.weight" for norm in HEAD_NORMS], "norms of queries and keys"),
        tuple(name.rpartition(".")[2] for name in block if has([f"{name}.bias"], "biases there")),
    )


def check_tensors(architecture: Architecture, container: Container) -> None:
    """Raise `InputError` if an embedding, a norm or the head is missing or has another shape than config.json says."""
    hidden = architecture.hidden_size
    needed = {
        "model.embed_tokens.weight": (architecture.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not architecture.tie_word_embeddings:
        needed["lm_head.weight"] = (architecture.vocab_size, hidden)
    for i in range(architecture.num_hidden_layers):
        needed[f"model.layers.{i}.input_layernorm.weight"] = (hidden,)
        needed[f"model.layers.{i}.post_attention_layernorm.weight"] = (hidden,)
    queries = architecture.num_attention_heads * architecture.head_dim
    widths = {"self_attn.attn_sub_norm": queries, "mlp.ffn_sub_norm": architecture.intermediate_size}
    widths |= dict.fromkeys(HEAD_NORMS, architecture.head_dim)
    vectors = {f"model.layers.{i}.{norm}.weight": width
               for i in range(architecture.num_hidden_layers) for norm, width in widths.items()}  # fmt: skip
    vectors |= {f"{name}.bias": n_out for name, (n_out, _) in projection_shapes(architecture).items()}
    stored = {standard_name(name): name for name in container}
    needed |= {name: (width,) for name, width in vectors.items() if name in stored}
    for name, shape in needed.items():
        if name not in stored:
            raise InputError(f"the tensor {name} is missing; config.json needs it with the shape {list(shape)}")
        if container.shape(stored[name]) != shape:
            raise InputError(
                f"the tensor {stored[name]} has the shape {list(container.shape(stored[name]))}, "
                f"but config.json needs {list(shape)}"
            )


def unsupported(config: Mapping[str, Any], architecture: Architecture, container: Container) -> list[str]:
    """Return one sentence for each thing that the model needs and Nomul's models do not have; empty if there is none.

    Looks at every setting of config.json, and at tensors without a known place.
    """
    found = list(unsupported_settings(config, architecture))
    projections = projection_shapes(architecture)
    known = {"model.embed_tokens", "model.norm", "lm_head", *projections}
    norms = ("input_layernorm", "post_attention_layernorm", *SUB_NORMS.values(), *HEAD_NORMS)
    known |= {f"model.layers.{i}.{norm}" for i in range(architecture.num_hidden_layers) for norm in norms}
    parts = ("weight", "weight_scale", "bias", "qweight", "qzeros", "scales", "g_idx", *PARTS)
    other = [
        name
        for name in container
        if not (_UNUSED.search(name) or name.startswith(PREFIX))
        and (standard_name(name).rpartition(".")[0] not in known or name.rpartition(".")[2] not in parts
             or (name.endswith(".bias") and name.removesuffix(".bias") not in projections))
    ]  # fmt: skip
    if other:
        found.append(f"Tensors without a known place are not supported: {_count(other)}.")
    return found


def _count(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
