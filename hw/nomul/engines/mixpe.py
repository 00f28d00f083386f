"""MixPE: INT4 x integer dot products by shift and add, dequantised after each group, after MixPE (arXiv 2411.16158).

    y[o] = sum over groups g of scale[o, g] * sum_{k in g} a[k] * (code[o, k] - zero[o, g])

Codes and zero points have four bits, scales are integers of `scale_bits` bits; what is left of real scales, one factor
for an output, stays outside. MixPE publishes two ideas: scale and zero point are applied once for a group, outside the
inner products, and products are shifts and additions. The circuits are ours.

The inner products see unsigned codes less a constant (`nomul.arith.recoding`), so the sum of a group's activations,
which zero points ask for, corrects both at once. It is made while the vector is stored, once for all outputs. Rows add
up groups in narrow accumulators; the scale units (`nomul.engines.group_scale`) take their sums in turn.

With `weight` = ternary codes and zero points have two bits, and an element is one digit: an array of twice the lanes
has as many digits as one of INT4, and makes twice the products.

Standard-cell arrays make every bit of a product with one OAI222 and leave out what depends on the weights alone. With
the recoding `ent` the two bits of a digit are lines of that selection as they come, so that a digit costs one NAND
(`nomul.arith.recoding.lined_product`). The packer (`nomul.formats.mixpe`) puts what is left out into the entry of the
group.

An array of `fold` f is built with f times the lanes and rows / f rows. It makes f passes over each group, the first for
the block's first rows / f outputs. It forms as many products in a cycle and has as many totals, but fewer and longer
sums: less area, and a wider vector memory.

Measured in nangate45, 16 lanes x 8 rows, groups of 128, everything but the memories, made for 1.2 ns, a fold of 2:
178.2 um2 a MAC at 1.20 ns, 0.569 of the INT8 array made for the same clock. Adders take 82 of it, flip-flops 47
(codes 18, totals 10), selection and other logic 47. A fold of 2 has half the accumulators and half the sums that
wait; activations stand in the output register of the vector memory, which is twice as wide. Both made for 1.4 ns and
simulated on four vectors of a real layer in groups, (area x power) of the INT8 array is 3.13 times as large.

What was worse: no fold, 189; a fold of 4, 172 but 1.36 ns; decoded digits of signed words, 7.6 more; registers of
their own for the activations, 4 more without a fold, and 9 with one. Flip-flops' inverted outputs in place of
inverters would save 0.6.

On ECP5 codes are added up bit by bit (`nomul.arith.plane_sum`), and scale units are pipelined
(`nomul.engines.group_scale_stages`): 16 lanes x 8 rows take 53 LUTs a MAC, where products of shifted copies take 83 and
the INT8 array takes 100.

Weights: a transfer holds a code for each row and each lane that are built, row 0 lane 0 lowest, and above them one
entry for each scale unit. Transfers go block by block, in a block group by group, pass by pass, step by step; a
vector is padded to whole groups. The entry for row t of a unit, of the pass whose last step is transfer i, is in
transfer i + `sum_latency` + t - 1. After the last block of a token come transfers for its last entries.
"""

import dataclasses
from functools import cached_property

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component

from nomul.arith.recoding import LINED, RECODINGS, Recoding, lined_most, recoding
from nomul.arith.target import AMD, TARGETS, Target
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import ArrayConfig, check_total_bits, least_total_bits
from nomul.engines.group_scale import entry_layout
from nomul.engines.group_schedule import GroupSchedule
from nomul.engines.matmul import Mode, check_streams, matmul_members
from nomul.engines.mixpe_array import MixpeArray, sum_latency, total_latency
from nomul.shared_module import enabled

__all__ = ["Mixpe", "MixpeConfig"]


