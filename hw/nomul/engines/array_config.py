"""What the configurations of engines share: the width of totals, and what follows from the size of an array."""

import dataclasses
from typing import Any, Self

from nomul.arith.target import Target
from nomul.config import refuse
from nomul.engines.matmul import MatmulConfig
from nomul.memory.trit_decoder import BYTE_TRITS, GroupCode

__all__ = ["PRODUCT_MOST", "ArrayConfig", "check_total_bits", "least_total_bits"]

PRODUCT_MOST = 1 << 14
"""Largest absolute value of a product of two numbers of eight bits."""


def least_total_bits(n_in_max: int, most: int) -> int:
    """Return the width of a sum of `n_in_max` products whose largest absolute value is `most`, two's complement."""
    return (n_in_max * most).bit_length() + 1


def check_total_bits(config: Any, most: int, what: str) -> None:
    """Refuse totals too narrow for `n_in_max` products; `what` says, after a space, what is added up."""
    least = least_total_bits(config.n_in_max, most)
    if config.total_bits is not None and config.total_bits < least:
        refuse(config, "total_bits", f"{least} or more, for sums of n_in_max = {config.n_in_max}{what}")


class ArrayConfig(MatmulConfig):
    """Base of the configurations of `nomul.engines.dot.DotEngine`s: lanes by rows, and what most of them have alike.

    A configuration is a frozen dataclass that has the fields below, and overrides what its engine has otherwise.
    """

    lanes_in: int
    """Activations in a step."""

    rows: int
    """Outputs computed in parallel."""

    n_in_max: int
    """Longest reduction."""

    queue: int | None
    """Results that wait while the consumer stalls, in transfers."""

    target: str
    """Technology whose arithmetic forms are used."""

    def check_size(self) -> None:
        """Refuse more lanes than inputs, and a queue where the accumulators hold the results."""
        if self.lanes_in > self.n_in_max:
            refuse(self, "lanes_in", f"at most n_in_max = {self.n_in_max}")
        self.check_queue()

    def check_queue(self) -> None:
        """Refuse a queue where the accumulators hold the results."""
        if self.trees and self.queue is not None:
            refuse(self, "queue", "none for target 'cells', whose accumulators hold the results")

    @property
    def trees(self) -> bool:
        """Whether the array is made of compressor trees in standard cells."""
        return self.target == Target.CELLS.value

    @property
    def chunk(self) -> int | None:
        """No correction steps but those that an engine adds itself."""
        return None

    @property
    def dense_code(self) -> GroupCode | None:
        """Weights cannot be dense."""
        return None

    @property
    def dense_groups(self) -> int:
        """Weights of a step."""
        return self.rows * self.lanes_in

    @property
    def decodes(self) -> bool:
        """Weights are not dense, unless a field says so."""
        return getattr(self, "weights", None) == "dense"

    @property
    def results_at_end(self) -> bool:
        """A block's results come after its weights."""
        return False

    def dense(self, units: int | None = None) -> Self:
        """Return the configuration with dense weights, `units` bytes or a whole step in a transfer."""
        most = -(-self.dense_groups // BYTE_TRITS)
        return dataclasses.replace(self, weights="dense", weight_lanes=min(units or most, most))  # type: ignore[type-var]

    @property
    def queue_depth(self) -> int:
        """Transfers of results that wait while the consumer stalls."""
        return 0 if self.trees else self.queue or 32

    @property
    def activation_lanes(self) -> int:
        """Activations in a transfer."""
        return self.lanes_in

    @property
    def macs_per_cycle(self) -> int:
        """Products formed in a cycle."""
        return self.lanes_in * self.rows
