"""The AMD form of the signed sum: three-operand adders."""

import dataclasses
from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value

from nomul.arith import xilinx
from nomul.arith.pipeline import Delays
from nomul.arith.sum_terms import SumTiming, sum_members, sum_width
from nomul.arith.target import Target
from nomul.shared_module import SharedModule

__all__ = ["TernarySum"]

ADDEND = "addend"

Operation = tuple[int | str, ...]
"""Operands of one addition: term numbers, names of earlier sums, and `ADDEND` in the last."""


@dataclasses.dataclass
class _Operand:
    """Bits of an operand, lowest first, and what is still to be done to it."""

    bits: list[Value]
    magnitude: int
    inverted: bool = False  # the top bit is stored inverted
    sign: Value | None = None  # the term is to be complemented
    gate: Value | None = None  # the term counts
    plus_one: Value | None = None  # one is to be added
    clear: Value | None = None  # the addend does not count

    def column(self, index: int, offset: bool) -> tuple[Value, int]:
        """Return a bit, sign-extended, and whether the look-up table has to invert it."""
        top = len(self.bits) - 1
        return self.bits[min(index, top)], int(index >= top and self.inverted != offset)


class TernarySum(SharedModule):
    """Signed sum with one LUT6_2 and one carry bit a column, for two negatable terms or for three operands.

    Stage 0 adds pairs, (a ^ s) + (b ^ t) + s: four inputs and the carry's DI make one LUT6_2 a bit. The operands enter
    with their top bits inverted, as unsigned numbers with an offset, so that the carry out is the (inverted) top bit of
    the sum and costs nothing. Every later stage adds two earlier sums and one more negatable term: four inputs and the
    majority of the column below. So a third of the terms never needs a pair.

    Of a pair's two plus ones one goes to its carry-in and one stays pending. A three-operand adder has two inputs of
    weight one: the majority input of its lowest column takes its own term's, the carry-in takes a pending one. The
    latter costs a column, because the carry-in and the lowest DI of a slice share a pin.

    27 terms of magnitude 384 with a 21-bit total take 224 look-up tables, against 370 of the portable form (Yosys 0.70,
    UltraScale+). With every term in a pair and plain three-operand adders above it would be about 245.

    Where no term is negated, the last adder has an input to spare: it clears the addend.

    Terms that are gated too all go into pairs: the sixth input of the look-up table is the second term's gate, and O5,
    the first term alone, is both DI and, where the second does not count, the sum.

    Parameters, attributes and ports are those of `nomul.arith.signed_sum.RelativeSignSum`, and `target` one of
    `Target.XCUP` and `Target.XC7`; with `gated`, the negatable terms have the additional ports of
    `nomul.arith.gated_sum.GatedSum`.
    """

    def __init__(
        self,
        terms: int,
        magnitude: int,
        total_width: int,
        target: Target,
        negatable: bool = True,
        gated: bool = False,
        clearable: bool = False,
    ) -> None:
        assert not (clearable and (negatable or gated))
        self.terms, self.magnitude, self.total_width = terms, magnitude, total_width
        self.target, self.negatable, self.gated, self.clearable = target, negatable, gated, clearable
        self._plan = _plan(terms, negatable, gated)
        super().__init__(sum_members(terms, magnitude, total_width, negatable, gated, clearable))

    @staticmethod
    def timing(terms: int, negatable: bool, gated: bool = False) -> SumTiming:
        """Return when such a sum takes its operands."""
        plan = _plan(terms, negatable, gated)
        stages = {operand: stage for stage, operations in enumerate(plan) for op in operations for operand in op}
        return SumTiming(len(plan), tuple(stages[term] for term in range(terms)))

    def build(self, platform: object) -> Module:
        """Build the planned tree."""
        m = Module()
        delay = Delays(m)
        sums: dict[str, tuple[int, Signal, _Operand]] = {}
        for stage, operations in enumerate(self._plan):
            for number, operation in enumerate(operations):
                operands = []
                for operand in operation:
                    if isinstance(operand, int):
                        sign = self.signs[operand] if self.negatable else None
                        gate = self.gates[operand] if self.gated else None
                        operands.append(_Operand(list(self.words[operand]), self.magnitude, sign=sign, gate=gate))
                    elif operand == ADDEND:
                        clear = self.clear if self.clearable else None
                        operands.append(_Operand(list(self.addend), 0, clear=clear))
                    else:
                        made, register, node = sums[operand]
                        age = stage - made - 1
                        plus_one = None if node.plus_one is None else delay(node.plus_one, age)
                        operands.append(dataclasses.replace(node, bits=list(delay(register, age)), plus_one=plus_one))
                name = f"s{stage}_{number}"
                if ADDEND in operation:
                    bits, _, _ = self._add(m, name, operands, self.total_width, offset=False)
                    with m.If(self.update):
                        m.d.sync += self.total.eq(Cat(*bits))
                else:
                    sums[name] = (stage, *self._node(m, name, operands, stage))
        return m

    def _node(self, m: Module, name: str, operands: list[_Operand], stage: int) -> tuple[Signal, _Operand]:
        """Add, and register the sum and the plus one that is left."""
        magnitude = sum(operand.magnitude for operand in operands)
        pair = stage == 0 and len(operands) == 2 and not self.gated
        width = len(operands[0].bits) if pair else sum_width(magnitude, self.negatable)
        bits, carry, plus_ones = self._add(m, name, operands, width, offset=pair)
        register = Signal(width + pair, name=f"{name}_sum", reset_less=True)
        m.d.sync += register.eq(Cat(*bits, carry) if pair else Cat(*bits))
        left = None
        if plus_ones:
            (plus_one,) = plus_ones
            left = Signal(name=f"{name}_plus_one")
            m.d.sync += left.eq(plus_one)
        return register, _Operand([], magnitude, inverted=pair, plus_one=left)

    def _add(
        self, m: Module, name: str, operands: list[_Operand], width: int, offset: bool
    ) -> tuple[list[Value], Value, list[Value]]:
        """Instantiate one addition; return its sum bits, its carry and the plus ones it had no input for."""
        operands = sorted(operands, key=lambda operand: operand.sign is not None)
        if operands[0].gate is not None:
            return self._add_gated(m, name, operands, width)
        signs = [operand.sign for operand in operands if operand.sign is not None]
        plus_ones = [*signs, *(operand.plus_one for operand in operands if operand.plus_one is not None)]
        select: list[Value] = []
        data: list[Value] = []
        three = len(operands) == 3
        majority: Value = plus_ones.pop(0) if three and plus_ones else Const(0, 1)
        carry_in: Value = plus_ones.pop(0) if plus_ones else Const(0, 1)
        if three and not isinstance(carry_in, Const):
            through, _ = xilinx.lut_pair(m, f"{name}_carry", [carry_in], lambda x, *_: x)
            select, data, carry_in = [through], [Const(0, 1)], Const(1, 1)
        skip = len(select)
        for index in range(width):
            bits, flips = zip(*(operand.column(index, offset) for operand in operands), strict=True)
            extra = [majority] if three else []
            functions = _three_operands(flips, bool(signs)) if three else _two_operands(flips, len(signs))
            inputs = [*bits, *signs, *extra]
            for place, operand in enumerate(operands):
                if operand.clear is not None:
                    functions = _cleared(functions, place, len(inputs))
                    inputs.append(operand.clear)
            propagate, other = xilinx.lut_pair(m, f"{name}_{index}", inputs, *functions)
            select.append(propagate)
            data.append(majority if three else other)
            majority = other
        sums, carry = xilinx.carry_chain(m, f"{name}_chain", self.target, select, data, carry_in)
        return list(sums)[skip:], carry, plus_ones

    def _add_gated(
        self, m: Module, name: str, operands: list[_Operand], width: int
    ) -> tuple[list[Value], Value, list[Value]]:
        """Instantiate the addition of one or two gated terms."""
        zero = _Operand([Const(0, 1)], 0, sign=Const(0, 1), gate=Const(0, 1))
        x, y = operands if len(operands) == 2 else (*operands, zero)
        assert x.sign is not None and x.gate is not None and y.sign is not None and y.gate is not None
        select: list[Value] = []
        data: list[Value] = []
        for index in range(width):
            inputs = [x.column(index, False)[0], x.sign, x.gate, y.column(index, False)[0], y.sign]
            propagate, first = xilinx.lut_choice(
                m,
                f"{name}_{index}",
                inputs,
                y.gate,
                lambda a, s, gate, *_: gate & (a ^ s),
                lambda a, s, gate, b, t: gate & (a ^ s) ^ b ^ t,
            )
            select.append(propagate)
            data.append(first)
        # A single term keeps its plus one: with it, its largest magnitude would need one more column.
        now, later = (x.sign, y.sign) if len(operands) == 2 else (Const(0, 1), x.sign)
        sums, carry = xilinx.carry_chain(m, f"{name}_chain", self.target, select, data, now)
        return list(sums), carry, [later]


