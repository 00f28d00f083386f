"""BoothFlex: one radix-4 datapath for INT8 x INT8 and for four ternary x INT8 products, after VitaLLM's BoothFlex core
(arXiv 2604.27396).

    y[k] = sum_j W[k, j] * a[j]

VitaLLM publishes that its core drives the rows of a radix-4 Booth multiplier directly with ternary weights; the
structure is ours. A ternary weight is a radix-4 digit. So each digit row of a lane, which in `int8` mode multiplies a
digit of one weight, multiplies in `ternary` mode a weight and an activation of its own: four products a lane, for four
times the activations. The mode is the job's; it travels with each step, so jobs of both modes follow each other without
a gap.

Adding up each digit over all lanes before it is shifted makes the shift, which is all that the mode changes, a matter
of rows and not of lanes (`nomul.engines.boothflex_array`).

Standard-cell arrays (`FlexTrees`) take digits -2, -1, 0, 1 (`nomul.arith.digits`), which the packer codes. In int8 mode
42 times the sum of a step's activations is due; it is made once for all rows. What depends on the weights alone comes
from the packer as a transfer before each block's steps, from which the accumulators start.

In nangate45, 16 lanes x 8 rows, BoothFlex takes 369 um2 a lane at 1.19 ns, memories apart: 1.18 of the INT8 baseline,
and 1.11 of an INT8 array of the same style (digits of the weights).

Activations: a transfer has 4 * lanes_in of them, in both modes. Ternary mode takes a whole word in a step. Int8 mode
walks the vector four times for each block, and takes the first quarter of each word in the first pass, and so on.

Weights: a transfer holds a byte for each row and each lane, row 0 lane 0 lowest. Ternary mode: bits 2q and 2q + 1 are
the two's complement code of the weight of lane l's activation in quarter q. Int8 mode: the weight, two's complement;
for standard cells with its bits 1, 3 and 5 inverted. With p counting passes and s words, row r and lane l of a step
are W[b * rows + r, (4s + p) * lanes_in + l], or in ternary mode W[b * rows + r, (4s + q) * lanes_in + l].
"""

import dataclasses

from amaranth.hdl import ShapeLike
from amaranth.lib import data

from nomul.arith.signed_sum import sum_timing
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import PRODUCT_MOST, ArrayConfig, check_total_bits, least_total_bits
from nomul.engines.baseline_array import TREE_GAP, TREE_LATENCY
from nomul.engines.boothflex_array import DIGITS, PASSES, SUMS_STAGES, FlexSums, FlexTrees
from nomul.engines.dot import DotEngine, dot_cycles
from nomul.engines.matmul import Mode, check_streams

__all__ = ["BoothFlex", "BoothFlexConfig"]


@dataclasses.dataclass(frozen=True)
class BoothFlexConfig(ArrayConfig):
    """Configuration of `BoothFlex`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(16, "lanes; each takes one INT8 or four ternary products a cycle", low=1, high=512)
    rows: int = parameter(8, "outputs computed in parallel", low=1, high=256)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    total_bits: int | None = parameter(None, "width of accumulators and results", low=2, high=64)
    segment: int = parameter(11, "columns of the accumulator's first segment (target cells only)", low=1, high=64)
    depth: int = parameter(
        4, "longest path of the adders after the shifts, in exclusive ors (target cells only)", low=2, high=99
    )
    queue: int | None = parameter(
        None, "results that wait while the consumer stalls, in transfers; none for target cells", low=16, high=4096
    )
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.activation_lanes > self.n_in_max:
            refuse(self, "lanes_in", f"at most a quarter of n_in_max = {self.n_in_max}")
        check_total_bits(self, PRODUCT_MOST, " products")
        if self.trees and 8 * self.lanes_in < self.total_width:
            fewest = -(-self.total_width // 8)
            refuse(self, "lanes_in", f"{fewest} or more for target 'cells', whose start values take a row's weights")
        self.check_queue()
        check_streams(self)

    @property
    def act_bits(self) -> int:
        """Width of an activation and of a weight."""
        return 8

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, PRODUCT_MOST)

    @property
    def activation_lanes(self) -> int:
        """Activations in a transfer."""
        return DIGITS * self.lanes_in

    @property
    def dense_units(self) -> int:
        """Bytes in a transfer of weights."""
        return self.rows * self.lanes_in

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        return 8 * self.dense_units

    @property
    def step_weights(self) -> ShapeLike:
        """The weights of a step: a byte for each row and lane."""
        return data.ArrayLayout(8, self.dense_units)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Numbers of eight bits, and ternary weights with activations of eight bits."""
        return (
            Mode("int8", (-128, 127), (-128, 127), self.macs_per_cycle),
            Mode("ternary", (-1, 1), (-128, 127), DIGITS * self.macs_per_cycle),
        )

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        start = "; before each block a transfer of start values, lowest bits of each row's bytes" if self.trees else ""
        number = "two's complement, bits 1, 3 and 5 inverted" if self.trees else "two's complement"
        return (
            f"{self.rows} rows of {self.lanes_in} bytes a transfer, row 0 lane 0 lowest; int8: {number}; ternary: four "
            f"codes of two bits, two's complement, for the lane's activation in each quarter of a word; block by "
            f"block, in a block step by step, in int8 mode the steps of the words' first quarters before those of the "
            f"second{start}; see docs/formats.md"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * (-(-n_in // self.activation_lanes) * PASSES[mode] + self.trees)

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        if self.trees:
            split = self.segment < self.total_width
            latency, gap = TREE_LATENCY + split, TREE_GAP + split
        else:
            sums = sum_timing(self.lanes_in, Target(self.target), negatable=False)
            latency, gap = sums.latency + SUMS_STAGES + 1, 0
        return dot_cycles(self, n_in, n_out, tokens, latency=latency, gap=gap, passes=PASSES[mode], preload=self.trees)


class BoothFlex(DotEngine):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : BoothFlexConfig
    """

    def __init__(self, config: BoothFlexConfig) -> None:
        super().__init__(config, FlexTrees(config) if config.trees else FlexSums(config), config.trees, PASSES)
