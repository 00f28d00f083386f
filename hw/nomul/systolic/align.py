"""The way of FP16 activations into a systolic array: those that a sum leaves the array with share one exponent.

E is the largest exponent field among them, at least 1. Each activation becomes an integer of `significand` bits and a
sign, in units of 2^(E - 14 - significand), rounded half to even (`nomul.arith.fp16`); infinities and NaN become zero
and raise a flag. So the elements are those of the integer array. Everything moves with the array's steps; there is no
queue.

Dataflow `output`: E is that of a column's group, so a group waits in memory until its last activation has come. One
memory serves all columns: in the step that takes input k of a group, input k of the group before is read, and a step
later its place is written. An activation taken at step n is in the array at step n + group + 2.

Dataflow `weight`: E is that of a transfer, and known after a tree of comparisons, `ALIGN_WAYS` of them to a step. An
activation taken at step n is in the array at step n + `SystolicConfig.align_steps`.
"""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.fp16 import SIDE_BITS, align, exponent_field, greatest, shared_side, unpack
from nomul.arith.pipeline import Delays
from nomul.systolic.config import ALIGN_WAYS, SystolicConfig

__all__ = ["OutputAlign", "WeightAlign"]


def finite(word: Value) -> tuple[Value, Value]:
    """Return a word, zero if it is infinite or NaN, and whether it is."""
    special = exponent_field(word).all()
    return word & (~special).replicate(16), special


def kept(opens: Value, side: Value) -> Value:
    """Return the largest exponent field and the flag of a group so far: nothing in its first step."""
    return side & (~opens).replicate(SIDE_BITS)


def place_lanes(m: Module, words: Sequence[Value], largest: Sequence[Value], significand: int) -> list[Value]:
    """Build the last step of each lane: significand and distance in registers, then the number."""
    numbers: list[Value] = []
    for lane, (word, most) in enumerate(zip(words, largest, strict=True)):
        parts = unpack(word, most)
        names = ("significand", "distance", "sign")
        registers = [
            Signal(len(part), name=f"{name}{lane}", reset_less=True) for name, part in zip(names, parts, strict=True)
        ]
        m.d.sync += (register.eq(part) for register, part in zip(registers, parts, strict=True))
        bits, distance, sign = registers
        numbers.append(align(m, str(lane), (bits, distance, sign), significand))
    return numbers


class OutputAlign(Component):
    """The aligner of dataflow `output`; every register moves with the domain's clock.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    words : In(signed(16)).array(columns)
        binary16, of each step, whatever they are.
    place : In(range(group))
        The step's place in its group.
    values : Out(signed(significand + 1)).array(columns)
        The activations of the group before.
    sides : Out(6).array(columns)
        E, and the flag above it, of each of these.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        (words,) = (port.values for port in config.inputs if port.name == "vectors")
        super().__init__(
            {
                "words": In(words),
                "place": In(range(config.group)),
                "values": Out(config.operands),
                "sides": Out(config.sides),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory and the columns."""
        m = Module()
        config = self.config
        columns = range(config.columns)
        m.submodules.words = memory = Memory(
            shape=data.ArrayLayout(16, config.columns), depth=config.group, init=[], attrs={"no_rw_check": 1}
        )
        write, read = memory.write_port(), memory.read_port()
        opens, opened = Signal(), Signal()
        m.d.comb += [opens.eq(self.place == 0), read.addr.eq(self.place), write.en.eq(1)]
        m.d.sync += [write.addr.eq(self.place), opened.eq(opens)]
        largest: list[Value] = []
        for c in columns:
            word, special = finite(self.words[c].as_unsigned())
            taken, flag = Signal(16, name=f"taken{c}", reset_less=True), Signal(name=f"flag{c}", reset_less=True)
            m.d.sync += [taken.eq(word), flag.eq(special)]
            m.d.comb += write.data[c].eq(taken)
            before = Signal(SIDE_BITS, name=f"before{c}", reset_less=True)
            so_far = Signal(SIDE_BITS, name=f"so_far{c}")
            known, field = kept(opened, before), exponent_field(taken)
            m.d.comb += so_far.eq(Cat(greatest([known[:5], field]), known[5] | flag))
            m.d.sync += before.eq(so_far)
            side = Signal(SIDE_BITS, name=f"side{c}", reset_less=True)
            with m.If(opens):
                m.d.sync += side.eq(shared_side(so_far[:5], so_far[5]))
            m.d.sync += self.sides[c].eq(side)
            largest.append(side[:5])
        values = place_lanes(m, [read.data[c] for c in columns], largest, config.significand)
        m.d.comb += (self.values[c].eq(value) for c, value in enumerate(values))
        return m


class WeightAlign(Component):
    """The aligner of dataflow `weight`; every register moves with the domain's clock.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    words : In(signed(16)).array(rows)
        binary16, of each step, whatever they are.
    values : Out(signed(significand + 1)).array(rows)
    sides : Out(6).array(1)
        Their E, and the flag above it.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        (words,) = (port.values for port in config.inputs if port.name == "vectors")
        super().__init__({"words": In(words), "values": Out(config.operands), "sides": Out(config.sides)})

    def elaborate(self, platform: object) -> Module:
        """Build the tree, and the lanes behind it."""
        m = Module()
        config, delay = self.config, Delays(m)
        words, flags = [Signal(16, name=f"word{r}") for r in range(config.rows)], []
        for r, signal in enumerate(words):
            word, special = finite(self.words[r].as_unsigned())
            m.d.comb += signal.eq(word)
            flags.append(special)
        fields: list[Value] = [exponent_field(word) for word in words]
        for level in range(config.align_steps - 1):
            found = []
            for index, start in enumerate(range(0, len(fields), ALIGN_WAYS)):
                side = Signal(SIDE_BITS, name=f"most{level}_{index}", reset_less=True)
                part = slice(start, start + ALIGN_WAYS)
                m.d.sync += side.eq(Cat(greatest(fields[part]), Cat(*flags[part]).any()))
                found.append(side)
            fields, flags = [side[:5] for side in found], [side[5] for side in found]
        side = shared_side(fields[0], flags[0])
        m.d.sync += self.sides[0].eq(side)
        waited = [delay(word, config.align_steps - 1) for word in words]
        values = place_lanes(m, waited, [side[:5]] * config.rows, config.significand)
        m.d.comb += (self.values[r].eq(value) for r, value in enumerate(values))
        return m