def _two_operands(flips: tuple[int, ...], signs: int) -> tuple[Callable[..., int], Callable[..., int]]:
    """Return (propagate, DI) of a column over (x, y, signs of the last `signs` operands)."""
    constant = flips[0] ^ flips[1]

    def propagate(*i: int) -> int:
        return i[0] ^ i[1] ^ constant ^ (i[2] if signs else 0) ^ (i[3] if signs == 2 else 0)

    def first(*i: int) -> int:
        return i[0] ^ flips[0] ^ (i[2] if signs == 2 else 0)

    return propagate, first


def _three_operands(flips: tuple[int, ...], negatable: bool) -> tuple[Callable[..., int], Callable[..., int]]:
    """Return (propagate, majority) of a column over (x, y, z, the sign of z if any, the majority from below)."""

    def bits(*i: int) -> tuple[int, int, int]:
        return i[0] ^ flips[0], i[1] ^ flips[1], i[2] ^ flips[2] ^ (i[3] if negatable else 0)

    def propagate(*i: int) -> int:
        x, y, z = bits(*i)
        return x ^ y ^ z ^ i[4 if negatable else 3]

    def majority(*i: int) -> int:
        return int(sum(bits(*i)) >= 2)

    return propagate, majority


def _cleared(
    functions: tuple[Callable[..., int], Callable[..., int]], place: int, clear: int
) -> tuple[Callable[..., int], Callable[..., int]]:
    """Return functions for which input `place` is 0 where input `clear` is set."""
    propagate, other = functions

    def inputs(i: tuple[int, ...]) -> tuple[int, ...]:
        return (*i[:place], i[place] & 1 - i[clear], *i[place + 1 :])

    return lambda *i: propagate(*inputs(i)), lambda *i: other(*inputs(i))


