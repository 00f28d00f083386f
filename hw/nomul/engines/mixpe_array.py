"""The array of MixPE: rows that add up the products of a group, and the units that scale their sums.

Every register moves with the domain's clock, which the engine enables once for each step: so whatever follows a step,
follows it by a number of steps. Numbering the steps from a pass's last, the rows' sums are in their accumulators after
step `sum_latency`, when the next pass's first products reach them; the scale units take row t of theirs with step
`sum_latency` + t, and with that, the entry that came with step `sum_latency` + t - 1. Its total is there
`total_latency` steps later: after `sum_latency` + `turn` + `total_latency` - 1 steps the totals are whole.
"""

from typing import Protocol

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.arith.column_sum import running_sum
from nomul.arith.nibble_product import NibbleProduct
from nomul.arith.pipeline import Delays
from nomul.arith.plane_sum import PlaneSum, plane_latency
from nomul.arith.recoding import digit_lines, digit_product, lined_most, lined_product, shift_add
from nomul.arith.signed_sum import signed_sum, sum_timing
from nomul.arith.target import Target
from nomul.engines.group_scale import GroupScale, ScaleConfig, entry_layout, product_offset, zero_constant
from nomul.engines.group_scale_stages import StagedScale, scale_stages
from nomul.engines.group_schedule import GroupConfig, group_step_layout
from nomul.shared_module import SharedModule

__all__ = ["MixpeArray", "sum_latency", "total_latency"]


class MixpeArrayConfig(GroupConfig, ScaleConfig, Protocol):
    """What the array asks of its configuration."""

    @property
    def nibbles(self) -> bool:
        """Whether products are `nomul.arith.nibble_product`s, of two stages."""

    @property
    def planes(self) -> bool:
        """Whether sums are `nomul.arith.plane_sum`s, and scale units staged."""

    @property
    def lined(self) -> bool:
        """Whether the bits of codes are lines, for `nomul.arith.recoding.lined_product`."""

    @property
    def array_rows(self) -> int:
        """Rows that are built."""

    @property
    def scale_units(self) -> int:
        """Scale units."""

    @property
    def depth(self) -> float:
        """Longest path of a row's tree, in exclusive ors."""

    @property
    def target(self) -> str:
        """Technology whose arithmetic forms are used."""


def sum_latency(config: MixpeArrayConfig) -> int:
    """Return the steps from a group's last to the one with which the rows' sums are taken."""
    lanes, target = config.word_lanes, Target(config.target)
    if target is Target.CELLS:
        return 3
    if config.planes:
        # The first register of the activations is the memory's output register.
        return 2 + plane_latency(lanes, config.code_bits)
    # Operand registers, products of one stage or two, the tree.
    return 2 + config.nibbles + sum_timing(lanes, target, negatable=False).latency


def total_latency(config: MixpeArrayConfig) -> int:
    """Return the steps from the one with which a row's sum is taken to its total."""
    return scale_stages(config.scale_bits) if config.planes else 2


