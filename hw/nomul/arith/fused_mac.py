"""An element that multiplies two FP16 numbers and adds the product to an FP32 accumulator, with one rounding.

    total = round_half_even(total + a * w)        a, w: IEEE 754 binary16; total: binary32, from +0

This is the multiply-add of the matrix units that take FP16: the product of two 11-bit significands has 22 bits and
exponents from -48 to 31, so binary32 holds it exactly, and the rounded sum is the fused result. Sums are multiples of
2^-48 and, for up to 2^20 products, below 2^52: the accumulator meets neither subnormal numbers nor overflow.
Subnormal operands count in full. An infinity stays until one of the other sign, zero times infinity, or NaN comes;
NaN stays until the next clear. Sums that cancel are +0.

Cycle schedule: the weight is registered at the end of the cycle in which `take` is high (t); its product, normalised,
at the end of t + 1; `total` is rounded and registered at the end of t + 2. The sum is one cycle, so that an element
takes a product in every one.

The activation's side (`Multiplicand`, radix-4 Booth digits of its significand) depends on the activation alone and is
made once for all elements that share it.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from nomul.arith.carry_save import compress
from nomul.arith.cells import and_or_invert22
from nomul.arith.shift import shift_right
from nomul.shared_module import SharedModule

__all__ = ["MULTIPLICAND", "FusedMac", "multiplicand"]

BITS = 11
"""Significand of binary16, with its hidden bit."""

PRODUCT = 2 * BITS
TOTAL = 24
"""Significand of binary32, with its hidden bit."""

GUARD = 3
DIGITS = 6
"""Radix-4 Booth digits of an unsigned number of 11 bits; the highest is never negative."""

MULTIPLICAND = data.StructLayout(
    {"one": DIGITS, "two": DIGITS, "negative": DIGITS - 1, "exponent": 7}
    | dict.fromkeys(("sign", "infinite", "nan", "zero", "first"), 1)
)
"""An activation: the lines of its digits, its exponent with the bias of products, what is special, and whether its
products are the first of a sum."""


class _Operand:
    """A binary16 word taken apart, its significand normalised: leading bit first, or zero.

    `exponent` is that of the word and 10 more, so that it is positive for the smallest subnormal number too.
    """

    def __init__(self, m: Module, name: str, word: Value) -> None:
        fraction, field = word[:10], word[10:15]
        normal = field.any()
        self.sign = word[15]
        self.infinite = field.all() & ~fraction.any()
        self.nan = field.all() & fraction.any()
        significand: Value = Cat(fraction, normal)
        places: list[Value] = []
        for step in (8, 4, 2, 1):
            empty = Signal(name=f"{name}_empty{step}")
            shifted = Signal(BITS, name=f"{name}_shifted{step}")
            m.d.comb += [
                empty.eq(~significand[BITS - step :].any()),
                shifted.eq(Mux(empty, significand << step, significand)),
            ]
            significand, places = shifted, [empty, *places]
        self.significand = significand
        self.zero = ~significand[-1]
        self.exponent = Signal(6, name=f"{name}_exponent")
        m.d.comb += self.exponent.eq(Mux(normal, field, 1) + BITS - 1 - Cat(*places))


def multiplicand(m: Module, word: Value, first: Value) -> data.View:
    """Return an activation as the elements take it; with `first` its products start sums."""
    operand = _Operand(m, "activation", word)
    bits = [Const(0, 1), *operand.significand, Const(0, 1)]
    made = Signal(MULTIPLICAND, name="multiplicand")
    for digit in range(DIGITS):
        below, low, high = bits[2 * digit : 2 * digit + 3]
        m.d.comb += [made.one[digit].eq(below ^ low), made.two[digit].eq(Mux(high, ~(low | below), low & below))]
        if digit < DIGITS - 1:
            m.d.comb += made.negative[digit].eq(high)
    # A product P of exponents x and y, 10 too high each, is P * 2^(x + y - 70); its leading bit is 20 or 21.
    m.d.comb += [
        made.exponent.eq(operand.exponent + 127 - 70 + 20),
        made.sign.eq(operand.sign),
        made.infinite.eq(operand.infinite),
        made.nan.eq(operand.nan),
        made.zero.eq(operand.zero),
        made.first.eq(first),
    ]
    return made


class FusedMac(SharedModule):
    """The element.

    Parameters
    ----------
    cells : bool
        Whether the multiplier is made of explicit full adders, for standard cells, or is the synthesiser's.

    Members
    -------
    take : In(1)
        `weight` is taken in this cycle.
    weight : In(16)
        binary16.
    multiplicand : In(MULTIPLICAND)
        The activation that goes with the weight taken in the cycle before, from registers.
    enter : In(1)
        It is there.
    add : In(1)
        The product made in the cycle before is added.
    total : Out(32)
        binary32; NaN is 0x7FC00000.
    """

    def __init__(self, cells: bool) -> None:
        self.cells = cells
        super().__init__(
            {
                "take": In(1),
                "weight": In(16),
                "multiplicand": In(MULTIPLICAND),
                **{name: In(1) for name in ("enter", "add")},
                "total": Out(32),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the product, its registers and the sum."""
        m = Module()
        word = Signal(16, reset_less=True)
        with m.If(self.take):
            m.d.sync += word.eq(self.weight)
        weight, activation = _Operand(m, "weight", word), self.multiplicand
        whole = self._multiply(m, weight.significand)

        product = Signal(TOTAL, reset_less=True)
        exponent = Signal(8, reset_less=True)
        sign, infinite, nan = (Signal(name=f"product_{name}", reset_less=True) for name in ("sign", "infinite", "nan"))
        carried = Signal(reset_less=True)  # whether the sum so far counts
        zero, high = weight.zero | activation.zero, whole[-1]
        added = Signal(8)
        m.d.comb += added.eq(_add(weight.exponent, activation.exponent, high))
        with m.If(self.enter):
            m.d.sync += [
                product[TOTAL - PRODUCT :].eq(Mux(high, whole, whole << 1)),
                exponent.eq(Mux(zero, 0, added)),
                sign.eq(weight.sign ^ activation.sign),
                carried.eq(~activation.first),
                infinite.eq(weight.infinite | activation.infinite),
                nan.eq(
                    weight.nan | activation.nan | (weight.infinite & activation.zero)
                    | (activation.infinite & weight.zero)
                ),
            ]  # fmt: skip
        self._accumulate(m, product, exponent, sign, infinite, nan, carried)
        return m

    def _multiply(self, m: Module, weight: Value) -> Value:
        """Return the product of the significands, 22 bits."""
        columns: list[list[Value]] = [[] for _ in range(PRODUCT)]
        constant = 0
        places = [Const(0, 1), *weight, Const(0, 1)]
        for digit in range(DIGITS):
            one, two = self.multiplicand.one[digit], self.multiplicand.two[digit]
            negative = self.multiplicand.negative[digit] if digit < DIGITS - 1 else None
            for index in range(BITS + 1):
                inverted = and_or_invert22(m, f"part{digit}_{index}", one, places[index + 1], two, places[index])
                if 2 * digit + index < PRODUCT:
                    columns[2 * digit + index].append(~inverted if negative is None else inverted ^ ~negative)
            if negative is not None:
                columns[2 * digit].append(negative)
                columns[2 * digit + BITS + 1].append(~negative)
                constant -= 1 << (2 * digit + BITS + 1)
        for index in range(PRODUCT):
            if constant >> index & 1:
                columns[index].append(Const(1, 1))
        product = Signal(PRODUCT)
        if self.cells:
            pairs = compress(m, "tree", columns)[:PRODUCT]
            first = Cat(*(pair[0] if pair else Const(0, 1) for pair in pairs))
            second = Cat(*(pair[1] if len(pair) > 1 else Const(0, 1) for pair in pairs))
            m.d.comb += product.eq(first + second)
        else:
            rows = [Cat(*(column[level] if level < len(column) else Const(0, 1) for column in columns))
                    for level in range(max(map(len, columns)))]  # fmt: skip
            m.d.comb += product.eq(sum(rows[1:], rows[0]))
        return product

    def _accumulate(
        self, m: Module, product: Value, product_exponent: Value, sign: Value, infinite: Value, nan: Value, gate: Value
    ) -> None:
        """Build the accumulator: compare, align, add, normalise, round."""
        kept = Signal(TOTAL, reset_less=True)
        kept_exponent = Signal(8, reset_less=True)
        kept_sign, kept_infinite, kept_nan = (
            Signal(name=f"kept_{name}", reset_less=True) for name in ("sign", "infinite", "nan")
        )
        swap, farther = Signal(), Signal()  # the product is larger, or has the larger exponent
        up, down, distance = Signal(9), Signal(8), Signal(8)
        m.d.comb += [
            up.eq(product_exponent - kept_exponent),
            down.eq(kept_exponent - product_exponent),
            farther.eq(~up[-1]),
            distance.eq(Mux(farther, up[:8], down)),
            swap.eq((farther & (up.any() | (product > kept))) | ~gate),
        ]
        large, small, exponent = Signal(TOTAL), Signal(TOTAL), Signal(8)
        m.d.comb += [
            large.eq(Mux(swap, product, kept)),
            small.eq(Mux(swap, kept, product)),
            exponent.eq(Mux(swap, product_exponent, kept_exponent)),
        ]
        aligned = shift_right(m, "aligned", Cat(Const(0, GUARD), small), distance) & gate.replicate(TOTAL + GUARD)
        subtract = Signal()
        total = Signal(TOTAL + GUARD + 1)
        m.d.comb += [
            subtract.eq(sign ^ kept_sign),
            total.eq(
                _add(
                    Cat(Const(0, GUARD), large, Const(0, 1)),
                    Cat(aligned ^ subtract.replicate(len(aligned)), subtract),
                    subtract,
                )
            ),
        ]
        whole, zeros = _normalise(m, total)
        mantissa, nonzero = whole[GUARD + 1 :], whole[-1]
        even = whole[GUARD] & (whole[:GUARD].any() | mantissa[0])
        rounded = Signal(TOTAL + 1)
        m.d.comb += rounded.eq(mantissa + even)
        lifted = Signal(8)
        m.d.comb += lifted.eq(exponent - zeros)
        clash = kept_infinite & gate & infinite & (sign ^ kept_sign)
        with m.If(self.add):
            m.d.sync += [
                kept.eq(Cat(rounded[: TOTAL - 1], nonzero)),
                kept_exponent.eq(Mux(nonzero, Mux(rounded[-1], lifted + 2, lifted + 1), 0)),
                kept_nan.eq(nan | (kept_nan & gate) | clash),
                kept_infinite.eq(infinite | (kept_infinite & gate)),
                kept_sign.eq(
                    Mux(infinite, sign, Mux(kept_infinite & gate, kept_sign, Mux(swap, sign, kept_sign) & nonzero))
                ),
            ]
        special = kept_infinite | kept_nan
        m.d.comb += self.total.eq(
            Cat(
                kept[: TOTAL - 2] & (~special).replicate(TOTAL - 2),
                (kept[TOTAL - 2] & ~special) | kept_nan,
                kept_exponent | special.replicate(8),
                kept_sign & ~kept_nan,
            )
        )


