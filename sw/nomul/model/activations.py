"""Recorded intermediates: what a layer's hardware is really given when the model reads a text."""

from pathlib import Path

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.checkpoint import suggest
from nomul.model.integer import IntegerModel, Positions
from nomul.model.store import linears, load_model, load_tokenizer
from nomul.model.tokenizer import Tokenizer

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

    The result is int8 `[tokens, n_in]`: the codes of the integer model, -127..127, or -1, 0, 1 from the float form of
    a BWTA model. The text is read in windows of the model's context. Raises `InputError` for an unknown layer, a text
    that is too short, or a character that the model does not know.
    """
    model, config = load_model(checkpoint)
    layers = linears(model)
    if layer_name not in layers:
        raise InputError(f"{checkpoint} has no layer {layer_name!r}; {suggest(layer_name, list(layers))}")
    if model.config.linear in ("float", "int4"):
        what = f"{model.config.linear} model, whose projections read no quantised activations"
        raise InputError(f"{checkpoint} is a {what}")
    windows = first_tokens(load_tokenizer(checkpoint), text, tokens).split(model.config.context)
    recorded: list[Tensor] = []
    if model.config.linear == "ternary":
        integer = IntegerModel(model, Positions.from_config(config, model.config.layers, str(checkpoint)))
        index, name = layer_name.split(".")[2], INPUTS[layer_name.split(".")[-1]]
        for window in windows:
            recorded.append(trace(integer, window)[f"layers.{index}.{name}"].to(torch.int8))
    else:
        layers[layer_name].register_forward_pre_hook(
            lambda module, args: recorded.append(args[0][0].round().to(torch.int8))
        )
        for window in windows:
            model(window[None])
    return torch.cat(recorded)


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
