"""Runs the programs of `nomul.accelerators.scale_programs` on one sequential scale unit.

Scales belong to vectors, not to elements, so a token needs about fifty operations a layer and one unit serves them all.
Cycle schedule of an instruction: fetched at t, operand a addressed t + 1 and read t + 3, b one later, the unit
started t + 5, its result written when it is done. Constants are read from outside: 32 for each layer.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.scale_programs import (
    CONSTANTS,
    Constant,
    Instruction,
    Operand,
    Operation,
    Program,
    Register,
    Slot,
    programs,
)
from nomul.vector.scale import SCALE, ScaleUnit
from nomul.vector.scale import Operation as ScaleOperation

__all__ = ["ScaleProcessor"]

PLACES = 8
"""Places for the slots of a token, and for the registers."""

_ALU = {
    Operation.MULTIPLY: ScaleOperation.MULTIPLY,
    Operation.DIVIDE: ScaleOperation.DIVIDE,
    Operation.ADD: ScaleOperation.ADD,
    Operation.RSQRT: ScaleOperation.RSQRT,
    Operation.NORMALISE_MAXIMUM: ScaleOperation.NORMALISE,
    Operation.NORMALISE_SQUARES: ScaleOperation.NORMALISE,
    Operation.FIX_MAXIMUM: ScaleOperation.FIX,
}


def _encode(operand: Operand) -> int:
    """Return an operand's place: 0 to 31 a constant, from 32 up a slot, from 64 up a register."""
    if isinstance(operand, Constant):
        return int(operand)
    return (32 if isinstance(operand, Slot) else 64) + operand


