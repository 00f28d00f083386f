"""The portable and FPGA array of BWTA; `nomul.engines.dot` documents its ports."""

from typing import Any, Protocol

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component

from nomul.arith.agree_count import AgreeCount, agree_stages
from nomul.arith.bit_count import AMD, BitCount, count_stages
from nomul.arith.pipeline import Delays
from nomul.arith.target import Target
from nomul.arith.thermometer import decoded_halves, thermometer
from nomul.engines.block_schedule import ZERO_BEYOND
from nomul.engines.dot import DotConfig, array_members

__all__ = ["BwtaArrayConfig", "BwtaSums", "sums_latency"]


class BwtaArrayConfig(DotConfig, Protocol):
    """What an array of BWTA asks of its configuration."""

    @property
    def counting(self) -> str:
        """What a row counts, one of `nomul.arith.agree_count.FORMS`."""

    @property
    def weight_bits(self) -> int:
        """Width of a weight's code."""

    @property
    def padding(self) -> str:
        """What activations beyond n_in are, in standard cells."""

    @property
    def gap(self) -> int:
        """Cycles without a step after a block's last, in standard cells."""

    @property
    def cut(self) -> int:
        """Columns of the first part of a row's tree, in standard cells."""


def _count_stages(config: BwtaArrayConfig) -> int:
    target = Target(config.target)
    stages = agree_stages(config.activation_lanes, config.counting, target)
    return max(stages, count_stages(config.activation_lanes, target)) if config.counting == "mask" else stages


def sums_latency(config: BwtaArrayConfig) -> int:
    """Return the cycles from a block's last step to its results in `BwtaSums`."""
    return _count_stages(config) + 3


class BwtaSums(Component):
    """A count a row, then an addition that makes it a sum, then an accumulator.

    Cycle schedule: a step taken at t is in registers in t + 1 and counted c cycles later; its sum is in a register in
    t + 2 + c, accumulated at the end of that cycle, and `done` in t + 3 + c.
    """

    trim = ZERO_BEYOND

    def __init__(self, config: BwtaArrayConfig) -> None:
        self.config = config
        super().__init__(array_members(config, trim=self.trim))

    def elaborate(self, platform: object) -> Module:
        """Build the operand registers, the counts and the accumulators."""
        m = Module()
        config, target = self.config, Target(self.config.target)
        lanes, rows, counted = config.activation_lanes, config.rows, _count_stages(self.config)
        delay = Delays(m)

        activations = Signal.like(self.step.activations, reset_less=True)
        weights = Signal.like(self.weights, reset_less=True)
        valid, first, last, final = (Signal(name=name) for name in ("valid", "first", "last", "final"))
        end = Signal.like(self.step.rows, reset_less=True)
        m.d.sync += [
            activations.eq(self.step.activations), weights.eq(self.weights), valid.eq(self.issue),
            first.eq(self.step.first), last.eq(self.issue & self.step.last), final.eq(self.step.final),
            end.eq(self.step.rows),
        ]  # fmt: skip
        m.d.comb += [
            self.ready.eq(1),
            self.done.eq(delay(last, counted + 2)),
            self.final.eq(delay(final, counted + 2)),
        ]
        subtracted = self._subtracted(m, activations, counted)
        summed, adds, clears = delay(final, counted), delay(valid, counted + 1), delay(first, counted + 1)
        exists = thermometer(decoded_halves(m, "end", delay(end, counted)), len(end), rows)
        for row in range(rows):
            m.submodules[f"row{row}"] = count = AgreeCount(lanes, config.counting, target)
            late = counted - agree_stages(lanes, config.counting, target)
            for lane in range(lanes):
                m.d.comb += [
                    count.weights[lane].eq(weights[row * lanes + lane]),
                    count.activations[lane].eq(activations[lane]),
                ]
            agreed = delay(count.count, late)
            doubled: Value = Cat(Const(0, 1), agreed) if config.counting == "mask" else agreed
            part = Signal(signed(lanes.bit_length() + 1), name=f"part{row}", reset_less=False)
            m.d.sync += part.eq(doubled - subtracted)
            if row and config.weight_bits == 1:
                with m.If(summed & ~exists[row]):
                    m.d.sync += part.eq(0)
            total = Signal(signed(config.total_width), name=f"total{row}", reset_less=True)
            with m.If(adds):
                m.d.sync += total.eq(part + Mux(clears, 0, total))
            m.d.comb += self.values[row].eq(total)
        return m

    def _subtracted(self, m: Module, activations: Any, counted: int) -> Value:
        """Return what is taken from every row's count, in the cycle of the counts."""
        config, target = self.config, Target(self.config.target)
        lanes = config.activation_lanes
        if config.counting != "mask":
            return Const(lanes)
        m.submodules.mask = mask = BitCount(lanes, target)
        masks: Value = Cat(*(activations[lane][0] for lane in range(lanes)))
        if target not in AMD:  # registered as the products are
            masks = Delays(m)(masks, 1)
        m.d.comb += mask.bits.eq(masks)
        return Delays(m)(mask.count, counted - count_stages(lanes, target) - (target not in AMD))