class MixpeArray(Component):
    """The rows and their scale units.

    Parameters
    ----------
    config : MixpeArrayConfig

    Members
    -------
    step : In(group_step_layout)
    weights : In(code_bits).array(array_rows * word_lanes)
        Unsigned codes of the rows of a pass, row 0 lane 0 first.
    entries : In(entry_layout).array(units)
    group : Out
    sum : In(signed(sum_width))
        The sum of the activations of that group, in the same cycle.
    values : Out
        Totals.
    whole : Out(1)
        They are a block's after this step.
    final : Out(1)
        That block is its token's last.
    """

    def __init__(self, config: MixpeArrayConfig) -> None:
        self.config = config
        codes = data.ArrayLayout(config.code_bits, config.array_rows * config.word_lanes)
        super().__init__(
            {
                "step": In(group_step_layout(config)),
                "weights": In(codes),
                "entries": In(data.ArrayLayout(entry_layout(config), config.scale_units)),
                "group": Out(range(config.group_count)),
                "sum": In(signed(config.sum_width)),
                "values": Out(data.ArrayLayout(signed(config.total_width), config.rows)),
                "whole": Out(1),
                "final": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the operands' registers, the rows, the units and what tells them where a group ends."""
        m = Module()
        config = self.config
        latency, late = sum_latency(config), total_latency(config) - 2
        delay = Delays(m)

        activations = Signal.like(self.step.activations, reset_less=True)
        entries = Signal.like(self.entries, reset_less=True)
        read = Signal.like(activations, reset_less=True) if config.planes else activations
        m.d.sync += [read.eq(self.step.activations), entries.eq(self.entries)]
        if config.planes:
            m.d.sync += activations.eq(read)
        sums: list[Value] = []
        flags = {name: Signal(name=f"step_{name}") for name in ("first", "last", "full", "end", "opening", "final")}
        m.d.comb += [flag.eq(self.step[name]) for name, flag in flags.items()]
        first = Cat(delay(flags["first"], latency - 2), delay(flags["first"], latency - 1))
        kind = _PlaneRow if config.planes else _TreeRow if config.trees else _SumRow
        for row in range(config.array_rows):
            m.submodules[f"row{row}"] = built = kind(config)
            m.d.comb += [built.activations.eq(activations), built.first.eq(first)]
            for lane in range(config.word_lanes):
                m.d.comb += built.weights[lane].eq(self.weights[row * config.word_lanes + lane])
            sums.append(built.total)

        # The sum of the activations is registered just before the first row needs it.
        ending, full, end = (delay(flags[name], latency - 1) for name in ("last", "full", "end"))
        # Its sign is kept inverted, so that it is a register of its own: as a memory's output it comes later.
        kept, sign = Signal(config.sum_width, reset_less=True), 1 << (config.sum_width - 1)
        with m.If(ending):
            m.d.sync += kept.eq(self.sum ^ sign)
        total = kept ^ sign
        with m.If(full):
            m.d.sync += self.group.eq(Mux(end, 0, self.group + 1))

        take, opens, closes, final = (delay(flags[name], latency) for name in ("last", "opening", "end", "final"))
        pick = Signal(config.turn)
        m.d.comb += pick[0].eq(take)
        for place in range(1, config.turn):
            m.d.sync += pick[place].eq(pick[place - 1])
        begin, closing, last = Signal(), Signal(), Signal()
        with m.If(take):
            m.d.sync += [begin.eq(opens), closing.eq(closes), last.eq(final)]
        done = Signal()
        m.d.sync += done.eq(delay(pick[-1], late))
        m.d.comb += [self.whole.eq(done & delay(closing, late)), self.final.eq(delay(last, late))]

        for number in range(config.scale_units):
            m.submodules[f"unit{number}"] = unit = (StagedScale if config.planes else GroupScale)(config)
            if not config.planes:
                m.d.comb += unit.take_low.eq(ending)
            m.d.comb += [
                unit.take.eq(take),
                unit.pick.eq(pick),
                unit.begin.eq(delay(begin, late)),
                unit.sum.eq(total),
                unit.entry.eq(entries[number]),
            ]
            for place in range(config.turn):
                row = number * config.turn + place
                m.d.comb += unit.sums[place].eq(sums[row])
                for part in range(config.fold):
                    scaled = unit.totals[part * config.turn + place]
                    m.d.comb += self.values[part * config.array_rows + row].eq(scaled)
        return m


def _row_members(config: MixpeArrayConfig) -> dict[str, Member]:
    return {
        "activations": In(data.ArrayLayout(signed(config.act_bits), config.word_lanes)),
        "weights": In(data.ArrayLayout(config.code_bits, config.word_lanes)),
        "first": In(2),
        "total": Out(config.group_width),
    }


class _PlaneRow(SharedModule):
    """A row on ECP5: a sum for each bit of the codes."""

    def __init__(self, config: MixpeArrayConfig) -> None:
        self.config = config
        super().__init__(_row_members(config))

    def build(self, platform: object) -> Module:
        """Build the codes' registers and the sum."""
        m = Module()
        config = self.config
        # With resets, so that no synthesiser makes look-up tables of them.
        taken, weights = (Signal.like(self.weights, name=name) for name in ("taken", "weights"))
        m.submodules.sum = sum_ = PlaneSum(config.word_lanes, config.act_bits, config.code_bits, config.group_width)
        m.d.sync += [taken.eq(self.weights), weights.eq(taken)]
        m.d.comb += [
            *(word.eq(activation) for word, activation in zip(sum_.words, self.activations, strict=True)),
            *(code.eq(weight) for code, weight in zip(sum_.codes, weights, strict=True)),
            sum_.addend.eq(sum_.total),
            sum_.clear.eq(self.first[1]),
            self.total.eq(sum_.total),
        ]
        return m


class _SumRow(SharedModule):
    """A row outside standard cells: products by shift and add, and the target's sum."""

    def __init__(self, config: MixpeArrayConfig) -> None:
        self.config = config
        super().__init__(_row_members(config))

    def build(self, platform: object) -> Module:
        """Build the products and their sum."""
        m = Module()
        config = self.config
        weights = Signal.like(self.weights, reset_less=True)
        m.d.sync += weights.eq(self.weights)
        delay, target = Delays(m), Target(config.target)
        delays = sum_timing(config.word_lanes, target, negatable=False).delays
        most = 1 << (config.act_bits - 1)
        m.submodules.sum = sum_ = signed_sum(
            config.word_lanes,
            most * product_most(config),
            config.group_width,
            target,
            False,
            clearable=True,
        )
        if config.nibbles:
            later = Signal.like(self.activations, reset_less=True)
            m.d.sync += later.eq(self.activations)
        for lane in range(config.word_lanes):
            if config.nibbles:
                m.submodules[f"product{lane}"] = nibble = NibbleProduct(config.act_bits, target)
                m.d.comb += [
                    nibble.word.eq(self.activations[lane]),
                    nibble.later.eq(later[lane]),
                    nibble.code.eq(weights[lane]),
                    sum_.words[lane].eq(delay(nibble.product, delays[lane])),
                ]
                continue
            product = Signal.like(sum_.words[lane], name=f"product{lane}", reset_less=True)
            digits = config.weight_recoding.digits
            m.d.sync += product.eq(shift_add(m, f"term{lane}", digits, weights[lane], self.activations[lane]))
            m.d.comb += sum_.words[lane].eq(delay(product, delays[lane]))
        m.d.comb += [sum_.addend.eq(sum_.total), sum_.clear.eq(self.first[1]), self.total.eq(sum_.total)]
        return m


def product_most(config: MixpeArrayConfig) -> int:
    """Return the largest absolute value that a code stands for."""
    recoding, top = config.weight_recoding, (1 << config.code_bits) - 1
    return max(recoding.offset, top - recoding.offset)


class _TreeRow(SharedModule):
    """A row in standard cells: selected bits, a compressor tree of full adders, a segmented accumulator."""

    def __init__(self, config: MixpeArrayConfig) -> None:
        self.config = config
        super().__init__(_row_members(config))

    def build(self, platform: object) -> Module:
        """Build the products and add them up."""
        m = Module()
        config = self.config
        weights = Signal.like(self.weights, reset_less=True)
        m.d.sync += weights.eq(self.weights)
        digits = config.weight_recoding.digits
        columns: list[list[Value]] = [
            [] for _ in range(max(digit.shift + config.act_bits + digit.extra for digit in digits))
        ]
        for lane in range(config.word_lanes):
            for digit in digits:
                name, word = f"product{lane}_{digit.shift}", self.activations[lane]
                if config.lined:
                    bits = lined_product(m, name, weights[lane][digit.low : digit.low + 2], word)
                else:
                    lines = digit_lines(digit, weights[lane])
                    bits = digit_product(m, name, lines, word, digit.extra, cells=True)
                for index, bit in enumerate(bits, digit.shift):
                    columns[index].append(bit)
        most = lined_most(config.act_bits)
        offset = sum(most << d.shift if config.lined else product_offset(d, config.act_bits) for d in digits)
        steps = config.group_steps or 0
        start = zero_constant(config) - steps * config.word_lanes * offset
        total = running_sum(
            m, "sum", columns, config.group_width,
            start=start, low=config.low_columns, depth=config.depth, first=tuple(self.first),
        )  # fmt: skip
        m.d.comb += self.total.eq(Cat(*total))
        return m
