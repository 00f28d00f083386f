"""The weight-stationary array: each element keeps the weight of one input and one output for a tile of tokens.

Activations enter at the left and move right, sums move down, one element a step: element (r, c) multiplies input r of
token s at step s + r + c. The codes of the next tile come meanwhile, from the top: an element that has no next code
yet keeps the first that comes, and passes the others on. With a tile's first token each element takes its next code.
So a tile lasts as many steps as it has tokens, or as it has rows if they are more.

Numbering the steps from a tile's first token: codes of row i of the next tile are taken from their stream at step i,
the tile's zero points and scales at step 0; token s's sum is at the edge of column c at step s + 1 + rows + c.

FP16 activations are taken `align_steps` steps before (`nomul.systolic.align`); the exponent of a token's transfer goes
to the edges with its tag.
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

__all__ = ["WeightArray", "WeightSchedule"]


class WeightSchedule(Component):
    """Counts the steps of a job: token tile by token tile, in it output tile by output tile, in it rows of inputs.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    Those of `schedule_members`; `first` marks the first token of a tile, and the tag is the token's.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        super().__init__(schedule_members(config))

    def elaborate(self, platform: object) -> Module:
        """Count."""
        m = Module()
        config = self.config
        inputs, outputs = Strides(config.n_in_max, config.rows), Strides(config.n_out_max, config.columns)
        most = config.tokens_tile
        parts, columns = Signal(inputs.shape), Signal(outputs.shape)
        waiting, here = (
            Signal(range(config.tokens_max + 1)),
            Signal(range(most + 1)),
        )  # tokens after the tile, and in it
        step = Signal(range(max(most, config.rows)))
        loading, draining = Signal(), Signal()
        tail = config.align_steps + config.rows + config.columns + config.edge_latency - 2
        drained, begin = Signal(range(tail + 1)), Signal()
        over, part_last, output_last, all_last = Signal(), Signal(), Signal(), Signal()
        length = Mux(loading | (here < config.rows), config.rows, here)
        token = Signal()
        m.d.comb += [
            over.eq(step == length - 1),
            part_last.eq(inputs.last(parts)),
            output_last.eq(outputs.last(columns)),
            all_last.eq(part_last & output_last & (waiting == 0)),
            token.eq(self.running & ~loading & ~draining & (step < here)),
            self.codes.eq(self.running & ~draining & (loading | ~all_last) & (step < config.rows)),
            self.vectors.eq(token),
            self.first.eq(token & (step == 0)),
            self.scales.eq(self.first),
            self.tag.valid.eq(token),
            self.tag.place.eq(step),
            self.tag.begin.eq(begin),
            self.tag.final.eq(part_last),
            self.last.eq(all_last & (step == here - 1)),
        ]
        tile = Signal.like(here)
        rest = Signal.like(waiting)
        source = Mux(self.start, self.tokens, waiting)
        m.d.comb += [tile.eq(Mux(source > most, most, source)), rest.eq(source - tile)]
        with m.If(self.start):
            m.d.sync += [
                self.running.eq(1), loading.eq(1), begin.eq(1), parts.eq(inputs.start(self.n_in)),
                columns.eq(outputs.start(self.n_out)), here.eq(tile), waiting.eq(rest),
            ]  # fmt: skip
        with m.If(self.move & ~draining):
            m.d.sync += step.eq(Mux(over, 0, step + 1))
            with m.If(over & loading):
                m.d.sync += loading.eq(0)
            with m.Elif(over):
                m.d.sync += [
                    begin.eq(part_last),
                    parts.eq(Mux(part_last, inputs.start(self.n_in), inputs.next(parts))),
                    draining.eq(all_last),
                ]
                with m.If(part_last):
                    m.d.sync += columns.eq(Mux(output_last, outputs.start(self.n_out), outputs.next(columns)))
                with m.If(part_last & output_last):
                    m.d.sync += [here.eq(tile), waiting.eq(rest)]
        with m.If(self.move & draining):
            m.d.sync += drained.eq(drained + 1)
            with m.If(drained == tail):
                m.d.sync += [draining.eq(0), drained.eq(0), self.running.eq(0)]
        return m


def keeps(valid: Value, full: Value, first: Value) -> Value:
    """Tell whether an element keeps the code that comes: it has none yet, or takes it into use now."""
    return valid & (~full | first)


