"""BWTA: a bit-packed array of binary or ternary weights and ternary activations, after BWTA (arXiv 2604.03957).

    y[k] = sum_j W[k, j] * a[j],    a in {-1, 0, 1}

In every cycle `rows` outputs each take `lanes_in` products of one step of activations, which all rows share. Products
are one or two bits that a compressor tree counts; `nomul.arith.agree_count` has the forms.

    binary     W in {-1, 1},     a in {-1, 0, 1}     linear layers
    signs      W in {-1, 1},     a in {-1, 1}        binary networks
    ternary    W in {-1, 0, 1},  a in {-1, 0, 1}     scores Q K^T: W the keys
    boolean    W in {-1, 0, 1},  a in {0, 1}         attention x V: W the transposed values

The job's mode says which; `products` = linear builds the first two, whose weights take one bit, and `all` builds all
four, with weights of two bits. The mask form (`form` = mask) counts agreements and subtracts popcount(M), counted once
for all rows: one tree of `lanes_in` bits a row. The planes form counts both planes of a product, two trees' worth.

A binary weight is never zero. Lanes beyond n_in are therefore zeroed before activations are stored, and rows beyond
n_out before they leave. A standard-cell array leaves both out with `padding` = zero, for producers that pad with zeros
(as Nomul's do) and consumers that count. That saves 3 to 5 % of its area, but is not the default: an engine by itself
keeps the contract whoever drives it, and results that are silently wrong would be the worse surprise. Choose zero where
the array's neighbours are known.

Standard-cell arrays (`BwtaTrees`) have no popcount(M) at all: of the zeros of a vector every other one is stored as an
activation that agrees with both weights, the others as one that disagrees with both. With Z zeros, masked lanes counted
among them, in s steps

    y = 2 * (agreements - s * lanes_in / 2) + (Z mod 2)

so all that a row needs is a constant with each step, and the last bit, common to all rows. (There are a few strands of
zeros with a Z each; half the number of odd ones is what the counts start from.)

Weights: a transfer holds, for each row and each lane, a code of one bit (set for -1) or of two (two's complement), row
0 lane 0 lowest; block by block, in a block step by step.
"""

import dataclasses

from amaranth.hdl import ShapeLike
from amaranth.lib import data

from nomul.arith.target import TARGETS
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import ArrayConfig, check_total_bits, least_total_bits
from nomul.engines.bwta_array import BwtaSums, sums_latency
from nomul.engines.bwta_trees import TREES_LATENCY, BwtaTrees
from nomul.engines.dot import DotEngine, dot_cycles
from nomul.engines.matmul import Mode, check_streams

__all__ = ["Bwta", "BwtaConfig"]


@dataclasses.dataclass(frozen=True)
class BwtaConfig(ArrayConfig):
    """Configuration of `Bwta`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(64, "activations in a step", low=1, high=2048)
    rows: int = parameter(8, "outputs computed in parallel", low=1, high=256)
    products: str = parameter(
        "linear", "linear: binary weights of one bit; all: ternary weights too, of two bits", choices=("linear", "all")
    )
    form: str | None = parameter(
        None, "mask: agreements and one shared popcount; planes: both planes", choices=("mask", "planes")
    )
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    total_bits: int | None = parameter(None, "width of accumulators and results", low=2, high=64)
    padding: str = parameter(
        "any",
        "activations beyond n_in: any, or zero; with zero, results beyond n_out are any (target cells only)",
        choices=("any", "zero"),
    )
    gap: int = parameter(
        1,
        "cycles without a step after a block's last; 0 takes a register for each column of the first part "
        "(target cells only)",
        low=0,
        high=1,
    )
    cut: int = parameter(4, "columns of the first part of a row's tree (target cells only)", low=1, high=16)
    queue: int | None = parameter(
        None, "results that wait while the consumer stalls, in transfers; none for target cells", low=16, high=4096
    )
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        self.check_size()
        if self.form == "mask" and self.products == "all":
            refuse(self, "form", "planes, or none to derive it, unless products is 'linear'")
        if self.trees and self.lanes_in % 2:
            refuse(self, "lanes_in", "an even number for target 'cells'")
        if self.padding == "zero" and not self.trees:
            refuse(self, "padding", "any, unless target is 'cells'")
        check_total_bits(self, 1, "")
        check_streams(self)

    @property
    def counting(self) -> str:
        """What a row counts, one of `nomul.arith.agree_count.FORMS`."""
        return "ternary" if self.products == "all" else self.form or "mask"

    @property
    def weight_bits(self) -> int:
        """Width of a weight's code."""
        return 2 if self.products == "all" else 1

    @property
    def dense_units(self) -> int:
        """Weights are not dense."""
        return 0

    @property
    def act_bits(self) -> int:
        """Width of an activation."""
        return 2

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, 1)

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        return self.weight_bits * self.rows * self.lanes_in

    @property
    def step_weights(self) -> ShapeLike:
        """The weights of a step: a code for each row and lane."""
        return data.ArrayLayout(self.weight_bits, self.rows * self.lanes_in)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Binary weights; with `products` = all also ternary ones."""
        each = self.macs_per_cycle
        linear = (
            Mode("binary", (-1, 1), (-1, 1), each, weight_step=2),
            Mode("signs", (-1, 1), (-1, 1), each, weight_step=2, activation_step=2),
        )
        attention = (Mode("ternary", (-1, 1), (-1, 1), each), Mode("boolean", (-1, 1), (0, 1), each))
        return linear + (attention if self.products == "all" else ())

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        codes = "bits, set for -1" if self.weight_bits == 1 else "codes of two bits in two's complement"
        return (
            f"{self.rows} rows of {self.lanes_in} {codes} a transfer, row 0 lane 0 lowest; block by block, in a block "
            f"step by step; row r, lane l of step s of block b is W[b * {self.rows} + r, s * {self.lanes_in} + l]; "
            "see docs/formats.md"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * -(-n_in // self.lanes_in)

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        if self.trees:
            return dot_cycles(self, n_in, n_out, tokens, latency=TREES_LATENCY, gap=self.gap)
        return dot_cycles(self, n_in, n_out, tokens, latency=sums_latency(self))


class Bwta(DotEngine):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : BwtaConfig
    """

    def __init__(self, config: BwtaConfig) -> None:
        array = BwtaTrees(config) if config.trees else BwtaSums(config)
        super().__init__(config, array, trim=array.trim)