def _plan(terms: int, negatable: bool, gated: bool = False) -> list[list[Operation]]:
    """Plan the additions, stage by stage."""
    if gated:
        pairs: list[Operation] = [tuple(range(first, min(first + 2, terms))) for first in range(0, terms, 2)]
        return _plan_triples([f"s0_{i}" for i in range(len(pairs))], [pairs])
    return _plan_pairs_and_terms(terms) if negatable else _plan_triples(list(range(terms)), [])


def _plan_pairs_and_terms(terms: int) -> list[list[Operation]]:
    """Plan a tree whose stage 0 adds pairs of terms and whose later additions each take one term more."""
    if terms == 1:
        return [[(ADDEND, 0)]]
    pairs = max(1, -(-terms // 3))
    plan: list[list[Operation]] = [[(2 * i, 2 * i + 1) for i in range(pairs)]]
    rest = list(range(2 * pairs, terms))
    nodes = [(2, f"s0_{i}") for i in range(pairs)]
    while len(nodes) > 1:
        # The smallest sums first: a wide operand makes a wide adder.
        nodes.sort()
        level = [nodes.pop()] if len(nodes) % 2 else []
        operations: list[Operation] = []
        for (x_terms, x), (y_terms, y) in zip(nodes[::2], nodes[1::2], strict=True):
            term = [rest.pop(0)] if rest else []
            level.append((x_terms + y_terms + len(term), f"s{len(plan)}_{len(operations)}"))
            operations.append((x, y, *term))
        plan.append(operations)
        nodes = level
    plan.append([(nodes[0][1], ADDEND, *rest)])
    return plan


def _plan_triples(nodes: Sequence[int | str], before: list[list[Operation]]) -> list[list[Operation]]:
    """Plan a tree of three-operand additions, after the stages `before`, of what is never negated."""
    plan = [*before]
    nodes = list(nodes)
    while len(nodes) > 2:
        level: list[int | str] = []
        operations: list[Operation] = []
        while len(nodes) > 1:
            operation, nodes = tuple(nodes[:3]), nodes[3:]
            level.append(f"s{len(plan)}_{len(operations)}")
            operations.append(operation)
        plan.append(operations)
        nodes = [*level, *nodes]
    plan.append([(*nodes, ADDEND)])
    return plan
