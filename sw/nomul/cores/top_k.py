"""The K largest of M scores, without comparators, after VitaLLM."""

from typing import TYPE_CHECKING

from nomul.attention.top_k import TopK, TopKConfig
from nomul.contract import UnitSpec
from nomul.cores.api import Core

if TYPE_CHECKING:
    from nomul.draw import Draw
    from nomul.formats.job import UnitJob

__all__ = ["CORE"]


def random_job(config: TopKConfig, draw: "Draw") -> "UnitJob":
    """Return scores, and a K that may be more than there are."""
    from nomul.formats.top_k import top_k_job

    scores = draw.number(1, min(config.scores_max, 16 * config.lanes))
    values = draw.values(config.score_bits, scores)
    return top_k_job(config, values, draw.number(1, min(scores + 2, config.scores_max)))


CORE = Core(
    gateware=UnitSpec("top_k", 258, "the K largest of M scores without comparators, after VitaLLM", TopKConfig, TopK),
    jobs=random_job,
)
