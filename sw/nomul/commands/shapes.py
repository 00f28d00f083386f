"""The model shapes that `nomul explore` knows by name."""

from nomul.errors import InputError
from nomul.formats.checkpoint import open_checkpoint
from nomul.model import checkpoints
from nomul.names import canonical
from nomul.report.shapes import SHAPES, Shape

__all__ = ["find_shape"]


def find_shape(name: str) -> Shape:
    """Return a published model's shape, or read that of a committed one; InputError with all names for another."""
    name = canonical(name, (*checkpoints.NAMES, *SHAPES))
    if name in SHAPES:
        return SHAPES[name]
    if name not in checkpoints.NAMES:
        allowed = ", ".join((*checkpoints.NAMES, *SHAPES))
        raise InputError(f"model shape '{name}' is unknown; choose one of {allowed}")
    config = open_checkpoint(checkpoints.path(name)).config
    return Shape(
        name,
        config["num_hidden_layers"],
        config["hidden_size"],
        config["intermediate_size"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["head_dim"],
        config["vocab_size"],
        f"the committed model {name}",
        config.get("linear", "ternary"),
        config["max_position_embeddings"],
    )
