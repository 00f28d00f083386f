"""The absmax barrier: the largest magnitude of a vector, and its exact quantisation."""

from typing import TYPE_CHECKING

from nomul.cores.api import Core
from nomul.spec import Spec
from nomul.vector.absmax import Absmax, AbsmaxConfig

if TYPE_CHECKING:
    from torch import Tensor

    from nomul.draw import Draw
    from nomul.formats.job import Job

__all__ = ["CORE"]


def random_job(config: AbsmaxConfig, draw: "Draw") -> "Job":
    """Return a few vectors of one random length."""
    from nomul.formats.absmax import absmax_job

    length = draw.number(1, min(config.length_max, 8 * config.lanes))
    return absmax_job(config, draw.values(config.word_bits, draw.number(1, 4), length), draw.random)


def vectors(config: AbsmaxConfig, values: "Tensor") -> "Job":
    """Return the job of vectors, integers [vectors, length]."""
    from nomul.formats.absmax import absmax_job

    return absmax_job(config, values)


CORE = Core(
    gateware=Spec("absmax", 259, "largest magnitude and exact quantisation of streaming vectors", AbsmaxConfig, Absmax),
    jobs=random_job,
    vectors=vectors,
)