class _Element(SharedModule):
    """Multiplies what comes from the left by its weight, and adds that to the sum from above."""

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        activation, value = signed(config.operand_bits), signed(config.value_width)
        offer = data.StructLayout({"code": CODE_BITS, "valid": 1})
        super().__init__(
            {
                "offer": In(offer), "offer_down": Out(offer), "activation": In(activation), "first": In(1),
                "activation_right": Out(activation), "first_right": Out(1), "above": In(value), "down": Out(value),
            }
        )  # fmt: skip

    def build(self, platform: object) -> Module:
        m = Module()
        code, following, full, keep = Signal(CODE_BITS), Signal(CODE_BITS), Signal(), Signal()
        now = Mux(self.first, following, code)
        product = shift_add(m, "product", self.config.weight_recoding.digits, now, self.activation)
        m.d.comb += keep.eq(keeps(self.offer.valid, full, self.first))
        m.d.sync += [
            code.eq(now),
            full.eq(keep | full & ~self.first),
            self.offer_down.code.eq(self.offer.code),
            self.offer_down.valid.eq(self.offer.valid & ~keep),
            self.activation_right.eq(self.activation),
            self.first_right.eq(self.first),
            self.down.eq(self.above + product),
        ]
        with m.If(keep):
            m.d.sync += following.eq(self.offer.code)
        return m


class WeightArray(Component):
    """The elements and the edges; every register moves with the domain's clock.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    codes, scales : In
        As the streams of these names; of each step, whatever they are.
    vectors : In(signed(operand_bits)).array(rows)
        Activations, or what `nomul.systolic.align.WeightAlign` makes of them.
    sides : In(6).array(1)
        The exponent and the flag that belong to these (FP16 form only).
    offer : In(1)
        The codes are such.
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
                "offer": In(1),
                "first": In(1),
                "tag": In(tag_layout(config)),
                "values": Out(data.ArrayLayout(signed(config.total_width), config.columns)),
            }
        )

    @staticmethod
    def result_steps(config: SystolicConfig) -> int:
        """Return the steps from a tag to the one after which its results are there."""
        return config.rows + config.columns + config.edge_latency - 1

    def elaborate(self, platform: object) -> Module:
        """Lay out the elements, skew what enters, and straighten what leaves."""
        m = Module()
        config, delay = self.config, Delays(m)
        rows, columns = config.rows, config.columns
        grid = [[_Element(config) for _ in range(columns)] for _ in range(rows)]
        for r, line in enumerate(grid):
            for c, element in enumerate(line):
                m.submodules[f"element{r}_{c}"] = element
        offers = [Signal(CODE_BITS + 1, name=f"offer{c}") for c in range(columns)]
        words = [Signal(signed(config.operand_bits), name=f"word{r}") for r in range(rows)]
        entries = [Signal(len(self.scales[0]), name=f"entry{c}") for c in range(columns)]
        first, tag = Signal(), Signal(len(Value.cast(self.tag)))
        m.d.comb += [first.eq(self.first), tag.eq(Value.cast(self.tag))]
        side = Signal(SIDE_BITS)
        if config.floats:
            m.d.comb += side.eq(self.sides[0])
        m.d.comb += [signal.eq(self.vectors[r]) for r, signal in enumerate(words)]
        for c in range(columns):
            m.d.comb += [offers[c].eq(self.codes[c] | self.offer << CODE_BITS), entries[c].eq(self.scales[c])]

        activations: Value = Const(0, signed(config.sum_width))
        for r, line in enumerate(grid):
            for c, element in enumerate(line):
                above, left = grid[r - 1][c], line[c - 1]
                m.d.comb += [
                    Value.cast(element.offer).eq(Value.cast(above.offer_down) if r else delay(offers[c], 1 + c)),
                    element.above.eq(above.down if r else 0),
                    element.activation.eq(left.activation_right if c else delay(words[r], 1 + r)),
                    element.first.eq(left.first_right if c else delay(first, 1 + r)),
                ]
            summed = Signal(signed(config.sum_width), name=f"activations{r}", reset_less=True)
            m.d.sync += summed.eq(activations + line[0].activation)
            activations = summed
        for c in range(columns):
            following, kept = (Signal.like(entries[c], name=f"{name}{c}") for name in ("following", "kept"))
            m.submodules[f"edge{c}"] = edge = Edge(config)
            comes, starts, entry = delay(first, 1 + c), delay(first, rows + 1 + c), delay(entries[c], 1 + c)
            with m.If(comes):
                m.d.sync += following.eq(entry)
            m.d.sync += kept.eq(edge.entry)
            m.d.comb += [
                edge.sum.eq(grid[rows - 1][c].down),
                edge.activations.eq(delay(activations, c)),
                edge.entry.eq(Mux(starts, following, kept)),
                Value.cast(edge.tag).eq(delay(tag, rows + 1 + c)),
                self.values[c].eq(delay(edge.total, columns - 1 - c)),
            ]
            if config.floats:
                m.d.comb += edge.side.eq(delay(side, rows + 1 + c))
        return m
