"""The output-stationary array: each element adds up one output of one token.

Codes enter at the left and move right, activations enter at the top and move down, one element a step; so element
(r, c) multiplies the operands of input k at step k + r + c. When a group's first operands come, each element hands its
sum to a chain that moves up, and starts anew: the rows' sums leave their column at the top, every second step, while
the elements add up the next group. So a group must have twice as many inputs as the array has rows.

Numbering the steps from a group's first, the next group's being step G: operands of (r, c) are multiplied at step
k + 1 + r + c; row r's sum is at the edge of column c at step G + 2 + 2r + c. The entry of that row, zero point and
scale, is taken from its stream at step G + 2r, and moves right with the sums.

FP16 activations are taken a group and two steps before (`nomul.systolic.align`): in a job's first group they alone are,
in its last none. The exponent of a column's group goes down its column with the activations, as far as its first
element.
"""

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.fp16 import SIDE_BITS
from nomul.arith.pipeline import Delays
from nomul.arith.recoding import shift_add
from nomul.engines.block_schedule import Strides
from nomul.shared_module import SharedModule
from nomul.systolic.config import CODE_BITS, SystolicConfig
from nomul.systolic.edge import Edge
from nomul.systolic.schedule import schedule_members, tag_layout

__all__ = ["OutputArray", "OutputSchedule"]


