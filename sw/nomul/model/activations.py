"""Recorded intermediates: what a layer's hardware is really given when the model reads a text."""

from pathlib import Path

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.checkpoint import suggest
from nomul.model.integer import IntegerModel, Positions
from nomul.model.store import linears, load_model, load_tokenizer
from nomul.model.tokenizer import Tokenizer
from nomul.model.transformer import Transformer
from nomul.quantize.bitnet import absmax_codes

INPUTS = {
    "q_proj": "attention.input",
    "k_proj": "attention.input",
    "v_proj": "attention.input",
    "o_proj": "attention.sub_norm",
    "gate_proj": "mlp.input",
    "up_proj": "mlp.input",
    "down_proj": "mlp.sub_norm",
}
"""The intermediate of the integer model that each projection reads."""


@torch.no_grad()
def record(checkpoint: Path, layer_name: str, text: str, tokens: int) -> Tensor:
    """Return the quantised inputs of one projection over the first `tokens` tokens of `text`.

    The result is int8 `[tokens, n_in]`: the codes of the integer model, -127..127; of a model that has none, those of
    its float form, which are -1, 0, 1 for BWTA, and INT8 codes of the real values that other projections read. The text
    is read in windows of the model's context. Raises `InputError` for an unknown layer, a text that is too short, or
    what has no token.
    """
    model, config = load_model(checkpoint)
    layers = linears(model)
    if layer_name not in layers:
        raise InputError(f"{checkpoint} has no layer {layer_name!r}; {suggest(layer_name, list(layers))}")
    windows = first_tokens(load_tokenizer(checkpoint), text, tokens).split(model.config.context)
    recorded: list[Tensor] = []
    if model.config.linear == "ternary" and "integer" in config:
        integer = IntegerModel(model, Positions.from_config(config, model.config.layers, str(checkpoint)))
        index, name = layer_name.split(".")[2], INPUTS[layer_name.split(".")[-1]]
        for window in windows:
            recorded.append(trace(integer, window)[f"layers.{index}.{name}"].to(torch.int8))
    else:
        layers[layer_name].register_forward_pre_hook(
            lambda module, args: recorded.append(_codes(model, args[0][0]).round().to(torch.int8))
        )
        for window in windows:
            model(window[None])
    return torch.cat(recorded)


def _codes(model: Transformer, values: Tensor) -> Tensor:
    """Return what a projection of the float model reads as codes: INT8 ones of real values."""
    return values if model.config.quantises else absmax_codes(values)[0]


def first_tokens(tokenizer: Tokenizer, text: str, tokens: int) -> Tensor:
    """Return the first tokens of a text, int64 `[tokens]`; `InputError` if it has fewer."""
    # No token stands for less than a character's quarter, and few texts need more characters than this.
    found = tokenizer.encode(text[: max(64, 16 * tokens)] if tokenizer.unit == "token" else text[:tokens])
    if not 1 <= tokens <= len(found):
        raise InputError(f"tokens is {tokens}; the text allows 1 to {len(found)}")
    return found[:tokens]


def trace(model: IntegerModel, tokens: Tensor) -> dict[str, Tensor]:
    """Return every named intermediate of reading `tokens` `[n]` at once, without the batch axis, int64.

    Names and shapes are listed in docs/numerics.md.
    """
    values: dict[str, Tensor] = {}
    model.forward(tokens[None], model.caches(capacity=len(tokens)), lambda name, value: values.update({name: value[0]}))
    return values
