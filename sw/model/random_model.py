"""Models of a given shape with random parameters: for figures that depend on the shape alone, and for tests."""

import torch

from sw.model.calibration import calibrate
from sw.model.integer import IntegerModel
from sw.model.transformer import Transformer, TransformerConfig

__all__ = ["BITNET_07B", "characters", "random_integer_model"]

FIRST = 0x4E00
"""Code point of the first character of an alphabet as large as a vocabulary."""


def characters(count: int) -> str:
    """Return an alphabet of so many different characters."""
    return "".join(map(chr, range(FIRST, FIRST + count)))


BITNET_07B = {
    "width": 1536, "layers": 24, "heads": 16, "kv_heads": 16, "head_dim": 96, "ffn": 4096, "context": 1024,
}  # fmt: skip
"""BitNet b1.58 large, 0.73 billion parameters (1bitLLM/bitnet_b1_58-large); its vocabulary has 32002 tokens."""

BITNET_07B_VOCABULARY = 32002


@torch.no_grad()
def random_integer_model(config: TransformerConfig, seed: int = 0, window: int = 16) -> IntegerModel:
    """Return the integer form of a model with random parameters, calibrated on random tokens."""
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    tokens = torch.randint(config.vocabulary, (1, min(window, config.context)))
    return IntegerModel(model, calibrate(model, tokens))
