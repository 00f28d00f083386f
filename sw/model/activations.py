"""Recorded activations: what a layer's hardware is really given when the model reads a text."""

from pathlib import Path

import torch
from torch import Tensor

from sw.errors import InputError
from sw.formats.checkpoint import suggest
from sw.model.store import linears, load_model
from sw.model.text import encode


@torch.no_grad()
def record(checkpoint: Path, layer_name: str, text: str, tokens: int) -> Tensor:
    """Return the quantised inputs of one projection over the first `tokens` characters of `text`.

    The result is int8 `[tokens, n_in]`: absmax codes in -127..127, or -1, 0, 1 in a BWTA model. The text is read in
    windows of the model's context. Raises `InputError` for an unknown layer, a text that is too short, or a character
    that the model does not know.
    """
    model, _ = load_model(checkpoint)
    layers = linears(model)
    if layer_name not in layers:
        raise InputError(f"{checkpoint} has no layer {layer_name!r}; {suggest(layer_name, list(layers))}")
    if not 1 <= tokens <= len(text):
        raise InputError(f"tokens is {tokens}; the text allows 1 to {len(text)}")
    recorded: list[Tensor] = []
    layers[layer_name].register_forward_pre_hook(
        lambda module, args: recorded.append(args[0][0].round().to(torch.int8))
    )
    for window in encode(text[:tokens], model.config.characters).split(model.config.context):
        model(window[None])
    return torch.cat(recorded)