@dataclasses.dataclass(frozen=True)
class MixpeConfig(ArrayConfig):
    """Configuration of `Mixpe`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    lanes_in: int = parameter(16, "activations in a step", low=1, high=512)
    rows: int = parameter(8, "outputs computed in parallel", low=1, high=256)
    fold: int = parameter(
        1,
        "passes over a group: the array is built with so many times the lanes, and so much fewer rows",
        low=1,
        high=64,
    )
    group: int = parameter(128, "inputs that share a scale; 0 is the whole row", low=0, high=1 << 20)
    weight: str = parameter(
        "int4", "codes of four bits, or of two: a ternary weight is a single digit", choices=("int4", "ternary")
    )
    codes: str = parameter("signed", "codes and zero points: -8 to 7, or 0 to 15", choices=("signed", "unsigned"))
    recoding: str | None = parameter(
        None, "how a weight becomes shifts and additions; the target's best by default", choices=RECODINGS
    )
    scale_bits: int = parameter(8, "width of a group's scale", low=1, high=16)
    act_bits: int = parameter(8, "width of an activation, two's complement", low=2, high=16)
    load_lanes: int | None = parameter(
        None, "activations in a transfer; by default a quarter of lanes_in where that is whole", low=1, high=512
    )
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    total_bits: int | None = parameter(None, "width of totals and results", low=2, high=64)
    low: int = parameter(5, "lowest columns added up one step ahead (target cells only)", low=0, high=16)
    depth: int = parameter(15, "longest path of a row's tree, in exclusive ors (target cells only)", low=4, high=99)
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.lanes_in > self.n_in_max:
            refuse(self, "lanes_in", f"at most n_in_max = {self.n_in_max}")
        if self.weight == "ternary" and self.codes != "signed":
            refuse(self, "codes", "signed, for weight = ternary")
        if self.lanes_in % self.activation_lanes:
            refuse(self, "load_lanes", f"a divisor of lanes_in = {self.lanes_in}")
        if self.rows % self.fold:
            refuse(self, "fold", f"a divisor of rows = {self.rows}")
        if self.group % self.word_lanes or self.group > self.n_in_max:
            what = "lanes_in" if self.fold == 1 else "lanes_in * fold"
            refuse(self, "group", f"a multiple of {what} = {self.word_lanes} up to n_in_max = {self.n_in_max}, or 0")
        check_total_bits(
            self,
            self._scaled_most,
            f" activations of {self.act_bits} bits with scales of {self.scale_bits} bits",
        )
        check_streams(self)

    @property
    def _most(self) -> int:
        """Largest absolute value of an activation times a code less a zero point."""
        return ((1 << self.code_bits) - 1) << (self.act_bits - 1)

    @property
    def _scaled_most(self) -> int:
        """Largest absolute value of a product times its scale."""
        return self._most * ((1 << self.scale_bits) - 1)

    @cached_property
    def weight_recoding(self) -> Recoding:
        """How codes and zero points are read."""
        return recoding(self.digits, self.code_bits)

    @property
    def digits(self) -> str:
        """Name of the recoding."""
        if self.target == Target.ECP5.value:
            return self.recoding or "binary"
        return self.recoding or ("booth4" if Target(self.target) in AMD and self.code_bits == 4 else "ent")

    @property
    def nibbles(self) -> bool:
        """Whether products are `nomul.arith.nibble_product`s."""
        return Target(self.target) in AMD and self.digits == "booth4" and self.code_bits == 4

    @property
    def planes(self) -> bool:
        """Whether sums are `nomul.arith.plane_sum`s, and scale units staged."""
        return self.target == Target.ECP5.value and self.digits == "binary"

    @property
    def lined(self) -> bool:
        """Whether the bits of codes are lines, for `nomul.arith.recoding.lined_product`."""
        return self.trees and self.digits == LINED

    @property
    def code_bits(self) -> int:
        """Width of a code and of a zero point: two digits' or one digit's."""
        return 4 if self.weight == "int4" else 2

    @property
    def word_lanes(self) -> int:
        """Lanes that are built: activations in a step."""
        return self.lanes_in * self.fold

    @property
    def array_rows(self) -> int:
        """Rows that are built."""
        return self.rows // self.fold

    @property
    def activation_lanes(self) -> int:
        """Activations in a transfer."""
        return self.load_lanes or (self.lanes_in if self.lanes_in % 4 else self.lanes_in // 4)

    @property
    def low_columns(self) -> int:
        """Lowest columns of a row's sum that are one step ahead of the others."""
        return min(self.low, self.group_width - 1) if self.trees else 0

    @property
    def group_steps(self) -> int | None:
        """Steps of a pass over a group."""
        return self.group // self.word_lanes or None

    @property
    def group_count(self) -> int:
        """Groups of the longest vector."""
        return -(-self.n_in_max // self.group) if self.group else 1

    @property
    def turn(self) -> int:
        """Rows that one scale unit serves: the most that a pass has time for and that divide the rows."""
        most = min(self.array_rows, self.group_steps or self.array_rows)
        return next(turn for turn in range(most, 0, -1) if self.array_rows % turn == 0)

    @property
    def scale_units(self) -> int:
        """Scale units."""
        return self.array_rows // self.turn

    @property
    def least_steps(self) -> int:
        """Fewest steps of a pass."""
        return self.turn

    @property
    def entry_delay(self) -> int:
        """Transfers from a group's last to the one that brings the entry of a unit's first row."""
        return sum_latency(self) - 1

    @property
    def drain(self) -> int:
        """Transfers after a token's last block."""
        return self.entry_delay + self.turn + total_latency(self) - 1

    @property
    def group_width(self) -> int:
        """Width of a group's sum of weights, less zero point, times activations."""
        return (self._most * (self.group or self.n_in_max)).bit_length() + 1

    @property
    def sum_width(self) -> int:
        """Width of the sum of a group's activations; padding of the last transfer counts."""
        count = self.group or -(-self.n_in_max // self.activation_lanes) * self.activation_lanes
        return ((count << (self.act_bits - 1)) - 1).bit_length() + 1

    @property
    def correction_bits(self) -> int:
        """Width of an entry's correction: 0, or enough for every digit of a group to be the one that asks for most."""
        if not self.trees:
            return 0
        if not self.group:
            return self.group_width
        weight = sum(1 << digit.shift for digit in self.weight_recoding.digits)
        most = lined_most(self.act_bits) // 2 + 1 if self.lined else 1
        return (weight * (self.group * most + 1)).bit_length()

    @property
    def total_width(self) -> int:
        """Width of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, self._scaled_most)

    @property
    def entry_width(self) -> int:
        """Bits of an entry."""
        return entry_layout(self).size

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        return self.code_bits * self.rows * self.lanes_in + self.entry_width * self.scale_units

    @property
    def modes(self) -> tuple[Mode, ...]:
        """INT4 or ternary weights, activations of `act_bits` bits."""
        most = 1 << (self.act_bits - 1)
        weights = (-8, 7) if self.codes == "signed" else (0, 15)
        if self.weight == "ternary":
            weights = (-1, 1)
        return (Mode(self.weight, weights, (-most, most - 1), self.macs_per_cycle),)

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        row = f"{self.turn} rows each" if self.scale_units > 1 else "all of them"
        order = f"a block group by group, a group in {self.fold} passes" if self.fold > 1 else "a block group by group"
        return (
            f"{self.array_rows} rows of {self.word_lanes} codes of {self.code_bits} bits a transfer, row 0 lane 0 "
            f"lowest, then {self.scale_units} entries of {self.entry_width} bits (zero {self.code_bits}, scale "
            f"{self.scale_bits + self.scale_bits % 2 + 1}, correction {self.correction_bits}) for {row}; "
            f"block by block, {order}, padded to whole groups; the entry of row t "
            f"is {self.entry_delay} + t transfers behind the last of its group or pass; {self.drain} "
            f"transfers at the end of a token; see docs/formats.md"
        )

    def block_steps(self, n_in: int) -> int:
        """Return the steps of a block."""
        words = -(-n_in // self.word_lanes)
        if self.group_steps is None:
            return max(words, self.least_steps) * self.fold
        return -(-words // self.group_steps) * self.group_steps * self.fold

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_out // self.rows) * self.block_steps(n_in) + self.drain

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        beats, steps = -(-n_in // self.activation_lanes), self.weight_transfers(n_in, n_out)
        # Cycle 0 takes the job.
        loaded, issued, freed = 0, 0, [0, 0]
        for token in range(tokens):
            loaded = max(loaded, freed[token % 2]) + beats
            issued = max(loaded + 2, issued + 1) + steps - 1
            freed[token % 2] = issued
        return issued + 2


class Mixpe(Component):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : MixpeConfig
    """

    def __init__(self, config: MixpeConfig) -> None:
        self.config = config
        layout = data.StructLayout(
            {
                "codes": data.ArrayLayout(config.code_bits, config.rows * config.lanes_in),
                "entries": data.ArrayLayout(entry_layout(config), config.scale_units),
            }
        )
        super().__init__(matmul_members(config, layout))

    def elaborate(self, platform: object) -> Module:
        """Wire the schedule, the weights, the array and the results together."""
        m = Module()
        m.submodules.schedule = schedule = GroupSchedule(self.config)
        array, move, free, whole = MixpeArray(self.config), Signal(), Signal(), Signal()
        m.submodules.array = enabled(move, array)
        m.d.comb += [
            schedule.jobs.payload.eq(self.jobs.payload),
            schedule.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(schedule.jobs.ready),
            schedule.activations.payload.eq(self.activations.payload),
            schedule.activations.valid.eq(self.activations.valid),
            self.activations.ready.eq(schedule.activations.ready),
            self.fault.eq(schedule.fault),
            # The totals turn on with the next step, so it waits until they are taken.
            free.eq(~whole | self.results.ready),
            self.weights.ready.eq(schedule.steps.valid & free),
            move.eq(self.weights.ready & self.weights.valid),
            schedule.steps.ready.eq(move),
            schedule.group.eq(array.group),
            array.sum.eq(schedule.sum),
            Value.cast(array.step).eq(Value.cast(schedule.steps.payload)),
            array.weights.eq(self.weights.payload.codes),
            array.entries.eq(self.weights.payload.entries),
            self.results.valid.eq(whole),
            self.results.payload.values.eq(array.values),
        ]
        with m.If(free):
            m.d.sync += whole.eq(move & array.whole)
        with m.If(move):
            m.d.sync += self.results.payload.last.eq(array.final)
        return m
