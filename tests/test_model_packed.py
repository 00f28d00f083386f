"""The packed form of the BWTA model: the same logits as the float form, and one sentence where there is none."""

import pytest
import torch

from nomul.errors import InputError
from nomul.model import checkpoints
from nomul.model.packed import pack_projections, packable
from nomul.model.store import load_model
from nomul.model.text import encode
from nomul.model.transformer import Transformer, TransformerConfig


@torch.no_grad()
def test_the_packed_model_has_the_logits_of_the_float_model() -> None:
    model, config = load_model(checkpoints.path("tiny_bwta"))
    tokens = encode(checkpoints.sample_text()[:90], config["characters"]).view(2, 45)
    wanted = model(tokens)
    assert torch.equal(pack_projections(model)(tokens), wanted)
    assert torch.equal(model(tokens), wanted)  # the model itself stays as it is


@pytest.mark.parametrize("linear", ["bwta", "ternary"])
def test_only_binary_weights_and_ternary_activations_are_packed(linear: str) -> None:
    model = Transformer(TransformerConfig(2, width=8, layers=1, heads=2, head_dim=4, ffn=8, linear=linear))
    assert not packable(model)  # BWTA's training begins with seventeen levels
    with pytest.raises(InputError, match=rf"^only BWTA's projections of ternary .* can be packed, not '{linear}'$"):
        pack_projections(model)
