"""The arrays of BoothFlex; `nomul.engines.dot` documents their ports.

In both, a lane has four digit rows. Row j multiplies digit j of the weight with the lane's activation (int8), or a
weight of its own with an activation of its own (ternary). The digits' products are added over the lanes first, and each
digit's sum is shifted once for all lanes:

    S_j = sum over lanes of digit j's products      total += (S_0 + s S_1) + t (S_2 + s S_3)

with s = 4, t = 16 in int8 mode and s = t = 1 in ternary mode.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith import lattice
from nomul.arith.carry_save import Columns, Pace, accumulate, compress, pace
from nomul.arith.digits import DIGITS, OFFSET, PRODUCT_BITS, Digit, digit_chain, digit_product, digit_term
from nomul.arith.pair_sum import PairSum
from nomul.arith.pipeline import Delays
from nomul.arith.signed_sum import signed_sum, sum_timing
from nomul.arith.target import Target
from nomul.engines.dot import DotConfig, array_members
from nomul.shared_module import SharedModule

__all__ = ["INT8", "PASSES", "SUMS_STAGES", "TERNARY", "FlexRow", "FlexSums", "FlexTrees"]

INT8, TERNARY = 0, 1
"""Numbers of the modes."""

PASSES = (DIGITS, 1)
"""Passes over the vector memory by mode: in int8 mode a step takes a quarter of a word."""

SUMS_STAGES = 6
"""Cycles that `FlexSums` takes beyond its adder trees: memory, quarter, operands, products, two additions of digits."""


class _FlexConfig(DotConfig, Protocol):
    @property
    def lanes_in(self) -> int: ...

    @property
    def segment(self) -> int: ...

    @property
    def depth(self) -> int: ...


def _operands(config: _FlexConfig, activations: "data.View[data.ArrayLayout]", turn: Value) -> list[list[Value]]:
    """Return the quarters of a word, and last the quarter that a pass of int8 mode takes, each [lanes].

    A turn of zero chooses the last quarter.
    """
    lanes = config.lanes_in
    quarters = [[activations[part * lanes + lane] for lane in range(lanes)] for part in range(DIGITS)]
    chosen = [Array(quarters[DIGITS - 1 - number][lane] for number in range(DIGITS))[turn] for lane in range(lanes)]
    return [*quarters[:-1], chosen]


class FlexSums(Component):
    """Portable and FPGA array: a product is one addition, an adder tree for each digit, then the shifts.

    On ECP5 that addition is one carry chain without look-up tables in front, because all digits are -2 to 1 in both
    modes: in int8 mode bits 1, 3 and 5 of the weights are inverted, and 42 times the sum of the step's activations,
    made once for all rows, is what the first digit's sums start from.
    """

    def __init__(self, config: _FlexConfig) -> None:
        self.config = config
        self.native = config.target == Target.ECP5.value
        super().__init__(array_members(config, PASSES))

    def elaborate(self, platform: object) -> Module:
        """Build the operand registers, the products and the sums."""
        m = Module()
        config, target = self.config, Target(self.config.target)
        lanes = config.lanes_in
        latency = sum_timing(lanes, target, negatable=False).latency
        delay = Delays(m)
        # The first register of the activations is the memory's output register where the target has one.
        read, turn = Signal.like(self.step.activations, reset_less=True), Signal.like(self.step.turn)
        # With resets, so that no synthesiser makes look-up tables of them.
        taken, waiting, weights = (Signal.like(self.weights, name=name) for name in ("taken", "waiting", "weights"))
        # A quarter is chosen in two cycles: between the first two and between the last two, then between the halves.
        first_quarter, third_quarter, early, late = (
            [Signal(signed(8), name=f"{name}_{lane}", reset_less=True) for lane in range(lanes)]
            for name in ("first_quarter", "third_quarter", "early", "late")
        )
        half = Signal()
        activations = [
            [Signal(signed(8), name=f"a{j}_{lane}", reset_less=True) for lane in range(lanes)] for j in range(DIGITS)
        ]
        valid, first, last, final, ternary = (
            Signal(name=name) for name in ("valid", "first", "last", "final", "ternary")
        )
        m.d.sync += [
            read.eq(self.step.activations), turn.eq(self.step.turn), taken.eq(self.weights), waiting.eq(taken),
            valid.eq(self.issue), final.eq(self.step.final), ternary.eq(self.step.mode == TERNARY),
            first.eq(self.issue & self.step.first), last.eq(self.issue & self.step.last),
        ]  # fmt: skip
        modes = [delay(ternary, stage) for stage in (1, 2)]
        low_modes, high_modes = (delay.spread(ternary, latency + stage, config.rows) for stage in (3, 4))
        inverted = Cat(Const(0, 1), ~modes[0]).replicate(DIGITS - 1) if self.native else Const(0, 1)
        m.d.sync += [held.eq(code ^ inverted) for held, code in zip(weights, waiting, strict=True)]
        m.d.sync += half.eq(turn[1])
        chosen: list[Value] = []
        for lane in range(lanes):
            one, two, three, four = (read[part * lanes + lane] for part in range(DIGITS))
            m.d.sync += [
                first_quarter[lane].eq(one), early[lane].eq(Mux(turn[0], one, two)),
                third_quarter[lane].eq(three), late[lane].eq(Mux(turn[0], three, four)),
            ]  # fmt: skip
            chosen.append(Mux(half, early[lane], late[lane]))
            # In ternary mode the turn is zero: then `early` is the second quarter, and `late` the fourth.
            m.d.sync += [
                activations[0][lane].eq(Mux(modes[0], first_quarter[lane], chosen[lane])),
                activations[1][lane].eq(Mux(modes[0] | half, early[lane], late[lane])),
                activations[2][lane].eq(Mux(modes[0], third_quarter[lane], chosen[lane])),
                activations[3][lane].eq(chosen[lane]),
            ]
        m.d.comb += [
            self.ready.eq(1),
            self.done.eq(delay(last, latency + SUMS_STAGES)),
            self.final.eq(delay(final, latency + SUMS_STAGES)),
        ]
        clear, update = (delay.spread(mark, latency + SUMS_STAGES - 1, config.rows) for mark in (first, valid))
        offset = self._offset(m, chosen, delay(ternary, latency + 1)) if self.native else Const(0, 1)
        for row in range(config.rows):
            marks = _Marks(modes[1], low_modes[row], high_modes[row], clear[row], update[row])
            codes = [weights[row * lanes + lane] for lane in range(lanes)]
            if self.native:
                # Not a module of its own: nextpnr then places the array of 16 x 8 at 149 MHz instead of 157.
                total: Value = _output(m, config, str(row), codes, activations, marks, delay, offset)
            else:
                m.submodules[f"row{row}"] = built = _SumRow(config)
                m.d.comb += [
                    *(mine.eq(code) for mine, code in zip(built.weights, codes, strict=True)),
                    *(
                        built.activations[digit * lanes + lane].eq(activations[digit][lane])
                        for digit in range(DIGITS)
                        for lane in range(lanes)
                    ),
                    *(getattr(built, name).eq(mark) for name, mark in marks._asdict().items()),
                ]
                total = built.total
            m.d.comb += self.values[row].eq(total)
        return m

    def _offset(self, m: Module, activations: list[Value], ternary: Value) -> Signal:
        """Build OFFSET times the sum of a step's activations, zero in ternary mode; return its register.

        It is registered once for each level of the tree, and twice for 21 = 16 + 4 + 1.
        """
        nodes = activations
        while len(nodes) > 1:
            level: list[Value] = [
                Signal(signed(len(nodes[0]) + 1), name=f"level{len(nodes)}_{place}", reset_less=True)
                for place in range(0, len(nodes), 2)
            ]
            for place, node in enumerate(level):
                m.d.sync += Value.cast(node).eq(sum(nodes[2 * place + 1 : 2 * place + 2], nodes[2 * place]))
            nodes = level
        (whole,) = nodes
        later = Signal.like(whole, name="later_whole", reset_less=True)
        five = Signal(signed(len(whole) + 3), reset_less=True)
        offset = Signal(signed(len(whole) + OFFSET.bit_length()))
        m.d.sync += [later.eq(whole), five.eq(whole + (whole << 2)), offset.eq((five + (later << 4)) << 1)]
        with m.If(ternary):
            m.d.sync += offset.eq(0)
        return offset


class _Marks(NamedTuple):
    """What a row is told: whether the mode is ternary, at the three stages that ask, and its accumulator's marks."""

    product_mode: Value
    low_mode: Value
    high_mode: Value
    clear: Value
    update: Value