class OutputSchedule(Component):
    """Counts the steps of a job: token tile by token tile, in it output tile by output tile, in it input by input.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    Those of `schedule_members`; `first` marks a group's first step, or the one after the last group,
    and the tag is that of the entry which the step takes.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        super().__init__(schedule_members(config))

    def elaborate(self, platform: object) -> Module:
        """Count."""
        m = Module()
        config = self.config
        groups, outputs, tokens = (
            Strides(*pair)
            for pair in (
                (config.n_in_max, config.group),
                (config.n_out_max, config.rows),
                (config.tokens_max, config.columns),
            )
        )
        left = {"n_in": Signal(groups.shape), "n_out": Signal(outputs.shape), "tokens": Signal(tokens.shape)}
        counts = {"n_in": groups, "n_out": outputs, "tokens": tokens}
        starts = {name: counts[name].start(getattr(self, name)) for name in counts}
        step, tail = Signal(range(config.group)), 2 * config.rows + config.columns + config.edge_latency - 2
        tail += config.align_steps
        draining, drained = Signal(), Signal(range(tail + 1))
        opening, begin, final, last, pending = Signal(), Signal(), Signal(), Signal(), Signal()
        over, group_last, tile_last, all_last = Signal(), Signal(), Signal(), Signal()
        filling: Value = Signal() if config.floats else Const(0, 1)
        place = Mux(draining, drained, step)
        m.d.comb += [
            over.eq(step == config.group - 1),
            group_last.eq(groups.last(left["n_in"])),
            tile_last.eq(outputs.last(left["n_out"])),
            all_last.eq(group_last & tile_last & tokens.last(left["tokens"])),
            self.codes.eq(self.running & ~draining & ~filling),
            self.vectors.eq(self.running & ~draining & (filling | ~all_last) if config.floats else self.codes),
            self.first.eq(place == 0),
            self.scales.eq(self.running & pending & ~place[0] & (place < 2 * config.rows)),
            self.tag.valid.eq(self.scales),
            self.tag.place.eq(place >> 1),
            self.tag.begin.eq(begin),
            self.tag.final.eq(final),
            self.last.eq(last & (place == 2 * config.rows - 2)),
        ]
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), opening.eq(1), pending.eq(0)]
            m.d.sync += [count.eq(starts[name]) for name, count in left.items()]
            if config.floats:
                m.d.sync += filling.eq(1)
        if config.floats:
            m.d.comb += self.place.eq(step)
            with m.If(self.move & over):
                m.d.sync += filling.eq(0)
        with m.If(self.move & ~draining):
            m.d.sync += step.eq(Mux(over, 0, step + 1))
            with m.If(over & ~filling):
                m.d.sync += [
                    pending.eq(1),
                    begin.eq(opening),
                    final.eq(group_last),
                    last.eq(all_last),
                    opening.eq(group_last),
                    draining.eq(all_last),
                    left["n_in"].eq(Mux(group_last, starts["n_in"], groups.next(left["n_in"]))),
                ]
                with m.If(group_last):
                    m.d.sync += left["n_out"].eq(Mux(tile_last, starts["n_out"], outputs.next(left["n_out"])))
                with m.If(group_last & tile_last):
                    m.d.sync += left["tokens"].eq(tokens.next(left["tokens"]))
        with m.If(self.move & draining):
            m.d.sync += drained.eq(drained + 1)
            with m.If(drained == tail):
                m.d.sync += [draining.eq(0), drained.eq(0), self.running.eq(0)]
        return m


class _Element(SharedModule):
    """Multiplies what comes from the left by what comes from above, and adds it up."""

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        code, activation, value = CODE_BITS, signed(config.operand_bits), signed(config.value_width)
        super().__init__(
            {
                "code": In(code), "first": In(1), "activation": In(activation), "below": In(value),
                "code_right": Out(code), "first_right": Out(1), "activation_down": Out(activation), "up": Out(value),
            }
        )  # fmt: skip

    def build(self, platform: object) -> Module:
        m = Module()
        total = Signal(signed(self.config.value_width), reset_less=True)
        product = shift_add(m, "product", self.config.weight_recoding.digits, self.code, self.activation)
        m.d.sync += [
            self.code_right.eq(self.code),
            self.first_right.eq(self.first),
            self.activation_down.eq(self.activation),
            total.eq(Mux(self.first, 0, total).as_signed() + product),
            self.up.eq(Mux(self.first, total, self.below)),
        ]
        return m


class OutputArray(Component):
    """The elements and the edges; every register moves with the domain's clock.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    codes, scales : In
        As the streams of these names; taken in each step, whatever they are.
    vectors : In(signed(operand_bits)).array(columns)
        Activations, or what `nomul.systolic.align.OutputAlign` makes of them.
    sides : In(6).array(columns)
        Exponents and flags that belong to these (FP16 form only).
    first, tag : In
        From the schedule.
    values : Out(signed(total_width)).array(columns)
        Results, `result_steps` steps after the tag.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        super().__init__(
            {
                **{port.name: In(port.values) for port in config.inputs if port.name != "vectors"},
                "vectors": In(config.operands),
                **({"sides": In(config.sides)} if config.floats else {}),
                "first": In(1),
                "tag": In(tag_layout(config)),
                "values": Out(data.ArrayLayout(signed(config.total_width), config.columns)),
            }
        )

    @staticmethod
    def result_steps(config: SystolicConfig) -> int:
        """Return the steps from a tag to the one after which its results are there."""
        return config.columns + config.edge_latency

    def elaborate(self, platform: object) -> Module:
        """Lay out the elements, skew what enters, and straighten what leaves."""
        m = Module()
        config, delay = self.config, Delays(m)
        rows, columns = config.rows, config.columns
        grid = [[_Element(config) for _ in range(columns)] for _ in range(rows)]
        for r, line in enumerate(grid):
            for c, element in enumerate(line):
                m.submodules[f"element{r}_{c}"] = element
        code = [Signal.like(self.codes[r], name=f"code{r}") for r in range(rows)]
        word = [Signal(signed(config.operand_bits), name=f"word{c}") for c in range(columns)]
        entry, tag, first = Signal(len(self.scales[0])), Signal(len(Value.cast(self.tag))), Signal()
        m.d.comb += [
            *(signal.eq(self.codes[r]) for r, signal in enumerate(code)),
            *(signal.eq(self.vectors[c]) for c, signal in enumerate(word)),
            entry.eq(self.scales[0]), tag.eq(Value.cast(self.tag)), first.eq(self.first),
        ]  # fmt: skip
        for r, line in enumerate(grid):
            for c, element in enumerate(line):
                left = line[c - 1]
                m.d.comb += [
                    element.code.eq(left.code_right if c else delay(code[r], 1 + r)),
                    element.first.eq(left.first_right if c else delay(first, 1 + r)),
                    element.activation.eq(grid[r - 1][c].activation_down if r else delay(word[c], 1 + c)),
                    element.below.eq(grid[r + 1][c].up if r + 1 < rows else 0),
                ]
        for c in range(columns):
            top = grid[0][c]
            running = Signal(signed(config.sum_width), name=f"running{c}", reset_less=True)
            held = Signal(signed(config.sum_width), name=f"held{c}", reset_less=True)
            m.d.sync += running.eq(Mux(top.first, 0, running).as_signed() + top.activation)
            with m.If(top.first):
                m.d.sync += held.eq(running)
            m.submodules[f"edge{c}"] = edge = Edge(config)
            if config.floats:
                side = Signal(SIDE_BITS, name=f"side{c}")
                entered, left = (Signal.like(side, name=f"{name}{c}", reset_less=True) for name in ("entered", "left"))
                enters = delay(side, 1 + c)
                m.d.comb += [side.eq(self.sides[c]), edge.side.eq(left)]
                with m.If(top.first):
                    m.d.sync += [entered.eq(enters), left.eq(entered)]
            m.d.comb += [
                edge.sum.eq(top.up),
                edge.activations.eq(held),
                edge.entry.eq(delay(entry, 2 + c)),
                Value.cast(edge.tag).eq(delay(tag, 2 + c)),
                self.values[c].eq(delay(edge.total, columns - 1 - c)),
            ]
        return m
