"""TINT: a ternary x integer dot-product array without multipliers, after VitaLLM's TINT core (arXiv 2604.27396).

    y[k] = sum_j W[k, j] * a[j],    W in {-1, 0, 1}

In every cycle `rows` outputs each take `lanes_in` ternary products of one step of activations, which all rows share.
The structure is ours; what VitaLLM publishes is that its core is multiplier-free and takes ternary by INT8.

Portable and FPGA arrays (`TintSums`) gate and negate each activation inside the adders (`nomul.arith.gated_sum`); the
plus ones of negations travel to carry inputs, so that nothing is left to correct.

Standard-cell arrays (`TintTrees`) store a weight as two lines, p (+1) and n (-1), and make each bit of a product with
one AOI22, ~(p & ~a | n & a): the bit, its complement, or one. The top bit takes the inverted lines, which also inverts
it. A step thus sums to

    sum_j w_j a_j + 2^(act_bits - 1) * lanes_in - (weights that are not +1)

The constant is added with the step. What depends on the weights alone is in the weight stream: after every `chunk`
steps of a block and after its last comes a correction step, whose activations are constants, lane i holding
2^min(i, act_bits - 1) - 1, and whose weights, 0 or 1, are chosen by the packer (`nomul.formats.tint`) so that the sum
becomes exact. Against a popcount of the signs in each row's tree this saves a full adder for each product (4.3 of about
75 um2 in nangate45).

Weights: a transfer holds, for each row and each lane, a code of two bits, row 0 lane 0 lowest; `TintConfig.packing`
says what the bits are. Transfers go block by block, in a block step by step. With `weights` = dense a step is one run
of trits, row by row, five in a byte (`nomul.memory.trit_decoder`), padded with zero trits to whole transfers.
"""

import dataclasses

from amaranth.hdl import ShapeLike
from amaranth.lib import data

from nomul.arith.gated_sum import gated_timing
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import ArrayConfig, check_total_bits, least_total_bits
from nomul.engines.dot import DotEngine, dot_cycles
from nomul.engines.matmul import Mode, check_streams
from nomul.engines.tint_array import TREE_GAP, TREE_LATENCY, TintSums, TintTrees, correction_chunk
from nomul.memory.trit_decoder import GroupCode

__all__ = ["Tint", "TintConfig"]


@dataclasses.dataclass(frozen=True)
class TintConfig(ArrayConfig):
    """Configuration of `Tint`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(32, "activations in a step", low=1, high=512)
    rows: int = parameter(8, "outputs computed in parallel", low=1, high=256)
    act_bits: int = parameter(8, "width of an activation, two's complement", low=2, high=16)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    total_bits: int | None = parameter(None, "width of accumulators and results", low=2, high=64)
    weights: str = parameter(
        "code", "weight stream: two bits a weight, or five trits a byte", choices=("code", "dense")
    )
    weight_lanes: int | None = parameter(
        None, "bytes of dense weights decoded a cycle; a whole step by default", low=1, high=16384
    )
    segment: int = parameter(9, "columns of the accumulator's first segment (target cells only)", low=1, high=64)
    queue: int | None = parameter(
        None, "results that wait while the consumer stalls, in transfers; none for target cells", low=16, high=4096
    )
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        self.check_size()
        if self.trees and self.act_bits < 3:
            refuse(self, "act_bits", "3 or more for target 'cells', whose corrections are activations")
        if self.trees and not self.chunk:
            refuse(self, "lanes_in", "3 or more for target 'cells', whose corrections take three lanes")
        if self.weight_lanes is not None and self.weights != "dense":
            refuse(self, "weight_lanes", "none, unless weights is 'dense'")
        if self.weight_lanes is not None and self.weight_lanes > self._step_bytes:
            refuse(self, "weight_lanes", f"1 to {self._step_bytes}, the bytes of a step")
        check_total_bits(self, 1 << (self.act_bits - 1), f" activations of {self.act_bits} bits")
        check_streams(self)

    @property
    def _step_bytes(self) -> int:
        return -(-self.rows * self.lanes_in // 5)

    @property
    def chunk(self) -> int | None:
        """Steps between two correction steps of standard-cell arrays."""
        return correction_chunk(self.lanes_in, self.act_bits) if self.trees else None

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, 1 << (self.act_bits - 1))

    @property
    def dense_units(self) -> int:
        """Bytes in a transfer of dense weights."""
        return self.weight_lanes or self._step_bytes

    @property
    def step_transfers(self) -> int:
        """Transfers of weights for a step."""
        return 1 if self.weights == "code" else -(-self._step_bytes // self.dense_units)

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        return 2 * self.rows * self.lanes_in if self.weights == "code" else 8 * self.dense_units

    @property
    def step_weights(self) -> ShapeLike:
        """The weights of a step: a code of two bits for each row and lane."""
        return data.ArrayLayout(2, self.rows * self.lanes_in)

    @property
    def dense_code(self) -> GroupCode:
        """The codes of -1, 0 and 1."""
        return GroupCode(1, (0b10, 0b00, 0b01) if self.trees else (0b11, 0b00, 0b01))

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Ternary weights, activations of `act_bits` bits."""
        most = 1 << (self.act_bits - 1)
        return (Mode("ternary", (-1, 1), (-most, most - 1), self.macs_per_cycle),)

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        bits = "bit 0 is +1, bit 1 is -1" if self.trees else "bit 0 is not zero, bit 1 is negative"
        code = (
            f"{self.rows} rows of {self.lanes_in} codes of two bits a transfer, row 0 lane 0 lowest; {bits}"
            if self.weights == "code"
            else f"{self.dense_units} bytes of five trits a transfer, a step of {self.rows} rows of {self.lanes_in} "
            f"trits in {self.step_transfers}"
        )
        corrected = f"; after every {self.chunk} steps and a block's last a correction step" if self.chunk else ""
        return (
            f"{code}; block by block, in a block step by step; row r, lane l of step s of block b is "
            f"W[b * {self.rows} + r, s * {self.lanes_in} + l]{corrected}; see docs/formats.md"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        steps = -(-n_in // self.lanes_in)
        corrections = -(-steps // self.chunk) if self.chunk else 0
        return -(-n_out // self.rows) * (steps + corrections) * self.step_transfers

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        if self.trees:
            split = self.segment < self.total_width
            latency, gap = TREE_LATENCY + split, TREE_GAP * split
        else:
            latency, gap = gated_timing(self.lanes_in, Target(self.target)).latency + 1, 0
        return dot_cycles(self, n_in, n_out, tokens, latency=latency, gap=gap, pace=self.step_transfers)


class Tint(DotEngine):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : TintConfig
    """

    def __init__(self, config: TintConfig) -> None:
        super().__init__(config, TintTrees(config) if config.trees else TintSums(config))
