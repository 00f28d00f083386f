"""BoothFlex-BS: INT8 activations times weights of any even width up to eight bits, one radix-4 digit a cycle.

    y[k] = sum_j W[k, j] * a[j]

After the bit-serial form of VitaLLM's BoothFlex core (arXiv 2604.27396), of which only the cycles are published: one
for ternary and INT2 weights, two for INT4, three for INT6, four for INT8. The structure is ours. A lane holds one
digit, and a block walks the vector memory once for each digit of its weights, the highest first; between two digits
the accumulators are multiplied by four (`nomul.engines.boothflex_bs_array`). Nothing is left to correct. The mode is
the job's.

All targets have adder trees; standard cells take the portable form.

Weights: a transfer holds, for each row and each lane, two bits, row 0 lane 0 lowest: in the block's first pass the two
highest bits of each weight in two's complement, in the next the two below, and so on. Steps go block by block, in a
block pass by pass, in a pass in order of inputs.
"""

import dataclasses

from amaranth.hdl import ShapeLike
from amaranth.lib import data

from nomul.arith.signed_sum import sum_timing
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import PRODUCT_MOST, ArrayConfig, check_total_bits, least_total_bits
from nomul.engines.boothflex_bs_array import DIGITS_OF_MODE, STAGES, SerialSums
from nomul.engines.dot import DotEngine, dot_cycles
from nomul.engines.matmul import Mode, check_streams

__all__ = ["BoothFlexBs", "BoothFlexBsConfig"]


@dataclasses.dataclass(frozen=True)
class BoothFlexBsConfig(ArrayConfig):
    """Configuration of `BoothFlexBs`.

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
    queue: int = parameter(32, "results that wait while the consumer stalls, in transfers", low=16, high=4096)
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.lanes_in > self.n_in_max:
            refuse(self, "lanes_in", f"at most n_in_max = {self.n_in_max}")
        check_total_bits(self, PRODUCT_MOST, " products")
        check_streams(self)

    @property
    def act_bits(self) -> int:
        """Width of an activation."""
        return 8

    @property
    def queue_depth(self) -> int:
        """Transfers of results that wait while the consumer stalls."""
        return self.queue

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, PRODUCT_MOST)

    @property
    def dense_units(self) -> int:
        """Bytes in a transfer of weights."""
        return -(-self.weight_width // 8)

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        return 2 * self.rows * self.lanes_in

    @property
    def step_weights(self) -> ShapeLike:
        """The weights of a step: a code of two bits for each row and lane."""
        return data.ArrayLayout(2, self.rows * self.lanes_in)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Weights that are ternary or have two, four, six or eight bits; a number of d digits takes d cycles."""
        ranges = {"ternary": (-1, 1)} | {f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (2, 4, 6, 8)}
        return tuple(
            Mode(name, weights, (-128, 127), max(1, self.macs_per_cycle // digits))
            for (name, weights), digits in zip(ranges.items(), DIGITS_OF_MODE, strict=True)
        )

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        return (
            f"{self.rows} rows of {self.lanes_in} codes of two bits a transfer, row 0 lane 0 lowest; block by block, "
            f"in a block digit by digit from the highest, in a digit step by step; row r, lane l of step s of block b "
            f"is two bits of W[b * {self.rows} + r, s * {self.lanes_in} + l], two's complement; see docs/formats.md"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * -(-n_in // self.lanes_in) * DIGITS_OF_MODE[mode]

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        latency = sum_timing(self.lanes_in, Target(self.target), negatable=False).latency + STAGES
        return dot_cycles(self, n_in, n_out, tokens, latency=latency, passes=DIGITS_OF_MODE[mode])


class BoothFlexBs(DotEngine):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : BoothFlexBsConfig
    """

    def __init__(self, config: BoothFlexBsConfig) -> None:
        super().__init__(config, SerialSums(config), passes=DIGITS_OF_MODE)
