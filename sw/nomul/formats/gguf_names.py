"""What llama.cpp calls the tensors of a decoder, under Hugging Face's names; and the order of the rows of q and k.

For the architecture `llama` llama.cpp rotates neighbours (2j, 2j + 1) of a head's values, and reorders rows of q and
k for that; Hugging Face rotates (j, j + size / 2). A head's rows were [2, size / 2] and are stored as [size / 2, 2].
Qwen and BitNet (`bitnet` and bitnet.cpp's own architectures) are rotated as Hugging Face does it, and stored as they
were.

Source: llama.cpp, conversion/llama.py (`permute`) and src/llama-model.cpp (`llama_model_rope_type`).
"""

import re
from typing import Any

import numpy as np

Order = np.ndarray[Any, np.dtype[np.intp]]

ROOT = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""Tensors that a model has once."""

BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_sub_norm": "self_attn.attn_sub_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_sub_norm": "mlp.ffn_sub_norm",
}
"""Tensors `blk.N.<name>` of each layer."""

_BLOCK = re.compile(r"blk\.(0|[1-9][0-9]*)\.(\w+)\.(weight|bias)")
_ROOT = re.compile(r"(\w+)\.(weight|bias)")


def standard_name(name: str) -> str:
    """Return the name that Hugging Face gives a tensor; one without a known place keeps its own."""
    block, root = _BLOCK.fullmatch(name), _ROOT.fullmatch(name)
    if block and block[2] in BLOCK:
        return f"model.layers.{block[1]}.{BLOCK[block[2]]}.{block[3]}"
    if root and root[1] in ROOT:
        return f"{ROOT[root[1]]}.{root[2]}"
    return name


def unpermuted(rows: int, heads: int) -> Order:
    """Return, for each row in Hugging Face's order, which stored row it is; `rows` is a multiple of two per head."""
    return np.arange(rows, dtype=np.intp).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)
