"""The BWTA model with the products of its projections as population counts, after `nomul.golden.bwta`.

Activations are packed where the float model quantises them; weights and the gains of norms are made ready once. A
product of codes is the same integer in both models, so their logits are equal bit for bit.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from nomul.errors import InputError
from nomul.golden.bwta import Packed, matmul, pack, pack_threshold
from nomul.model.transformer import Linear, Norm, Quantise, Transformer
from nomul.quantize.bitnet import fake_absmax_tensor
from nomul.quantize.bwta import effective_step

__all__ = ["pack_projections", "packable"]


class _Pack(nn.Module):
    """Takes the place of a `Quantise` of three levels; gives packed codes and their scale."""

    def __init__(self, quantise: Quantise) -> None:
        super().__init__()
        self.step, self.bound, self.scale = quantise.step, quantise.bound, quantise.step.abs()
        self.steps: dict[int, float] = {}  # by the number of values

    def forward(self, x: Tensor) -> tuple[Packed, Tensor]:
        if x.numel() not in self.steps:
            self.steps[x.numel()] = effective_step(x, self.step, self.bound).item()
        return pack_threshold(x, self.steps[x.numel()]), self.scale


class _PackedLinear(nn.Module):
    """Takes the place of a `Linear` of binary weights."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        codes, scale = linear.quantised()
        self.packed, self.scale = pack(codes), cast(Tensor, scale)

    def forward(self, codes: Packed, scale: Tensor) -> Tensor:
        return matmul(self.packed, codes, torch.float32).mul_(scale * self.scale)


def packable(model: Transformer) -> bool:
    """Tell whether a model's projections are BWTA's, and its activations have come down to three levels."""
    quantisers = [module for module in model.modules() if isinstance(module, Quantise)]
    return model.config.linear == "bwta" and all(bool(module.bound == 1) for module in quantisers)


@torch.no_grad()
def pack_projections(model: Transformer) -> Transformer:
    """Return a copy of a model, for evaluation only, whose projections count bits.

    Raises `InputError` if the model is not `packable`.
    """
    if not packable(model):
        raise InputError(f"only BWTA's projections of ternary activations can be packed, not {model.config.linear!r}")
    packed = copy.deepcopy(model).eval()
    for parent in list(packed.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, Norm):
                module.weight.copy_(fake_absmax_tensor(module.weight))
                module.exact = True
            elif isinstance(module, Quantise):
                setattr(parent, name, _Pack(module))
            elif isinstance(module, Linear):
                setattr(parent, name, _PackedLinear(module))
    return packed
