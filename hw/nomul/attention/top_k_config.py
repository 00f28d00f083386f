"""Configuration of `nomul.attention.top_k`, and what its parts tell each other."""

import dataclasses

from amaranth.hdl import signed
from amaranth.lib import data

from nomul.arith.target import TARGETS
from nomul.config import parameter, refuse, validate
from nomul.contract import CoreConfig, Port

__all__ = ["GROUP", "TopKConfig", "address_width", "chosen_layout", "task_layout"]

GROUP = 4
"""Lanes that are counted by look-up."""


@dataclasses.dataclass(frozen=True)
class TopKConfig(CoreConfig):
    """Configuration of `TopK`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the lanes are not whole groups of four.
    """

    lanes: int = parameter(16, "scores weighed in parallel, a multiple of 4", low=4, high=128)
    score_bits: int = parameter(22, "width of a score, two's complement", low=2, high=64)
    scores_max: int = parameter(1024, "most scores of a job (M)", low=1, high=1 << 16)
    queue: int = parameter(16, "indices that wait while the consumer stalls", low=8, high=4096)
    target: str = parameter("portable", "technology; names the memories' style", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, and the groups."""
        validate(self)
        if self.lanes % GROUP:
            refuse(self, "lanes", f"multiples of {GROUP} from 4 to 128")

    @property
    def words_max(self) -> int:
        """Words of the most scores."""
        return -(-self.scores_max // self.lanes)

    @property
    def index_width(self) -> int:
        """Bits of an index."""
        return max(1, (self.scores_max - 1).bit_length())

    @property
    def count_stages(self) -> int:
        """Stages from the counts of groups of four lanes to that of a word: each adds up to four."""
        groups, stages = self.lanes // GROUP, 0
        while groups > 1:
            groups, stages = -(-groups // 4), stages + 1
        return stages

    @property
    def gap(self) -> int:
        """Cycles between the last word of a pass and the first of the next."""
        return 3 + self.count_stages

    @property
    def job_limits(self) -> dict[str, int]:
        """M, and K; a K above M counts as M."""
        return {"scores": self.scores_max, "k": self.scores_max}

    @property
    def repeats(self) -> str | None:
        """Indices come as one vector."""
        return None

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The scores, the oldest first."""
        return (Port.of("scores", 1, self.score_bits, "the scores of a job, the oldest first"),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The indices, the oldest first."""
        return (Port.of("results", 1, self.index_width, "indices of the chosen, in order of age", negative=False),)

    @property
    def work_per_cycle(self) -> int:
        """Scores taken in a cycle."""
        return 1

    def work(self, *, scores: int, k: int) -> int:
        """Return the scores of a job."""
        return scores

    def cycles(self, *, scores: int, k: int) -> int:
        """Return the cycles of a job alone: taking, a pass for each bit, one to find the chosen, and giving.

        With W = ceil(M / lanes): `M + score_bits * (W + gap) + W + min(K, M)` and a constant. Nothing in it depends on
        the scores. While jobs follow each other, taking overlaps with the passes of the job before.
        """
        words = -(-scores // self.lanes)
        passes = self.score_bits * (words + self.gap)
        return scores + passes + words + min(k, scores) + 2 * self.count_stages + 21


def address_width(config: TopKConfig) -> int:
    """Return the bits that number a word."""
    return (config.words_max - 1).bit_length()


def task_layout(config: TopKConfig) -> data.StructLayout:
    """Return what a selection is told: number of the last word, its valid lanes, the index of its lane 0, K - 1."""
    return data.StructLayout(
        {
            "last": address_width(config),
            "valid": config.lanes,
            "base": config.index_width,
            "wanted": signed(config.scores_max.bit_length() + 1),
        }
    )


def chosen_layout(config: TopKConfig) -> data.StructLayout:
    """Return a word with chosen lanes: which, how many less one, and the index of lane 0."""
    return data.StructLayout(
        {"mask": config.lanes, "more": (config.lanes - 1).bit_length(), "base": config.index_width}
    )