class _SumRow(SharedModule):
    """One output of `FlexSums` as a module."""

    def __init__(self, config: _FlexConfig) -> None:
        self.config = config
        super().__init__(
            {
                "weights": In(data.ArrayLayout(8, config.lanes_in)),
                "activations": In(data.ArrayLayout(signed(8), DIGITS * config.lanes_in)),
                **{name: In(1) for name in _Marks._fields},
                "total": Out(signed(config.total_width)),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the products, their sums and the accumulator."""
        m = Module()
        lanes = self.config.lanes_in
        activations = [[self.activations[digit * lanes + lane] for lane in range(lanes)] for digit in range(DIGITS)]
        marks = _Marks(*(getattr(self, name) for name in _Marks._fields))
        m.d.comb += self.total.eq(
            _output(m, self.config, "", list(self.weights), activations, marks, Delays(m), Const(0, 1))
        )
        return m


def _output(
    m: Module,
    config: _FlexConfig,
    name: str,
    codes: Sequence[Value],
    activations: Sequence[Sequence[Value]],
    marks: _Marks,
    delay: Delays,
    offset: Value,
) -> Signal:
    """Build one output from its weights [lanes] and the digits' activations [digit][lanes]; return its register."""
    sums = [
        _digit(m, config, f"{name}_{digit}", digit, codes, activations[digit], marks.product_mode, delay, offset)
        for digit in range(DIGITS)
    ]
    low = _shifted(m, config, f"low{name}", sums[0], sums[1], 2, marks.low_mode)
    high = _shifted(m, config, f"high{name}", sums[2], sums[3], 2, marks.low_mode)
    step = _shifted(m, config, f"step{name}", low, high, 4, marks.high_mode)
    total = Signal(signed(config.total_width), name=f"total{name}", reset_less=True)
    added = (
        lattice.add_cleared(m, f"total{name}_chain", total, step, marks.clear)
        if config.target == Target.ECP5.value
        else Mux(marks.clear, 0, total) + step
    )
    with m.If(marks.update):
        m.d.sync += total.eq(added)
    return total


def _digit(
    m: Module,
    config: _FlexConfig,
    name: str,
    digit: int,
    codes: Sequence[Value],
    activations: Sequence[Value],
    ternary: Value,
    delay: Delays,
    offset: Value,
) -> Value:
    """Build the products of a digit and their sum over the lanes."""
    target, native = Target(config.target), config.target == Target.ECP5.value
    lanes = config.lanes_in
    most = (2 if native else 3) << (config.act_bits - 1)
    timing = sum_timing(lanes, target, negatable=False)
    width = (lanes * most).bit_length() + 1
    sum_: Any
    if native:
        starts = digit == 0
        width = max(width, len(offset)) + 1 if starts else width
        sum_ = PairSum(lanes, most, width, negatable=False, complemented=True, accumulates=starts)
        m.d.comb += sum_.addend.eq(offset if starts else 0)
    else:
        sum_ = signed_sum(lanes, most, width, target, negatable=False)
    m.submodules[f"sum{name}"] = sum_
    # The high bit of a code is -2, but of a lower digit of a number it is 2.
    subtract: Value = Const(1, 1) if digit == DIGITS - 1 else ternary
    for lane in range(lanes):
        code = codes[lane][2 * digit : 2 * digit + 2]
        product = Signal(signed(most.bit_length() + 1), name=f"product{name}_{lane}", reset_less=True)
        if native:
            term = digit_chain(m, f"chain{name}_{lane}", code, activations[lane], negative=True)
        else:
            term = digit_term(code, activations[lane], subtract)
        m.d.sync += product.eq(term)
        m.d.comb += sum_.words[lane].eq(delay(product, timing.delays[lane]))
    return sum_.total


def _shifted(m: Module, config: _FlexConfig, name: str, low: Value, high: Value, shift: int, ternary: Value) -> Signal:
    """Build a register of low + high, high shifted in int8 mode."""
    total = Signal(signed(max(len(low), len(high) + shift) + 1), name=name, reset_less=True)
    if config.target != Target.ECP5.value:
        m.d.sync += total.eq(low + Mux(ternary, high, high << shift))
        return total
    m.d.sync += total.eq(
        lattice.add_chosen(m, f"{name}_chain", low, high, Cat(Const(0, shift), high), ternary, len(total))
    )
    return total


class FlexTrees(Component):
    """Standard-cell array: digits of the weights, a compressor tree for each digit, one accumulator a row.

    The cycle schedule is that of `nomul.engines.baseline_array.BaselineTrees`.
    """

    def __init__(self, config: _FlexConfig) -> None:
        self.config = config
        super().__init__(array_members(config, PASSES))

    def elaborate(self, platform: object) -> Module:
        """Build the shared activations, their correction, the control and the rows."""
        m = Module()
        config = self.config
        lanes = config.lanes_in
        control = pace(
            m, self.enable, self.issue, Const(0), self.step.last,
            split=config.segment < config.total_width, preload=self.step.correct,
        )  # fmt: skip
        entered, added, final, ternary = (Signal(name=name) for name in ("entered", "added", "final", "ternary"))
        with m.If(self.issue):
            m.d.sync += [entered.eq(self.step.final), ternary.eq(self.step.mode == TERNARY)]
        with m.If(self.enable):
            m.d.sync += [added.eq(entered), final.eq(added)]
        m.d.comb += [self.ready.eq(control.ready), self.done.eq(control.done), self.final.eq(final)]

        take = self.issue & ~self.step.correct
        *own, chosen = _operands(config, self.step.activations, self.step.turn)
        activations = Signal(data.ArrayLayout(signed(8), DIGITS * lanes), reset_less=True)
        with m.If(take):
            for lane in range(lanes):
                for digit, quarter in enumerate(own):
                    m.d.sync += activations[digit * lanes + lane].eq(
                        Mux(self.step.mode == TERNARY, quarter[lane], chosen[lane])
                    )
                m.d.sync += activations[(DIGITS - 1) * lanes + lane].eq(chosen[lane])
        shared = self._correction(m, chosen, take, control.rows, ternary)
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = FlexRow(config, len(shared))
            m.d.comb += [
                built.take.eq(self.issue),
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.activations.eq(activations),
                built.ternary.eq(ternary),
                built.shared.eq(Cat(shared)),
                *(getattr(built, name).eq(getattr(control.rows, name)) for name in FlexRow.PACE),
                self.values[row].eq(built.total),
            ]
        return m

    def _correction(self, m: Module, words: list[Value], take: Value, control: Pace, ternary: Signal) -> list[Signal]:
        """Build OFFSET * (sum of a step's activations + 128 for each), zero in ternary mode; return its registers."""
        lanes = self.config.lanes_in
        columns = [[word[index] if index < 7 else ~word[index] for word in words] for index in range(8)]
        tree = compress(m, "offset", columns)
        rows = [Signal(len(tree), name=f"offset{number}", reset_less=True) for number in range(2)]
        with m.If(take):
            for number, row in enumerate(rows):
                m.d.sync += row.eq(Cat(*(column[number] if len(column) > number else Const(0, 1) for column in tree)))
        width = (OFFSET * lanes * 255).bit_length()
        shifted: list[list[Value]] = [[] for _ in range(width)]
        for place in (index for index in range(OFFSET.bit_length()) if OFFSET >> index & 1):
            for index in range(min(len(tree), width - place)):
                shifted[place + index] += [row[index] for row, _ in zip(rows, tree[index], strict=False)]
        pair = compress(m, "offsets", shifted)[:width]
        first = Cat(*(column[0] if column else Const(0, 1) for column in pair))
        second = Cat(*(column[1] if len(column) > 1 else Const(0, 1) for column in pair))
        registers = [Signal(name=f"offset_sum{index}", reset_less=True) for index in range(width)]
        with m.If(control.hold):
            m.d.sync += Cat(registers).eq(Mux(control.enter & ~ternary, first + second, 0))
        return registers


class FlexRow(SharedModule):
    """One output: weight registers, products, trees, shifts and accumulator."""

    PACE = ("hold", "enter", "add", "clear", "settle", "load")
    """What a row sees of the array's `Pace`."""

    def __init__(self, config: _FlexConfig, shared: int) -> None:
        self.config = config
        lanes = config.lanes_in
        super().__init__(
            {
                "take": In(1),
                "weights": In(data.ArrayLayout(8, lanes)),
                "activations": In(data.ArrayLayout(signed(8), DIGITS * lanes)),
                "ternary": In(1),
                "shared": In(shared),
                **{name: In(1) for name in self.PACE},
                "total": Out(config.total_width),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the products and add them up."""
        m = Module()
        config = self.config
        lanes = config.lanes_in
        weights = Signal.like(self.weights, reset_less=True)
        with m.If(self.take):
            m.d.sync += weights.eq(self.weights)
        sums: list[list[Value]] = [[] for _ in range(2 * DIGITS + PRODUCT_BITS + lanes.bit_length())]
        for index in range(DIGITS):
            columns: list[list[Value]] = [[] for _ in range(PRODUCT_BITS)]
            for lane in range(lanes):
                digit = Digit.decode(weights[lane][2 * index], weights[lane][2 * index + 1])
                word = self.activations[index * lanes + lane]
                for place, bit in enumerate(digit_product(m, f"product{lane}_{index}", digit, word)):
                    columns[place].append(bit)
            self.shift(sums, compress(m, f"digit{index}", columns), 2 * index)
        total = accumulate(
            m, "sum", sums, config.total_width, 0, config.segment,
            Pace(*(getattr(self, name) for name in self.PACE)),
            start=Value.cast(weights), shared=[[bit] for bit in self.shared], depth=config.depth,
        )  # fmt: skip
        m.d.comb += self.total.eq(total)
        return m

    def shift(self, sums: list[list[Value]], tree: Columns, shift: int) -> None:
        """Add a digit's sum to the columns: in its own place in ternary mode, higher by `shift` in int8 mode."""
        for column in range(len(tree) + shift):
            here = list(tree[column]) if column < len(tree) else []
            below = list(tree[column - shift]) if column >= shift else []
            for number in range(max(len(here), len(below))):
                if shift == 0:
                    sums[column].append(here[number])
                elif number >= len(below):
                    sums[column].append(here[number] & self.ternary)
                elif number >= len(here):
                    sums[column].append(below[number] & ~self.ternary)
                else:
                    sums[column].append(Mux(self.ternary, here[number], below[number]))
