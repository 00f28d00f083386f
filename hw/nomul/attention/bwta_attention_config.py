"""Configuration of `nomul.attention.bwta_attention`."""

import dataclasses

from nomul.arith.target import TARGETS, Target
from nomul.config import check_inputs, parameter, refuse, validate
from nomul.contract import CoreConfig, Port
from nomul.engines.bwta import BwtaConfig

__all__ = ["BwtaAttentionConfig"]

OCTET = 4
"""Codes of two bits in a lane of the weight stream."""


@dataclasses.dataclass(frozen=True)
class BwtaAttentionConfig(CoreConfig):
    """Configuration of `BwtaAttention`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(64, "elements in a step, a multiple of 4 and of rows", low=4, high=2048)
    rows: int = parameter(8, "scores, then results, computed in parallel", low=1, high=256)
    size_max: int = parameter(128, "longest query: elements of a head", low=1, high=4096)
    keys_max: int = parameter(4096, "most keys of a job: tokens attended to", low=1, high=1 << 20)
    query_bits: int = parameter(8, "width of an element of a query, two's complement", low=2, high=16)
    queue: int | None = parameter(
        None, "results that wait while the consumer stalls, in transfers; none for target cells", low=16, high=4096
    )
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.lanes_in % self.rows or self.lanes_in % OCTET:
            refuse(self, "lanes_in", f"multiples of {OCTET} and of rows = {self.rows}")
        if self.lanes_in > self.length_max:
            refuse(self, "lanes_in", f"at most {self.length_max}, the larger of size_max and keys_max")
        if self.target == Target.CELLS.value and self.queue is not None:
            refuse(self, "queue", "none for target 'cells', whose accumulators hold the results")
        query = 8 if self.query_bits <= 8 else 16
        check_inputs(self, "rows", lambda trial: (2 * trial.rows + query) * trial.lanes_in)

    @property
    def length_max(self) -> int:
        """Longest vector that the engine takes: a query, or an attention."""
        return max(self.size_max, self.keys_max)

    @property
    def engine(self) -> BwtaConfig:
        """Configuration of the engine that makes both products."""
        return BwtaConfig(
            lanes_in=self.lanes_in, rows=self.rows, products="all", n_in_max=self.length_max,
            n_out_max=self.length_max, queue=self.queue, target=self.target,
        )  # fmt: skip

    @property
    def job_limits(self) -> dict[str, int]:
        """Lengths, and the scales s of both thresholds.

        Values are integers, so a scale of 0 would ask what 1 asks; no score passes the largest.
        """
        return {
            "size": self.size_max,
            "keys": self.keys_max,
            "query_scale": (1 << self.query_bits) - 1,
            "score_scale": 2 * self.size_max,
        }

    @property
    def repeats(self) -> str | None:
        """A job has one query, and so one vector of results."""
        return None

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The query, and the weights in octets, as `nomul.formats.bwta` packs them."""
        octets = self.engine.weight_width // 8
        return (
            Port.of("queries", self.lanes_in, self.query_bits, "the query of each job"),
            Port.of("weights", octets, 8, "keys, then transposed values, four codes in a value", negative=False),
        )

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What attention gives, exact."""
        return (Port.of("results", self.rows, self.engine.total_width, "the attended values, added up"),)

    @property
    def work_per_cycle(self) -> int:
        """Elements of keys and values that meet an activation in a cycle."""
        return self.engine.macs_per_cycle

    def work(self, *, size: int, keys: int, query_scale: int, score_scale: int) -> int:
        """Return the elements of keys and values that a job takes."""
        return 2 * size * keys

    def cycles(self, *, size: int, keys: int, query_scale: int, score_scale: int) -> int:
        """Return the cycles of a job alone: those of both products, but for the time of filling the second's vector.

        With L lanes and R rows `ceil(size / L) * (ceil(keys / R) + 1) + ceil(size / R) * ceil(keys / L)` and a
        constant, for a target other than cells.
        """
        engine = self.engine
        filling = -(-keys // self.lanes_in)
        return engine.cycles(size, keys, 1) + engine.cycles(keys, size, 1) - filling + 3
