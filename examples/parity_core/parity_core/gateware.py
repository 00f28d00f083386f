"""Parity: ternary dot products whose weight stream carries a parity bit, for memories that flip bits.

    y[k] = sum_j W[k, j] * a[j],    W in {-1, 0, 1}

In every cycle `rows` outputs each take `lanes_in` products. Products are chosen with plain multiplexers and added with
plain operators, so that nothing here belongs to one technology.

Weights: a transfer holds for each row and lane a code of two bits, row 0 lane 0 lowest: bit 0 is not zero, bit 1 is
negative. Above all codes comes a bit that makes the number of ones in the transfer even. Transfers go block by block,
in a block step by step; W[b * rows + r, s * lanes_in + l] is row r, lane l of step s of block b. A transfer with an odd
number of ones raises `fault` until reset.

Cycle schedule of the array: a step issued at t is in registers in t + 1, its row sums in t + 2, the accumulators in
t + 3, where a block's results are `done`.
"""

import dataclasses

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, connect, flipped

from nomul.arith.pipeline import Delays
from nomul.arith.target import TARGETS
from nomul.config import parameter, validate
from nomul.engines.array_config import ArrayConfig, check_total_bits, least_total_bits
from nomul.engines.dot import DotEngine, array_members, dot_cycles
from nomul.engines.matmul import Mode, matmul_members

__all__ = ["Parity", "ParityConfig"]

LATENCY = 3
"""Cycles from a block's last step to its results."""


@dataclasses.dataclass(frozen=True)
class ParityConfig(ArrayConfig):
    """Configuration of `Parity`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(16, "activations in a step", low=1, high=256)
    rows: int = parameter(8, "outputs computed in parallel", low=1, high=256)
    act_bits: int = parameter(8, "width of an activation, two's complement", low=2, high=16)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 16)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 16)
    total_bits: int | None = parameter(None, "width of accumulators and results", low=2, high=64)
    queue: int | None = parameter(None, "results that wait while the consumer stalls", low=16, high=4096)
    target: str = parameter("portable", "technology; all take the same form", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        self.check_size()
        check_total_bits(self, 1 << (self.act_bits - 1), f" activations of {self.act_bits} bits")

    @property
    def trees(self) -> bool:
        """There is no form of its own for standard cells."""
        return False

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, 1 << (self.act_bits - 1))

    @property
    def step_weights(self) -> ShapeLike:
        """The codes of a step."""
        return data.ArrayLayout(2, self.rows * self.lanes_in)

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights: the codes and their parity."""
        return 2 * self.rows * self.lanes_in + 1

    @property
    def units(self) -> int:
        """Weights are not dense."""
        return 0

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Ternary weights, activations of `act_bits` bits."""
        most = 1 << (self.act_bits - 1)
        return (Mode("ternary", (-1, 1), (-most, most - 1), self.macs_per_cycle),)

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        return (
            f"{self.rows} rows of {self.lanes_in} codes of two bits a transfer, row 0 lane 0 lowest; bit 0 is not "
            "zero, bit 1 is negative; above them a bit that makes the ones even; block by block, in it step by step"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * -(-n_in // self.lanes_in)

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        return dot_cycles(self, n_in, n_out, tokens, latency=LATENCY)


class _Sums(Component):
    """The array: `nomul.engines.dot` documents its ports."""

    def __init__(self, config: ParityConfig) -> None:
        self.config = config
        super().__init__(array_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build registers, row sums and accumulators."""
        m = Module()
        config = self.config
        lanes = config.lanes_in
        delay = Delays(m)
        step, weights = Signal.like(self.step), Signal.like(self.weights)
        m.d.sync += [step.eq(self.step), weights.eq(self.weights)]
        m.d.comb += [
            self.ready.eq(1),
            self.done.eq(delay(self.issue & self.step.last, LATENCY)),
            self.final.eq(delay(self.step.final, LATENCY)),
        ]
        valid, first = delay(self.issue, LATENCY - 1), delay(self.step.first, LATENCY - 1)
        for row in range(config.rows):
            codes = [weights[row * lanes + lane] for lane in range(lanes)]
            terms = [
                Mux(code[0], Mux(code[1], -activation, activation), 0)
                for code, activation in zip(codes, step.activations, strict=True)
            ]
            partial = Signal(signed(config.act_bits + lanes.bit_length()), name=f"partial{row}")
            total = Signal(signed(config.total_width), name=f"total{row}")
            m.d.sync += partial.eq(_balanced(terms))
            with m.If(valid):
                m.d.sync += total.eq(Mux(first, 0, total) + partial)
            m.d.comb += self.values[row].eq(total)
        return m


def _balanced(terms: list[Value]) -> Value:
    """Return the sum of terms as a tree of least depth."""
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(terms) & ~1 :]
    return terms[0]


class Parity(Component):
    """The core; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : ParityConfig
    """

    def __init__(self, config: ParityConfig) -> None:
        self.config = config
        super().__init__(matmul_members(config, data.StructLayout({"codes": config.step_weights, "parity": 1})))

    def elaborate(self, platform: object) -> Module:
        """Check the parity beside the weight stream of a dot-product engine."""
        m = Module()
        m.submodules.engine = engine = DotEngine(self.config, _Sums(self.config))
        for name in ("jobs", "activations", "results"):
            connect(m, flipped(getattr(self, name)), getattr(engine, name))
        odd = Signal()
        with m.If(self.weights.valid & self.weights.ready & Value.cast(self.weights.payload).xor()):
            m.d.sync += odd.eq(1)
        m.d.comb += [
            engine.weights.payload.eq(self.weights.payload.codes),
            engine.weights.valid.eq(self.weights.valid),
            self.weights.ready.eq(engine.weights.ready),
            self.fault.eq(engine.fault | odd),
        ]
        return m
