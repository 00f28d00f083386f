"""The configuration of `nomul.attention.attention.Attention`, and the widths that follow from it."""

import dataclasses

from amaranth.lib import data

from nomul.arith.target import TARGETS
from nomul.attention.softmax import WEIGHT_BITS
from nomul.config import parameter, refuse, validate
from nomul.memory.kv_cache import SCALE_BITS, read_layout
from nomul.vector.scale import SCALE

__all__ = ["CODE_MAX", "UNIT_CYCLES", "WORD_BITS", "AttentionConfig"]

WORD_BITS = 20
"""Width of a score and of an output, two's complement, symmetric."""

CODE_MAX = 127
"""Largest magnitude of an INT8 code."""

PROBABILITY_MAX = 255
"""Largest code of a softmax weight times the scale of its value."""

UNIT_CYCLES = 26
"""The most cycles from one unit of a job's sums to the next; a single one takes less than twice as many."""


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """Configuration of `Attention`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the lanes do not divide a head.
    """

    head_dim: int = parameter(32, "elements of a head", low=2, high=256)
    context: int = parameter(256, "most tokens that a query sees", low=2, high=1 << 16)
    lanes: int = parameter(4, "elements of an output given in parallel", low=1, high=256)
    layers: int = parameter(1, "layers of the cache", low=1, high=256)
    kv_heads: int = parameter(1, "key-value heads of a layer", low=1, high=256)
    queries: int = parameter(1, "queries that share each row that is read", low=1, high=64)
    jobs: int = parameter(16, "jobs in flight at most, and two", low=4, high=64)
    target: str = parameter("portable", "technology whose arithmetic and memories are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field."""
        validate(self)
        if self.head_dim % self.lanes:
            refuse(self, "lanes", f"divisors of head_dim = {self.head_dim}")

    @property
    def job_layout(self) -> data.StructLayout:
        """Payload of a job: whose keys and values, how many tokens are visible, the scale of its scores.

        With several queries, `length` is that of the rows that are read, the largest of `lengths`, one for each query,
        of which those of 0 take no part; and there are as many `query_scales`.
        """
        read = read_layout(self.layers, self.kv_heads, self.context)
        fields = {name: read[name].shape for name in ("layer", "head", "length")}
        if self.queries == 1:
            return data.StructLayout(fields | {"query_scale": SCALE})
        lengths = data.ArrayLayout(self.length_bits, self.queries)
        return data.StructLayout(fields | {"lengths": lengths, "query_scales": data.ArrayLayout(SCALE, self.queries)})

    @property
    def transfers(self) -> int:
        """Transfers of an output."""
        return self.head_dim // self.lanes

    @property
    def ring(self) -> int:
        """Entries of each buffer between two passes: twice the context, so that jobs need not wait for each other.

        There are 128 at least: as many as hide the latency of the passes.
        """
        return 1 << (max(2 * self.context, 128) - 1).bit_length()

    @property
    def length_bits(self) -> int:
        """Width of a number of tokens."""
        return self.context.bit_length()

    @property
    def levels(self) -> int:
        """Levels of the tree that sums the products of a key."""
        return (self.head_dim - 1).bit_length()

    @property
    def product_bits(self) -> int:
        """Width of a product of codes, two's complement; a probability has 8 bits without sign."""
        return (PROBABILITY_MAX * CODE_MAX).bit_length() + 1

    @property
    def dot_bits(self) -> int:
        """Width of query times key."""
        return (self.head_dim * CODE_MAX * CODE_MAX).bit_length() + 1

    @property
    def scaled_bits(self) -> int:
        """Width of query times key times the key's scale."""
        return self.dot_bits + SCALE_BITS

    @property
    def sum_bits(self) -> int:
        """Width of an element's weighted sum of values."""
        return max((self.context * PROBABILITY_MAX * CODE_MAX).bit_length() + 1, self.product_bits)

    @property
    def total_bits(self) -> int:
        """Width of the sum of softmax weights."""
        return (self.context << (WEIGHT_BITS - 1)).bit_length()

    @property
    def weighted_bits(self) -> int:
        """Width of a weight times the scale of a value."""
        return WEIGHT_BITS - 1 + SCALE_BITS

    @property
    def overhead(self) -> int:
        """Cycles of a job alone besides three for each token: it takes `3 * length + overhead`, if its unit is in time.

        From the job's transfer to that of its last result, both counted, with `KvCache` and without stalls. The unit
        is in time if `length` is `UNIT_CYCLES` or more; a job takes `UNIT_CYCLES` more at most.
        """
        # The requantiser of sums wider than 27 bits takes a cycle more.
        return 59 + self.levels + self.transfers + (self.sum_bits > 27)
