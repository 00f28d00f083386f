"""Models of a given shape with random parameters: for figures that depend on the shape alone, and for tests."""

import torch

from nomul.model.calibration import calibrate
from nomul.model.integer import IntegerModel
from nomul.model.transformer import Transformer, TransformerConfig

__all__ = ["random_integer_model"]


@torch.no_grad()
def random_integer_model(config: TransformerConfig, seed: int = 0, window: int = 16) -> IntegerModel:
    """Return the integer form of a model with random parameters, calibrated on random tokens."""
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    tokens = torch.randint(config.vocabulary, (1, min(window, config.context)))
    return IntegerModel(model, calibrate(model, tokens))