def _add(a: Value, b: Value, carry: Value) -> Value:
    """Return a + b + carry as one adder."""
    return (Cat(Const(1, 1), a) + Cat(carry, b))[1:]


def _normalise(m: Module, value: Value) -> tuple[Value, Value]:
    """Return `value` shifted until its highest bit is set, and the places that it moved.

    The places are found for every position of a power of two at once, so that a step of the shift waits for a
    multiplexer and not for another look at all bits.
    """
    width, steps = len(value), (16, 8, 4, 2, 1)
    padded = Cat(Const(0, 2 * steps[0] - width), value)
    # blank[i]: the block of `step` bits at place i, from the highest bit down, is zero.
    blanks: list[list[Value]] = [[~bit for bit in reversed(list(padded))]]
    for _ in steps[1:]:
        blanks.insert(0, [a & b for a, b in zip(blanks[0][::2], blanks[0][1::2], strict=True)])
    places: list[Value] = []
    for depth, step in enumerate(steps):
        # Of the blocks of this size, the even ones in each run; the places found so far say which run.
        choices = blanks[depth][::2]
        for place in places:
            half = len(choices) // 2
            choices = [Mux(place, b, a) for a, b in zip(choices[:half], choices[half:], strict=True)]
        empty, shifted = Signal(name=f"empty{step}"), Signal(width, name=f"normal{step}")
        m.d.comb += [empty.eq(choices[0]), shifted.eq(Mux(empty, value << step, value))]
        value, places = shifted, [*places, empty]
    return value, Cat(*reversed(places))