class ScaleProcessor(Component):
    """The processor.

    Parameters
    ----------
    layers, tile : int
        Layers of the model, tokens of a tile.
    activation : str
        Gated activation, for the programs.
    maximum_bits, squares_bits : int
        Widths of the integers.

    Members
    -------
    start : In(1)
    program : In(3)
        A `Program`.
    token, layer : In
        Taken with `start`.
    maximum, squares, shift : In(unsigned)
        What programs take beside scales; must not change until `done`.
    done : Out(1)
        The program has ended; `result` is its last scale, `word` its last integer, until the next start.
    stored_valid, stored : Out
        `result` goes to that slot of that token; for a trace.
    constant_address : Out
        A constant, which comes two cycles later.
    constant : In(SCALE)
    slot_token : In
    slot : Out(SCALE)
        `Slot.RESIDUAL` of a token, two cycles later.
    """

    def __init__(self, layers: int, tile: int, activation: str, maximum_bits: int, squares_bits: int) -> None:
        self.layers, self.tile, self.activation = layers, tile, activation
        super().__init__(
            {
                "start": In(1),
                "program": In(range(len(Program))),
                "token": In(range(max(tile, 2))),
                "layer": In(range(max(layers, 2))),
                "maximum": In(maximum_bits),
                "squares": In(squares_bits),
                "shift": In(6),
                "done": Out(1),
                "result": Out(SCALE),
                "word": Out(16),
                "stored_valid": Out(1),
                "stored": Out(data.StructLayout({"place": 3, "token": range(max(tile, 2))})),
                "constant_address": Out(range(layers * CONSTANTS)),
                "constant": In(SCALE),
                "slot_token": In(range(max(tile, 2))),
                "slot": Out(SCALE),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the program memory, the scales' memory and the control."""
        m = Module()
        code: list[dict[str, int]] = []
        entries: dict[Program, int] = {}
        instruction = data.StructLayout({"operation": 4, "destination": 7, "a": 7, "b": 7, "last": 1})
        for program, steps in programs(self.activation).items():
            entries[program] = len(code)
            code += [self._word(step, step is steps[-1]) for step in steps]
        m.submodules.code = code_memory = Memory(shape=instruction, depth=len(code), init=code)
        fetch = code_memory.read_port()
        m.submodules.scratch = scratch = Memory(shape=SCALE, depth=(self.tile + 1) * PLACES, init=[])
        write, read, slot = scratch.write_port(), scratch.read_port(), scratch.read_port()
        m.submodules.unit = unit = ScaleUnit(max(len(self.maximum), len(self.squares)))
        m.d.comb += slot.addr.eq(self.slot_token * PLACES + Slot.RESIDUAL)
        m.d.sync += self.slot.eq(slot.data)

        token, layer = Signal.like(self.token), Signal.like(self.layer)
        with m.If(self.start):
            m.d.sync += [token.eq(self.token), layer.eq(self.layer)]
        counter = Signal(range(len(code) + 1))
        now = Signal(instruction)
        m.d.comb += fetch.addr.eq(counter)

        def scratch_address(operand: Value) -> Value:
            return Mux(operand[6], self.tile * PLACES, token * PLACES) + operand[:3]

        address, from_scratch = Signal(7), Signal(2)
        fetched = Signal(SCALE)
        m.d.comb += [
            read.addr.eq(scratch_address(address)),
            self.constant_address.eq(Cat(address[:5], layer)),
        ]
        delayed = Signal(SCALE)
        m.d.sync += [
            delayed.eq(read.data),
            from_scratch.eq(Cat(address[5:].any(), from_scratch[0])),
        ]
        m.d.comb += fetched.eq(Mux(from_scratch[1], delayed, self.constant))

        a, b = Signal(SCALE), Signal(SCALE)
        operation = now.operation
        m.d.comb += [
            unit.a.eq(a),
            unit.b.eq(b),
            unit.integer.eq(Mux(operation == Operation.NORMALISE_SQUARES, self.squares, self.maximum)),
            write.addr.eq(scratch_address(now.destination)),
            write.data.eq(self.result),
            self.stored.place.eq(now.destination[:3]),
            self.stored.token.eq(token),
        ]
        with m.Switch(operation):
            for mine, theirs in _ALU.items():
                with m.Case(mine):
                    m.d.comb += unit.operation.eq(theirs)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                with m.Switch(self.program):
                    for program, entry in entries.items():
                        with m.Case(program):
                            m.d.sync += counter.eq(entry)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += [now.eq(fetch.data), address.eq(fetch.data.a), counter.eq(counter + 1)]
                m.next = "A"
            with m.State("A"):
                m.d.sync += address.eq(now.b)
                m.next = "B"
            with m.State("B"):
                m.next = "TAKE_A"
            with m.State("TAKE_A"):
                m.d.sync += a.eq(fetched)
                m.next = "TAKE_B"
            with m.State("TAKE_B"):
                m.d.sync += b.eq(fetched)
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.d.comb += unit.start.eq(operation < Operation.SHIFT)
                m.next = "WAIT"
                with m.If(operation == Operation.SHIFT):
                    m.d.sync += [self.result.mantissa.eq(a.mantissa), self.result.exponent.eq(a.exponent + self.shift)]
                    m.next = "WRITE"
                with m.If(operation == Operation.CLAMP):
                    m.d.sync += [
                        self.result.mantissa.eq(Mux(a.mantissa == 0, Const(1 << 15), a.mantissa)),
                        self.result.exponent.eq(a.exponent),
                    ]
                    m.next = "WRITE"
            with m.State("WAIT"), m.If(unit.done):
                m.d.sync += [self.result.eq(unit.result), self.word.eq(unit.word)]
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [write.en.eq(1), self.done.eq(now.last), self.stored_valid.eq(now.destination[5])]
                m.next = "FETCH"
                with m.If(now.last):
                    m.next = "IDLE"
        return m

    @staticmethod
    def _word(step: Instruction, last: bool) -> dict[str, int]:
        operands = {"destination": step.destination, "a": step.a, "b": step.b}
        return {"operation": int(step.operation), **{k: _encode(v) for k, v in operands.items()}, "last": int(last)}


assert len(Register) <= PLACES and len(Slot) <= PLACES
