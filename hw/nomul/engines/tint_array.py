"""The arrays of TINT: rows of ternary products, added up in one cycle each. `nomul.engines.dot` has their ports."""

from typing import Protocol

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.carry_save import Pace, accumulate, pace
from nomul.arith.cells import and_or_invert22
from nomul.arith.gated_sum import gated_sum, gated_timing
from nomul.arith.pipeline import Delays
from nomul.arith.target import Target
from nomul.engines.dot import DotConfig, array_members
from nomul.shared_module import SharedModule

__all__ = ["TREE_GAP", "TREE_LATENCY", "TintSums", "TintTrees", "correction_chunk"]

TREE_LATENCY = 3
"""Cycles from a block's last step to its results in `TintTrees`, without the one for a second segment."""

TREE_GAP = 1
"""Cycles that a second segment needs after a block's last step."""


class _TintConfig(DotConfig, Protocol):
    @property
    def segment(self) -> int: ...


def _constant(lane: int, act_bits: int) -> int:
    """Return the activation of a lane in a correction step."""
    return (1 << min(lane, act_bits - 1)) - 1


def correction_chunk(lanes: int, act_bits: int) -> int:
    """Return the steps that one correction step can correct; 0 if there are too few lanes.

    A lane whose weight is 1 adds its constant, and being 1 it takes nothing off; so the lanes with weight 1 must bring
    2^min(lane, act_bits - 1) each, together one for each weight of the chunk that is not 1, and `lanes` for the
    correction step itself. Every number up to the sum of all can be had.
    """
    most = sum(_constant(lane, act_bits) + 1 for lane in range(lanes))
    return max(0, (most - lanes) // lanes)


class TintSums(Component):
    """Portable and FPGA array: one gated sum a row, which accumulates in its last adder.

    Cycle schedule: a step taken at t is in registers in t + 1; its total is accumulated at the end of
    t + `gated_timing().latency`, and is `done` in the cycle after.
    """

    def __init__(self, config: _TintConfig) -> None:
        self.config = config
        super().__init__(array_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build the operand registers and the sums."""
        m = Module()
        config, target = self.config, Target(self.config.target)
        lanes, rows = config.activation_lanes, config.rows
        timing = gated_timing(lanes, target)
        delay = Delays(m)

        activations = Signal.like(self.step.activations, reset_less=True)
        weights = Signal(data.ArrayLayout(2, lanes * rows))
        valid, first, last, final = (Signal(name=name) for name in ("valid", "first", "last", "final"))
        m.d.sync += [
            activations.eq(self.step.activations), weights.eq(self.weights), valid.eq(self.issue),
            first.eq(self.issue & self.step.first), last.eq(self.issue & self.step.last), final.eq(self.step.final),
        ]  # fmt: skip
        m.d.comb += [
            self.ready.eq(1),
            self.done.eq(delay(last, timing.latency)),
            self.final.eq(delay(final, timing.latency)),
        ]

        clear, update = delay(first, timing.latency - 1), delay(valid, timing.latency - 1)
        for row in range(rows):
            m.submodules[f"row{row}"] = sum_ = gated_sum(lanes, 1 << (config.act_bits - 1), config.total_width, target)
            for lane in range(lanes):
                code = weights[row * lanes + lane]
                m.d.comb += [
                    sum_.words[lane].eq(activations[lane]),
                    sum_.gates[lane].eq(code[0]),
                    sum_.signs[lane].eq(code[1]),
                ]
            addend = Signal(signed(config.total_width), name=f"addend{row}")
            with m.If(~clear):
                m.d.comb += addend.eq(sum_.total)
            m.d.comb += [sum_.addend.eq(addend), sum_.update.eq(update), self.values[row].eq(sum_.total)]
        return m


class TintTrees(Component):
    """Standard-cell array: AOI22 products, compressor trees of full adders, accumulators in two segments.

    The cycle schedule is that of `nomul.arith.carry_save`, the operands' registers being one cycle more.
    """

    def __init__(self, config: _TintConfig) -> None:
        self.config = config
        super().__init__(array_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build the shared activations, the control and the rows."""
        m = Module()
        config = self.config
        lanes = config.activation_lanes
        control = pace(
            m, self.enable, self.issue, self.step.first, self.step.last, split=config.segment < config.total_width
        )
        final = Signal()
        activations = Signal.like(self.step.activations, reset_less=True)
        with m.If(self.issue):
            for lane in range(lanes):
                m.d.sync += activations[lane].eq(self.step.activations[lane])
                with m.If(self.step.correct):
                    m.d.sync += activations[lane].eq(_constant(lane, config.act_bits))
        entered, added = Signal(), Signal()
        with m.If(self.issue):
            m.d.sync += entered.eq(self.step.final)
        with m.If(self.enable):
            m.d.sync += [added.eq(entered), final.eq(added)]
        m.d.comb += [self.ready.eq(control.ready), self.done.eq(control.done), self.final.eq(final)]
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = _Row(config)
            m.d.comb += [
                built.load.eq(self.issue),
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.activations.eq(activations),
                *(getattr(built, name).eq(getattr(control.rows, name)) for name in _Row.PACE),
                self.values[row].eq(built.total),
            ]
        return m


class _Row(SharedModule):
    """One output: weight registers, products, tree and accumulator."""

    PACE = ("hold", "enter", "add", "clear", "settle")
    """What a row sees of the array's `Pace`."""

    def __init__(self, config: _TintConfig) -> None:
        self.config = config
        lanes = config.activation_lanes
        super().__init__(
            {
                "load": In(1),
                "weights": In(data.ArrayLayout(2, lanes)),
                "activations": In(data.ArrayLayout(signed(config.act_bits), lanes)),
                **{name: In(1) for name in self.PACE},
                "total": Out(config.total_width),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the products and add them up."""
        m = Module()
        config = self.config
        lanes, top = config.activation_lanes, config.act_bits - 1
        weights = Signal.like(self.weights, reset_less=True)
        with m.If(self.load):
            m.d.sync += weights.eq(self.weights)
        columns: list[list[Value]] = [[] for _ in range(config.act_bits)]
        for lane in range(lanes):
            plus, minus = weights[lane][0], weights[lane][1]
            for index in range(config.act_bits):
                bit = self.activations[lane][index]
                lines = (~minus, ~plus) if index == top else (plus, minus)
                # The top bit's lines are swapped besides being inverted, so that zero is zero there and one below.
                name = f"product{lane}_{index}"
                product = (
                    and_or_invert22(m, name, lines[0], bit, lines[1], ~bit)
                    if index == top
                    else and_or_invert22(m, name, lines[0], ~bit, lines[1], bit)
                )
                columns[index].append(product)
        control = Pace(*(getattr(self, name) for name in self.PACE))
        total = accumulate(m, "sum", columns, config.total_width, -lanes << top, config.segment, control)
        m.d.comb += self.total.eq(total)
        return m
