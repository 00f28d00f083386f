"""The fused norms of a model: their order, and where their gains are."""

import enum

from nomul.accelerators.config import AcceleratorConfig

__all__ = ["Norm", "gain_offsets", "gain_words"]


class Norm(enum.IntEnum):
    """The norms of a layer, in order, and the last norm of the model."""

    INPUT = 0
    SUB = 1
    """Of attention's output."""
    POST = 2
    FFN = 3
    """Of the gated products."""
    FINAL = 4


def gain_offsets(config: AcceleratorConfig) -> list[int]:
    """Return where the gains of each norm begin, in transfers, after those of earlier layers; of FINAL, a layer's."""
    shape = config.shape
    lengths = [shape.width, shape.queries, shape.width, shape.ffn]
    return [sum(config.words(length) for length in lengths[:number]) for number in range(len(lengths) + 1)]


def gain_words(config: AcceleratorConfig) -> int:
    """Return the transfers of all gains: norm by norm and layer by layer, then of the last norm."""
    return config.shape.layers * gain_offsets(config)[-1] + config.words(config.shape.width)
