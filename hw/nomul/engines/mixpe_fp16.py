"""W4A16 of MixPE: INT4 weights times FP16 activations, in integers and without a multiplier.

MixPE (arXiv 2411.16158) multiplies the codes of a quantisation group by shifting and adding, and does everything that
a group shares once for the group. How it treats FP16 is not published; this design is ours. The activations of a group
share one exponent: each is rounded once, half to even, to a multiple of 2^(E - 14 - significand), where E is the
largest exponent field in the group (at least 1), on its way into the engine and for all outputs (`GroupAlign`). What
follows is exact: a row adds up the integer products of a group, shifts the sum by E and adds it to its result.

    y[k] = sum over groups g of sum over j in g of W[k, j] * r_g(a[j])
    r_g(a) = round_half_even(a / 2^(E_g - 14 - significand)) * 2^(E_g - 14 - significand)

Results are integers in units of 2^(-13 - significand). So |y[k] - sum_j W[k, j] * a[j]| is at most

    sum over groups of 2^(E_g - 15 - significand) * sum over j in g of |W[k, j]|

and no activation whose exponent field is at least E_g - (significand - 11) is changed at all. Subnormal activations
count in full, as far as they reach the group's last bit. An infinity or NaN counts as zero and marks every result of
its vector: the highest bit of a result is inverted, so that the two highest bits differ, which they never do otherwise.

Weights: a transfer holds four bits, two's complement, for each row and each lane, row 0 lane 0 lowest. Transfers go
block by block, in a block step by step.
"""

import dataclasses

from amaranth.hdl import Module, ShapeLike, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component

from nomul.arith.target import TARGETS
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import ArrayConfig
from nomul.engines.dot import DotEngine, dot_cycles
from nomul.engines.fp16_align import ALIGN_LATENCY, GroupAlign, side_share
from nomul.engines.matmul import Mode, check_streams, matmul_members
from nomul.engines.mixpe_fp16_array import GROUP_LATENCY, MixpeFp16Array

__all__ = ["MixpeFp16", "MixpeFp16Config"]

PLACES = 29
"""Places between the smallest and the largest exponent."""

WIDEST = 64
"""Bits of a result at most."""


@dataclasses.dataclass(frozen=True)
class MixpeFp16Config(ArrayConfig):
    """Configuration of `MixpeFp16`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(16, "activations in a step", low=1, high=256)
    rows: int = parameter(8, "outputs computed in parallel", low=1, high=256)
    group: int = parameter(128, "inputs that share an exponent, whole steps", low=1, high=1 << 14)
    significand: int = parameter(14, "bits of an aligned activation without its sign", low=11, high=24)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.lanes_in > self.n_in_max:
            refuse(self, "lanes_in", f"at most n_in_max = {self.n_in_max}")
        if self.group % self.lanes_in:
            refuse(self, "group", f"multiples of lanes_in = {self.lanes_in}")
        if self.total_width > WIDEST:
            most = (1 << (WIDEST - 2 - 3 - PLACES - self.significand)) - 1
            refuse(self, "n_in_max", f"1 to {most}, for results of {WIDEST} bits with significand = {self.significand}")
        check_streams(self)

    @property
    def group_steps(self) -> int:
        """Steps of a group."""
        return self.group // self.lanes_in

    @property
    def sum_width(self) -> int:
        """Width of a group's sum."""
        return (self.group << (self.significand + 3)).bit_length() + 1

    @property
    def total_width(self) -> int:
        """Width of a result: its sign is there twice, so that the flag has a bit."""
        return (self.n_in_max << (self.significand + 3 + PLACES)).bit_length() + 2

    @property
    def act_bits(self) -> int:
        """Width of a binary16 word."""
        return 16

    @property
    def queue_depth(self) -> int:
        """No queue: the rows hold the results."""
        return 0

    @property
    def dense_units(self) -> int:
        """Bytes in a transfer of weights."""
        return -(-self.weight_width // 8)

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        return 4 * self.rows * self.lanes_in

    @property
    def step_weights(self) -> ShapeLike:
        """The weights of a step: four bits for each row and lane."""
        return data.ArrayLayout(4, self.rows * self.lanes_in)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """INT4 weights, bit patterns of binary16 as numbers of 16 bits, two's complement."""
        words = (-(1 << 15), (1 << 15) - 1)
        return (Mode("w4a16", (-8, 7), words, self.macs_per_cycle, activation_format="fp16"),)

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        return (
            f"{self.rows} rows of {self.lanes_in} INT4 a transfer, two's complement, row 0 lane 0 lowest; block by "
            f"block, in a block step by step; row r, lane l of step s of block b is "
            f"W[b * {self.rows} + r, s * {self.lanes_in} + l]"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * -(-n_in // self.lanes_in)

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        fill = min(-(-n_in // self.lanes_in), self.group_steps) + ALIGN_LATENCY
        return dot_cycles(self, n_in, n_out, tokens, latency=GROUP_LATENCY, fill=fill)


@dataclasses.dataclass(frozen=True)
class _Aligned(MixpeFp16Config):
    """The same, for what comes after the aligner."""

    @property
    def act_bits(self) -> int:
        return self.significand + 1 + side_share(self.lanes_in)


class MixpeFp16(Component):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : MixpeFp16Config
    """

    def __init__(self, config: MixpeFp16Config) -> None:
        self.config = config
        super().__init__(matmul_members(config, config.step_weights))

    def elaborate(self, platform: object) -> Module:
        """Put the aligner before the engine of what is aligned."""
        m = Module()
        inner = _Aligned(**dataclasses.asdict(self.config))
        m.submodules.align = align = GroupAlign(self.config)
        m.submodules.engine = engine = DotEngine(inner, MixpeFp16Array(inner))
        m.d.comb += [
            engine.jobs.payload.eq(self.jobs.payload),
            engine.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(engine.jobs.ready),
            align.start.eq(self.jobs.valid & engine.jobs.ready),
            align.job.eq(self.jobs.payload),
            align.fault.eq(engine.fault),
            align.activations.payload.eq(self.activations.payload),
            align.activations.valid.eq(self.activations.valid),
            self.activations.ready.eq(align.activations.ready),
            engine.activations.payload.eq(align.aligned.payload),
            engine.activations.valid.eq(align.aligned.valid),
            align.aligned.ready.eq(engine.activations.ready),
            Value.cast(engine.weights.payload).eq(Value.cast(self.weights.payload)),
            engine.weights.valid.eq(self.weights.valid),
            self.weights.ready.eq(engine.weights.ready),
            self.results.payload.eq(engine.results.payload),
            self.results.valid.eq(engine.results.valid),
            engine.results.ready.eq(self.results.ready),
            self.fault.eq(engine.fault),
        ]
        return m
