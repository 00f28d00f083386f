"""What is done with scales between the vectors: short programs for `nomul.accelerators.scale_processor`.

An instruction is (operation, destination, a, b). Operands are registers R0 to R3, a slot of the token that is worked
on, or a constant of the layer. docs/numerics.md defines each formula under the name of the program.
"""

import dataclasses
import enum

__all__ = ["CONSTANTS", "Constant", "Instruction", "Operand", "Operation", "Program", "Register", "Slot", "programs"]


class Constant(enum.IntEnum):
    """Scales that are fixed for a layer, by their place among the layer's constants."""

    INVERSE_WIDTH = 0
    INVERSE_QUERIES = 1
    INVERSE_FFN = 2
    GAIN_INPUT = 3
    GAIN_SUB = 4
    GAIN_POST = 5
    GAIN_FFN = 6
    EPS_RESIDUAL = 7
    EPS_ATTENTION = 8
    EPS_FFN = 9
    QUERY = 10
    KEY = 11
    VALUE = 12
    OUT = 14
    DOWN = 15
    GATE = 16
    UP = 17
    EMBED = 18
    SILU = 19
    SILU_RESULT = 20


CONSTANTS = 32
"""Places for the constants of a layer."""


class Register(enum.IntEnum):
    """Scales that live within a program."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3


class Slot(enum.IntEnum):
    """Scales that are kept for each token of a tile."""

    SCALE = 0
    """Of the codes of the last norm."""
    KEYS = 1
    VALUES = 2
    RESIDUAL = 3
    """From the sums of a projection to words."""
    UNIT = 4
    """Of the gated products."""


Operand = Register | Slot | Constant


class Operation(enum.IntEnum):
    """What an instruction does; the first six are those of `nomul.vector.scale.ScaleUnit`."""

    MULTIPLY = 0
    DIVIDE = 1
    ADD = 2
    RSQRT = 3
    NORMALISE_MAXIMUM = 4
    """The integer `maximum` as a scale."""
    NORMALISE_SQUARES = 5
    """The integer `squares` as a scale."""
    FIX_MAXIMUM = 6
    """`maximum` times a, as an integer of 16 bits: what `word` says after the program."""
    SHIFT = 7
    """a times 2^`shift`."""
    CLAMP = 8
    """a, but 2^15 where it is zero."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One step of a program."""

    operation: Operation
    destination: Register | Slot
    a: Operand = Register.R0
    b: Operand = Register.R0


class Program(enum.IntEnum):
    """The programs, by the numbers that start them."""

    INPUT = 0
    """After the norm before attention: the codes' scale, and those of keys and values."""
    SUB = 1
    """After the norm of attention's output: from sums of the output projection to words."""
    POST = 2
    """After the norm before the gated block: the unit of its products."""
    FFN = 3
    """After the norm of the gated products: from sums of the down projection to words."""
    QUERY = 4
    """The scale of a query's scores."""
    KEY = 5
    VALUE = 6
    """The scale of a key or a value in the cache, an integer."""
    EMBED = 7
    """From codes of the embedding to words."""


def _norm(length: Constant, eps: Operand, gain: Constant) -> list[Instruction]:
    r0, r1 = Register.R0, Register.R1
    return [
        Instruction(Operation.NORMALISE_SQUARES, r1),
        Instruction(Operation.MULTIPLY, r1, r1, length),
        Instruction(Operation.ADD, r1, r1, eps),
        Instruction(Operation.RSQRT, r1, r1),
        Instruction(Operation.NORMALISE_MAXIMUM, r0),
        Instruction(Operation.MULTIPLY, r0, r0, gain),
        Instruction(Operation.MULTIPLY, Slot.SCALE, r0, r1),
    ]


def programs(activation: str) -> dict[Program, list[Instruction]]:
    """Return the instructions of every program, for a gated activation of `nomul.accelerators.shape.ACTIVATIONS`."""
    r0, r1, r2, r3 = Register
    multiply = Operation.MULTIPLY
    if activation == "relu2":
        unit = [
            Instruction(multiply, r1, Slot.SCALE, Constant.GATE),
            Instruction(multiply, r1, r1, r1),
            Instruction(multiply, r2, Slot.SCALE, Constant.UP),
            Instruction(multiply, Slot.UNIT, r1, r2),
        ]
    else:
        unit = [
            Instruction(multiply, r1, Slot.SCALE, Constant.GATE),
            Instruction(multiply, Slot.RESIDUAL, r1, Constant.SILU),
            Instruction(multiply, r2, Slot.SCALE, Constant.UP),
            Instruction(multiply, Slot.UNIT, r2, Constant.SILU_RESULT),
        ]
    return {
        Program.INPUT: [
            *_norm(Constant.INVERSE_WIDTH, Constant.EPS_RESIDUAL, Constant.GAIN_INPUT),
            Instruction(multiply, Slot.KEYS, Slot.SCALE, Constant.KEY),
            Instruction(multiply, Slot.VALUES, Slot.SCALE, Constant.VALUE),
        ],
        Program.SUB: [
            *_norm(Constant.INVERSE_QUERIES, Constant.EPS_ATTENTION, Constant.GAIN_SUB),
            Instruction(multiply, Slot.RESIDUAL, Slot.SCALE, Constant.OUT),
        ],
        Program.POST: [*_norm(Constant.INVERSE_WIDTH, Constant.EPS_RESIDUAL, Constant.GAIN_POST), *unit],
        Program.FFN: [
            Instruction(Operation.SHIFT, r2, Slot.UNIT),
            Instruction(multiply, r2, r2, r2),
            Instruction(Operation.CLAMP, r2, r2),
            Instruction(Operation.DIVIDE, r3, Constant.EPS_FFN, r2),
            *_norm(Constant.INVERSE_FFN, r3, Constant.GAIN_FFN),
            Instruction(multiply, Slot.RESIDUAL, Slot.SCALE, Constant.DOWN),
        ],
        Program.QUERY: [
            Instruction(Operation.NORMALISE_MAXIMUM, r0),
            Instruction(multiply, r0, r0, Slot.SCALE),
            Instruction(multiply, r0, r0, Constant.QUERY),
        ],
        Program.KEY: [Instruction(Operation.FIX_MAXIMUM, r0, Slot.KEYS)],
        Program.VALUE: [Instruction(Operation.FIX_MAXIMUM, r0, Slot.VALUES)],
        Program.EMBED: [Instruction(Operation.CLAMP, Slot.RESIDUAL, Constant.EMBED)],
    }
