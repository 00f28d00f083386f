"""The K largest of M scores, without comparators, after VitaLLM."""

from typing import TYPE_CHECKING

from nomul.attention.top_k import TopK, TopKConfig
from nomul.cores.api import Core
from nomul.spec import Spec

if TYPE_CHECKING:
    from nomul.draw import Draw
    from nomul.formats.job import Job

__all__ = ["CORE"]


def random_job(config: TopKConfig, draw: "Draw") -> "Job":
    """Return scores, and a K that may be more than there are."""
    from nomul.formats.top_k import top_k_job

    scores = draw.number(1, min(config.scores_max, 16 * config.lanes))
    values = draw.values(config.score_bits, scores)
    return top_k_job(config, values, draw.number(1, min(scores + 2, config.scores_max)))


CORE = Core(
    gateware=Spec("top_k", 258, "the K largest of M scores without comparators, after VitaLLM", TopKConfig, TopK),
    jobs=random_job,
)
