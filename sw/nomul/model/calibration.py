"""Calibration: the fixed-point positions of the integer model, from the float model's ranges on some text."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nomul.golden.attention import SCALE_BITS
from nomul.golden.requantise import WORD_BITS
from nomul.model.integer import Positions
from nomul.model.text import windows
from nomul.model.transformer import Transformer

WINDOWS = 64
"""Of a text, for the ranges."""

LENGTH = 1024
"""Most tokens of a window."""

HEADROOM = 4.0
"""How much larger than anything seen a value may be before it saturates."""


@torch.no_grad()
def calibrate(model: Transformer, tokens: Tensor, rows: bool = False) -> Positions:
    """Choose positions for a model from the windows of `tokens`, `[batch, n]`.

    Each is the largest power of two with which `HEADROOM` times the largest magnitude seen fits its width: the
    residual stream in words, and for each layer the largest magnitudes of keys and of values in 16 bits, and results
    of projections with biases in words. With `rows`, embedding and head get a scale for each row.
    """
    largest: dict[str, float] = {}
    hooks = []

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            largest[name] = max(largest.get(name, 0.0), output.abs().max().item())

        return hook

    def watch_input(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        largest["residual"] = max(largest.get("residual", 0.0), inputs[0].abs().max().item())

    for index, layer in enumerate(model.model.blocks):
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            hooks.append(norm.register_forward_pre_hook(watch_input))
        for name in model.config.biases:
            module = layer.get_submodule(f"self_attn.{name}" if hasattr(layer.self_attn, name) else f"mlp.{name}")
            hooks.append(module.register_forward_hook(watch(f"{name} {index}")))
        # What is cached of keys is their form after the norm of heads, where there is one.
        keys = layer.self_attn.k_norm if model.config.qk_norm else layer.self_attn.k_proj
        hooks.append(keys.register_forward_hook(watch(f"keys {index}")))
        hooks.append(layer.self_attn.v_proj.register_forward_hook(watch(f"values {index}")))
    hooks.append(model.model.norm.register_forward_pre_hook(watch_input))
    model.eval()(tokens)
    for handle in hooks:
        handle.remove()

    def position(name: str, bits: int, growth: float = 1.0) -> int:
        return math.floor(math.log2(2.0**bits / (HEADROOM * growth * max(largest[name], 1e-9))))

    layers = range(model.config.layers)
    inside = [name for name in model.config.biases if name not in ("o_proj", "down_proj")]
    return Positions(
        residual=position("residual", WORD_BITS - 1),
        # A rotation can make the larger of a pair sqrt(2) times as large.
        keys=tuple(
            position(f"keys {index}", SCALE_BITS, math.sqrt(2) * model.config.rotary.attention_factor)
            for index in layers
        ),
        values=tuple(position(f"values {index}", SCALE_BITS) for index in layers),
        biased={name: tuple(position(f"{name} {index}", WORD_BITS - 1) for index in layers) for name in inside},
        rows=rows,
    )


def calibrate_on(model: Transformer, tokens: Tensor, rows: bool = False) -> Positions:
    """Choose positions for a model from the first windows of a text."""
    return calibrate(model, windows(tokens, min(model.config.context, LENGTH))[0][0][:WINDOWS], rows)
