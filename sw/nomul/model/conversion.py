"""From a trained float model to a MixPE one: INT4 weights in groups, INT8 activations, no further training."""

from dataclasses import replace

import torch

from nomul.errors import InputError
from nomul.model.store import linears
from nomul.model.transformer import Norm, Transformer
from nomul.quantize.bitnet import fake_absmax_tensor
from nomul.quantize.mixpe import GROUP, quantise


@torch.no_grad()
def to_grid(model: Transformer) -> None:
    """Put the embedding and the norm gains on their INT8 grids, in place, as the file of a model has them."""
    for module in [*(m for m in model.modules() if isinstance(m, Norm)), model.model.embed_tokens, model.lm_head]:
        if module is not None:
            module.weight.copy_(fake_absmax_tensor(module.weight))


@torch.no_grad()
def to_mixpe(model: Transformer, group: int = GROUP) -> Transformer:
    """Return the W4A8 form of a float model; raise `InputError` if it is not a float model."""
    if model.config.linear != "float":
        raise InputError(f"MixPE weights are made from a float model; this one is {model.config.linear!r}")
    result = Transformer(replace(model.config, linear="mixpe"))
    result.load_state_dict(model.state_dict())
    for module in linears(result).values():
        module.freeze_grouped(quantise(module.weight, group))
    to_grid(result)
    return result.eval()
