"""The array of `nomul.engines.mixpe_fp16`; `nomul.engines.dot` documents its ports.

A row adds up the products of a group exactly, as integers (`_Row`); at the group's end the sum is shifted to its place
on the grid that all groups share, and added to the row's result. Both happen while the next group is summed.
"""

from itertools import pairwise
from typing import Protocol

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.carry_save import Pace, accumulate, compress, pace
from nomul.arith.digits import Digit, digit_product
from nomul.arith.fp16 import SIDE_BITS
from nomul.engines.dot import DotConfig, array_members
from nomul.engines.fp16_align import side_share
from nomul.shared_module import SharedModule

__all__ = ["GROUP_LATENCY", "MixpeFp16Array"]

GROUP_LATENCY = 4
"""Cycles from a block's last step to its results."""

STAGES = 3
"""Cycles from a group's last step to its sum."""


class _ArrayConfig(DotConfig, Protocol):
    @property
    def significand(self) -> int: ...

    @property
    def group_steps(self) -> int: ...

    @property
    def sum_width(self) -> int: ...

    @property
    def trees(self) -> bool: ...


class MixpeFp16Array(Component):
    """The rows, and what they share: activations, their sum, the group's exponent, control.

    `values` are sums in units of 2^(-13 - significand); the highest bit of each is inverted if an activation was
    infinite or NaN.
    """

    def __init__(self, config: _ArrayConfig) -> None:
        self.config = config
        super().__init__(array_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build the shared part and the rows."""
        m = Module()
        config = self.config
        lanes, bits = config.activation_lanes, config.significand + 1
        place, opens, closes = Signal(range(config.group_steps)), Signal(), Signal()
        m.d.comb += [opens.eq(place == 0), closes.eq((place == config.group_steps - 1) | self.step.last)]
        with m.If(self.issue):
            m.d.sync += place.eq(Mux(closes, 0, place + 1))
        control = pace(m, self.enable, self.issue, opens, closes, split=False)

        activations = Signal(data.ArrayLayout(bits, lanes), reset_less=True)
        with m.If(self.issue):
            m.d.sync += (activations[lane].eq(self.step.activations[lane][:bits]) for lane in range(lanes))
        exponent, fresh, done = self._follow(m, opens, control.done)
        m.d.comb += [self.ready.eq(control.ready), self.done.eq(done)]
        shared = self._total(m, control.rows) if config.trees else []

        flag = Signal()
        with m.If(self.enable & control.done):
            m.d.sync += flag.eq((flag & ~fresh) | exponent[-1])
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = _Row(config, len(shared))
            m.d.comb += [
                built.load.eq(self.issue),
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.activations.eq(activations),
                built.shared.eq(Cat(shared)),
                *(getattr(built, name).eq(getattr(control.rows, name)) for name in _Row.PACE),
                built.place.eq(exponent[:5]),
                built.fresh.eq(fresh),
                built.ends.eq(control.done),
                self.values[row].eq(Cat(built.total[:-1], built.total[-1], built.total[-1] ^ flag)),
            ]
        return m

    def _follow(self, m: Module, opens: Value, group_done: Value) -> tuple[Value, Value, Value]:
        """Take along what a group's sum needs: its exponent and flag, and whether it is its block's first or last."""
        config, step = self.config, self.step
        bits, share = config.significand + 1, side_share(config.activation_lanes)
        side = Cat(*(step.activations[lane][bits : bits + share] for lane in range(config.activation_lanes)))
        started, first = Signal(), Signal()
        m.d.comb += first.eq(Mux(opens, step.first, started))
        layout = data.StructLayout({"side": SIDE_BITS, "first": 1, "last": 1, "final": 1})
        stages = [Signal(layout, name=f"group{stage}", reset_less=True) for stage in range(STAGES)]
        with m.If(self.issue):
            m.d.sync += started.eq(first)
        with m.If(self.enable):
            m.d.sync += Value.cast(stages[0]).eq(Cat(side[:SIDE_BITS], first, step.last, step.final))
            m.d.sync += (later.eq(earlier) for earlier, later in pairwise(stages))
        done = Signal(name="block_done")
        with m.If(self.enable):
            m.d.sync += [done.eq(group_done & stages[-1].last), self.final.eq(stages[-1].final)]
        return stages[-1].side, stages[-1].first, done

    def _total(self, m: Module, control: Pace) -> list[Value]:
        """Build the sum of a step's activations, each 2^significand larger; return its registers."""
        config = self.config
        bits = config.significand + 1
        columns: list[list[Value]] = [[] for _ in range(bits)]
        for lane in range(config.activation_lanes):
            for index in range(bits):
                bit = self.step.activations[lane][index]
                columns[index].append(~bit if index == bits - 1 else bit)
        tree = compress(m, "whole", columns)
        first, second = Signal(len(tree), reset_less=True), Signal(len(tree), reset_less=True)
        with m.If(self.issue):
            m.d.sync += [
                first.eq(Cat(*(column[0] for column in tree))),
                second.eq(Cat(*(column[1] if len(column) > 1 else Const(0, 1) for column in tree))),
            ]
        width = (config.activation_lanes * ((1 << bits) - 1)).bit_length()
        registers = [Signal(name=f"whole{index}", reset_less=True) for index in range(width)]
        with m.If(control.hold & control.enter):
            m.d.sync += Cat(registers).eq(first + second)
        return [*registers]


class _Row(SharedModule):
    """One output: weights, products and their sum over a group, and the sum of groups.

    An INT4 weight w is 2 more than its two digits d0 + 4 d1 (`nomul.arith.digits`); so a row adds the digits' products
    and twice the sum of the activations, which is made once for all rows.
    """

    PACE = ("hold", "enter", "add", "clear", "settle")
    """What a row sees of the array's `Pace`."""

    def __init__(self, config: _ArrayConfig, shared: int) -> None:
        self.config = config
        lanes = config.activation_lanes
        super().__init__(
            {
                "load": In(1),
                "weights": In(data.ArrayLayout(4, lanes)),
                "activations": In(data.ArrayLayout(config.significand + 1, lanes)),
                "shared": In(shared),
                **{name: In(1) for name in self.PACE},
                "place": In(5),
                "fresh": In(1),
                "ends": In(1),
                "total": Out(config.total_width - 1),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the group's sum and the sum of groups."""
        m = Module()
        weights = Signal.like(self.weights, reset_less=True)
        with m.If(self.load):
            m.d.sync += weights.eq(self.weights)
        build = self._trees if self.config.trees else self._plain
        sum_ = build(m, [weights[lane] for lane in range(self.config.activation_lanes)])
        # E is 1 to 30, and the place E - 1. Sums of E = 31 do not exist.
        total = Signal(self.config.total_width - 1, reset_less=True)
        moved = Signal(len(total))
        m.d.comb += moved.eq(sum_.as_signed() << (self.place - 1)[:5])
        with m.If(self.hold & self.ends):
            m.d.sync += total.eq((total & (~self.fresh).replicate(len(total))) + moved)
        m.d.comb += self.total.eq(total)
        return m

    def _trees(self, m: Module, weights: list[Value]) -> Value:
        """Return the group's sum from a tree of full adders."""
        config = self.config
        bits = config.significand + 1
        columns: list[list[Value]] = [[] for _ in range(bits + 3)]
        for lane, code in enumerate(weights):
            number = Value.cast(self.activations[lane])
            for index, (low, high) in enumerate([(code[0], ~code[1]), (code[2], code[3])]):
                digit = Digit.decode(low, high)
                lines = [Signal(name=f"line{lane}_{index}_{name}") for name in ("plus", "minus", "twice")]
                m.d.comb += Cat(lines).eq(Cat(digit.plus, digit.minus, digit.twice))
                plus, minus, twice = lines
                digit = Digit(plus, minus, twice, negative=high)
                for place, bit in enumerate(digit_product(m, f"product{lane}_{index}", digit, number)):
                    columns[2 * index + place].append(bit)
                columns[2 * index].append(~digit.plus)
        # Five times the inverted top bits of the products, and twice those of the shared sum.
        constant = -6 * len(weights) << bits
        shared: list[list[Value]] = [[], *([bit] for bit in self.shared)]
        return accumulate(
            m, "sum", columns, config.sum_width, constant, config.sum_width,
            Pace(*(getattr(self, name) for name in self.PACE)), shared=shared,
        )  # fmt: skip

    def _plain(self, m: Module, weights: list[Value]) -> Value:
        """Return the group's sum from plain operators: four additions of the activation a lane."""
        width = self.config.sum_width
        held, total = Signal(width, reset_less=True), Signal(width, reset_less=True)
        terms: list[Value] = []
        for lane, code in enumerate(weights):
            number = Value.cast(self.activations[lane]).as_signed()
            parts = [Mux(code[place], number, 0) << place for place in range(4)]
            terms.append(parts[0] + parts[1] + parts[2] - parts[3])
        while len(terms) > 1:
            terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
        with m.If(self.hold & self.enter):
            m.d.sync += held.eq(terms[0])
        with m.If(self.hold & self.add):
            m.d.sync += total.eq((total & (~self.clear).replicate(width)) + held)
        return total
