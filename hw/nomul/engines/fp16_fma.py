"""The FP16 array that W4A16 is measured against: output-stationary elements that multiply and add in floating point.

    y[k] = sum_j W[k, j] * a[j],    in order of j, each sum rounded once to binary32

Every one of `rows` elements (`nomul.arith.fused_mac`) keeps the sum of its own output; an activation and its Booth
digits are shared by all. Operands are IEEE 754 binary16, subnormal numbers included; sums are binary32, rounded half to
even after every product, as the matrix units of common accelerators add them. A result is the bit pattern of a binary32
number. Infinities and NaN follow IEEE 754; every NaN is 0x7FC00000.

Weights: a transfer holds a binary16 word for each row, row 0 lowest. Transfers go block by block, in a block in order
of inputs.
"""

import dataclasses

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component

from nomul.arith.carry_save import pace
from nomul.arith.fused_mac import MULTIPLICAND, FusedMac, multiplicand
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, validate
from nomul.engines.dot import DotEngine, array_members, dot_cycles
from nomul.engines.matmul import MatmulConfig, Mode

__all__ = ["Fp16Fma", "Fp16FmaConfig"]

LATENCY = 3
"""Cycles from a block's last step to its results."""


@dataclasses.dataclass(frozen=True)
class Fp16FmaConfig(MatmulConfig):
    """Configuration of `Fp16Fma`.

    Raises
    ------
    ValueError
        If a field is out of its range.
    """

    rows: int = parameter(16, "outputs computed in parallel, an element each", low=1, high=256)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field."""
        validate(self)

    @property
    def trees(self) -> bool:
        """Whether the multipliers are made of full adders in standard cells."""
        return self.target == Target.CELLS.value

    @property
    def activation_lanes(self) -> int:
        """Activations in a transfer: an element takes one a cycle."""
        return 1

    @property
    def act_bits(self) -> int:
        """Width of a binary16 word."""
        return 16

    @property
    def total_width(self) -> int:
        """Width of a binary32 word."""
        return 32

    @property
    def chunk(self) -> None:
        """No correction steps."""
        return None

    @property
    def queue_depth(self) -> int:
        """No queue: the elements hold the results."""
        return 0

    @property
    def dense_units(self) -> int:
        """Bytes in a transfer of weights."""
        return 2 * self.rows

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        return 16 * self.rows

    @property
    def step_weights(self) -> ShapeLike:
        """The weights of a step: a word for each row."""
        return data.ArrayLayout(16, self.rows)

    @property
    def dense_code(self) -> None:
        """Weights are never dense."""
        return None

    @property
    def decodes(self) -> bool:
        """Weights are never dense."""
        return False

    @property
    def macs_per_cycle(self) -> int:
        """Products formed in a cycle."""
        return self.rows

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Bit patterns of binary16 as numbers of 16 bits, two's complement."""
        whole = (-(1 << 15), (1 << 15) - 1)
        return (Mode("fp16", whole, whole, self.macs_per_cycle, weight_format="fp16", activation_format="fp16"),)

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        return (
            f"{self.rows} words of binary16 a transfer, row 0 lowest; block by block, in a block input by input; row r "
            f"of step s of block b is W[b * {self.rows} + r, s]"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * n_in

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        return dot_cycles(self, n_in, n_out, tokens, latency=LATENCY)


class Fp16Array(Component):
    """One activation for all elements; `nomul.engines.dot` documents the ports."""

    def __init__(self, config: Fp16FmaConfig) -> None:
        self.config = config
        super().__init__(array_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build the shared activation, the control and the elements."""
        m = Module()
        control = pace(m, self.enable, self.issue, self.step.first, self.step.last, split=False)
        entered, added, final = (Signal(name=name) for name in ("entered", "added", "final"))
        activation = Signal(MULTIPLICAND, reset_less=True)
        with m.If(self.issue):
            m.d.sync += [
                activation.eq(multiplicand(m, self.step.activations[0], self.step.first)),
                entered.eq(self.step.final),
            ]
        with m.If(self.enable):
            m.d.sync += [added.eq(entered), final.eq(added)]
        m.d.comb += [self.ready.eq(control.ready), self.done.eq(control.done), self.final.eq(final)]
        rows = control.rows
        for row in range(self.config.rows):
            m.submodules[f"row{row}"] = element = FusedMac(self.config.trees)
            m.d.comb += [
                element.take.eq(self.issue),
                element.weight.eq(self.weights[row]),
                element.multiplicand.eq(activation),
                element.enter.eq(rows.hold & rows.enter),
                element.add.eq(rows.hold & rows.add),
                self.values[row].eq(element.total),
            ]
        return m


class Fp16Fma(DotEngine):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : Fp16FmaConfig
    """

    def __init__(self, config: Fp16FmaConfig) -> None:
        super().__init__(config, Fp16Array(config))
