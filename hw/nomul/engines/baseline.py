"""The INT8 x INT8 array that every area ratio stands on: what an engine without tricks on its weights would cost.

    y[k] = sum_j W[k, j] * a[j],    W and a in -128 ... 127

It keeps the contract of the other engines, is as large as they are in lanes and rows, and is made with the same care: a
weak reference would make every ratio a false claim.

Portable and FPGA arrays (`BaselineSums`) are products and adder trees. A product is the sum of one addition for each
radix-4 digit, which takes fewer look-up tables than the synthesiser's `*` (on ECP5 at 8 x 2,
117 against 222 a MAC); with `product=whole` it is `*`, for the target's multipliers.

Standard-cell arrays (`BaselineTrees`) take the activations apart into radix-4 digits -2, -1, 0, 1
(`nomul.arith.digits`), once for all rows, and choose with them among multiples of each row's weights. Full adders add
the products of all lanes and digits in one tree.

Measured in nangate45, 16 lanes x 8 rows, everything but the vector memory: 313 um2 a MAC at 1.19 ns. The other form,
digits of the weights that choose among multiples of the shared activations, takes a decoder in each row and 42 times
the sum of the activations: 333 um2 at 1.22 ns with the same finish. Logic synthesis makes 675 um2 of plain operators.

Two corrections follow:

* sum of 4^j over the digits that are not 1: it depends on the activations alone, is added up once for all rows, and
  joins each row's accumulator.
* 42 for each weight and, once for each step, the constant of the inverted top bits: it depends on the weights alone.
  The packer (`nomul.formats.baseline`) puts it into a transfer of its own before each block's steps, from which the
  accumulators start.

Weights: a transfer holds a byte, two's complement, for each row and each lane, row 0 lane 0 lowest. Transfers go block
by block, in a block step by step. For standard cells each block begins with a transfer that holds, in the lowest bits
of each row's bytes, where that row's accumulator starts.
"""

import dataclasses

from amaranth.hdl import ShapeLike, signed
from amaranth.lib import data

from nomul.arith.signed_sum import sum_timing
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import PRODUCT_MOST, ArrayConfig, check_total_bits, least_total_bits
from nomul.engines.baseline_array import TREE_GAP, TREE_LATENCY, BaselineSums, BaselineTrees
from nomul.engines.dot import DotEngine, dot_cycles
from nomul.engines.matmul import Mode, check_streams

__all__ = ["Baseline", "BaselineConfig"]


@dataclasses.dataclass(frozen=True)
class BaselineConfig(ArrayConfig):
    """Configuration of `Baseline`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(16, "activations in a step", low=1, high=512)
    rows: int = parameter(8, "outputs computed in parallel", low=1, high=256)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    total_bits: int | None = parameter(None, "width of accumulators and results", low=2, high=64)
    product: str = parameter(
        "digits",
        "a product as a sum of four radix-4 digits', for look-up tables, or whole, for multipliers (not target cells)",
        choices=("digits", "whole"),
    )
    segment: int = parameter(11, "columns of the accumulator's first segment (target cells only)", low=1, high=64)
    depth: int = parameter(17, "longest path of the tree, in exclusive ors (target cells only)", low=4, high=99)
    queue: int | None = parameter(
        None, "results that wait while the consumer stalls, in transfers; none for target cells", low=16, high=4096
    )
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        self.check_size()
        check_total_bits(self, PRODUCT_MOST, " products")
        check_streams(self)
        if self.trees and 8 * self.lanes_in < self.total_width:
            fewest = -(-self.total_width // 8)
            refuse(self, "lanes_in", f"{fewest} or more for target 'cells', whose start values take a row's weights")

    @property
    def product_stages(self) -> int:
        """Registers of a product on its way to the adder tree (not target cells)."""
        return 3 if self.product == "digits" else 1

    @property
    def act_bits(self) -> int:
        """Width of an activation and of a weight."""
        return 8

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, PRODUCT_MOST)

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
        return data.ArrayLayout(signed(8), self.dense_units)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Numbers of eight bits."""
        return (Mode("int8", (-128, 127), (-128, 127), self.macs_per_cycle),)

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        start = "; before each block a transfer of start values, lowest bits of each row's bytes" if self.trees else ""
        return (
            f"{self.rows} rows of {self.lanes_in} bytes a transfer, two's complement, row 0 lane 0 lowest; block by "
            f"block, in a block step by step; row r, lane l of step s of block b is "
            f"W[b * {self.rows} + r, s * {self.lanes_in} + l]{start}; see docs/formats.md"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * (-(-n_in // self.lanes_in) + self.trees)

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        if self.trees:
            split = self.segment < self.total_width
            latency, gap = TREE_LATENCY + split, TREE_GAP + split
        else:
            sums = sum_timing(self.lanes_in, Target.PORTABLE, negatable=False)
            latency, gap = sums.latency + self.product_stages + 2, 0
        return dot_cycles(self, n_in, n_out, tokens, latency=latency, gap=gap, preload=self.trees)


class Baseline(DotEngine):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : BaselineConfig
    """

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config, BaselineTrees(config) if config.trees else BaselineSums(config), config.trees)
