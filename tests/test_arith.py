# amaranth: UnusedElaboratable=no
"""Every target's form of the arithmetic equals the portable one, proven by SAT with Yosys' models of the primitives.

The signed sums are pipelines without feedback, so with their registers replaced by wires they are the functions that
they compute; the solver compares the two forms' totals over all inputs.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.digit_sum import add_digits, scaled_sum
from nomul.arith.digits import digit_chain, digit_term
from nomul.arith.gated_sum import gated_sum
from nomul.arith.nibble_product import NibbleProduct
from nomul.arith.pair_sum import PairSum
from nomul.arith.pipeline import Delays
from nomul.arith.plane_sum import PlaneSum
from nomul.arith.recoding import RECODINGS, recoding
from nomul.arith.signed_sum import signed_sum, sum_timing
from nomul.arith.sum_terms import sum_members
from nomul.arith.target import AMD, Target
from nomul.arith.thermometer import decoded_halves, thermometer
from nomul.engines.group_scale_stages import staged_product
from nomul.export.rtlil import convert
from nomul.jobs.yosys_run import run_yosys

MODELS = {Target.XCUP: "+/xilinx/cells_sim.v", Target.XC7: "+/xilinx/cells_sim.v", Target.ECP5: "+/ecp5/cells_sim.v"}


WIRES = r"""
module \$dff (CLK, D, Q);
    parameter WIDTH = 1;
    parameter CLK_POLARITY = 1;
    input CLK;
    input [WIDTH-1:0] D;
    output [WIDTH-1:0] Q;
    assign Q = D;
endmodule
"""
"""A register as a wire."""


class Both(Component):
    """The portable form and a target's, on the same inputs; `differ` compares their totals if the words are legal."""

    def __init__(
        self,
        terms: int,
        magnitude: int,
        width: int,
        target: Target,
        negatable: bool,
        gated: bool = False,
        clearable: bool = False,
    ) -> None:
        self.magnitude, self.negatable, self.gated, self.clearable = magnitude, negatable, gated, clearable
        self.forms = [
            gated_sum(terms, magnitude, width, form)
            if gated
            else signed_sum(terms, magnitude, width, form, negatable, clearable)
            for form in (Target.PORTABLE, target)
        ]
        members = sum_members(terms, magnitude, width, negatable, gated, clearable)
        members["differ"] = Out(1)
        del members["total"]
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, form in zip(("portable", "native"), self.forms, strict=True):
            m.submodules[name] = form
            m.d.comb += form.addend.eq(self.addend)
            if self.clearable:
                m.d.comb += form.clear.eq(self.clear)
            for mine, its in zip([*self.words, *self.signs], [*form.words, *form.signs], strict=True):
                m.d.comb += its.eq(mine)
            if self.gated:
                for mine, its in zip(self.gates, form.gates, strict=True):
                    m.d.comb += its.eq(mine)
        legal = Const(1, 1)
        if self.gated:
            for gate, sign in zip(self.gates, self.signs, strict=True):
                legal &= gate | ~sign
        for word in self.words:
            legal &= (word >= -self.magnitude) & (word <= self.magnitude - self.negatable)
        m.d.comb += self.differ.eq(legal & (self.forms[0].total != self.forms[1].total))
        return m


@pytest.mark.synth
@pytest.mark.parametrize("target", MODELS)
@pytest.mark.parametrize(
    ("terms", "magnitude", "negatable"),
    [(1, 4, True), (2, 4, True), (3, 4, True), (4, 2, True), (5, 2, True), (3, 6, True), (4, 3, False), (5, 2, False)],
)
def test_a_form_equals_the_portable_one(target: Target, terms: int, magnitude: int, negatable: bool) -> None:
    prove(Both(terms, magnitude, 6, target, negatable), target)


@pytest.mark.synth
@pytest.mark.parametrize("target", MODELS)
@pytest.mark.parametrize(("terms", "magnitude"), [(1, 4), (2, 4), (3, 4), (5, 2), (7, 2)])
def test_a_gated_form_equals_the_portable_one(target: Target, terms: int, magnitude: int) -> None:
    prove(Both(terms, magnitude, 6, target, True, gated=True), target)


@pytest.mark.synth
@pytest.mark.parametrize("target", MODELS)
@pytest.mark.parametrize("terms", [2, 3, 5])
def test_a_form_that_clears_its_addend_equals_the_portable_one(target: Target, terms: int) -> None:
    prove(Both(terms, 2, 6, target, False, clearable=True), target)


class Arithmetic(Component):
    """A form on inputs of some widths, the first of them signed; `differ` compares it with plain operators."""

    def __init__(self, widths: Sequence[int], differ: Callable[[Module, list[Any]], Value]) -> None:
        self.compare = differ
        shapes = [signed(widths[0]), *widths[1:]]
        super().__init__({f"i{number}": In(shape) for number, shape in enumerate(shapes)} | {"differ": Out(1)})
        self.inputs = [getattr(self, f"i{number}") for number in range(len(widths))]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.differ.eq(self.compare(m, self.inputs))
        return m


@pytest.mark.synth
@pytest.mark.parametrize("target", AMD)
@pytest.mark.parametrize("width", [2, 4])
def test_products_of_nibbles(target: Target, width: int) -> None:
    def differ(m: Module, inputs: list[Any]) -> Value:
        word, code = inputs
        m.submodules.product = nibble = NibbleProduct(width, target)
        m.d.comb += [nibble.word.eq(word), nibble.later.eq(word), nibble.code.eq(code)]
        return nibble.product != word * (code.as_unsigned() - 8)

    prove(Arithmetic([width, 4], differ), target)


@pytest.mark.synth
@pytest.mark.parametrize("target", AMD)
@pytest.mark.parametrize("name", RECODINGS)
def test_sums_with_digits(target: Target, name: str) -> None:
    def differ(m: Module, inputs: list[Any]) -> Value:
        word, code, addend = inputs
        recoded = recoding(name, 4)
        total = add_digits(m, "sum", target, addend, recoded.digits, code, word)
        return total != (addend + word * (code - recoded.offset))[:8]

    prove(Arithmetic([4, 4, 8], differ), target)


@pytest.mark.synth
@pytest.mark.parametrize("target", AMD)
@pytest.mark.parametrize(("bits", "offset"), [(3, 2), (5, 10), (7, 42)])
def test_scaled_sums(target: Target, bits: int, offset: int) -> None:
    def differ(m: Module, inputs: list[Any]) -> Value:
        word, code, addend, clear = inputs
        total = scaled_sum(m, "sum", target, addend, clear, code, word)
        return total != (Mux(clear, 0, addend) + word * (code - offset))[:11]

    prove(Arithmetic([3, bits, 11, 1], differ), target)


@pytest.mark.synth
@pytest.mark.parametrize("negative", [False, True])
def test_digits_inside_carry_cells(negative: bool) -> None:
    def differ(m: Module, inputs: list[Any]) -> Value:
        code, number = inputs[0], inputs[1].as_signed()
        chain = digit_chain(m, "chain", code, number, negative=negative)
        term = digit_term(code, number, Const(int(negative), 1))
        return chain != (~term if negative else term)

    prove(Arithmetic([2, 8], differ), Target.ECP5)


@pytest.mark.synth
@pytest.mark.parametrize("accumulates", [True, False])
@pytest.mark.parametrize("terms", [1, 2, 3, 4, 5])
def test_sums_of_complements(terms: int, accumulates: bool) -> None:
    most, width = 7, 7

    def differ(m: Module, inputs: list[Any]) -> Value:
        words, addend = [word.as_signed() for word in inputs[:-1]], inputs[-1].as_signed()
        m.submodules.sum = made = PairSum(
            terms, most, width, negatable=False, complemented=True, accumulates=accumulates
        )
        m.d.comb += [made.addend.eq(addend), *(port.eq(~word) for port, word in zip(made.words, words, strict=True))]
        legal = Cat(*(word >= -most for word in words)).all()
        return legal & (made.total != sum(words, addend if accumulates else Const(0, 1))[:width].as_signed())

    prove(Arithmetic([4] * terms + [width], differ), Target.ECP5)


@pytest.mark.synth
@pytest.mark.parametrize(("terms", "code_bits"), [(1, 4), (2, 3), (3, 2)])
def test_sums_of_planes(terms: int, code_bits: int) -> None:
    width = 8

    def differ(m: Module, inputs: list[Any]) -> Value:
        addend, clear, words, codes = inputs[0], inputs[1], inputs[2 : 2 + terms], inputs[2 + terms :]
        m.submodules.sum = made = PlaneSum(terms, 2, code_bits, width)
        products = [word.as_signed() * code for word, code in zip(words, codes, strict=True)]
        m.d.comb += [made.addend.eq(addend), made.clear.eq(clear)]
        m.d.comb += [port.eq(word) for port, word in zip(made.words, words, strict=True)]
        m.d.comb += [port.eq(code) for port, code in zip(made.codes, codes, strict=True)]
        return made.total != sum(products, Mux(clear, 0, addend))[:width].as_signed()

    prove(Arithmetic([width, 1, *[2] * terms, *[code_bits] * terms], differ), Target.ECP5)


@pytest.mark.synth
@pytest.mark.parametrize(("bits", "offset"), [(3, 2), (5, 10)])
def test_staged_products_with_scales(bits: int, offset: int) -> None:
    def differ(m: Module, inputs: list[Any]) -> Value:
        group, scale = inputs
        # Not every width is the product's own: what is above it is the sign, or left out.
        return staged_product(m, group, scale, 9).as_signed() != (group * (scale - offset))[:9].as_signed()

    prove(Arithmetic([3, bits], differ), Target.ECP5)


@pytest.mark.synth
@pytest.mark.parametrize("bits", range(6))
def test_thermometers_are_comparisons(bits: int) -> None:
    lanes = 40

    def differ(m: Module, inputs: list[Any]) -> Value:
        number = inputs[0]
        reached = Cat(*thermometer(decoded_halves(m, "code", number[:bits]), bits, lanes))
        return reached != Cat(*(number[:bits] >= lane for lane in range(lanes)))

    prove(Arithmetic([6], differ), Target.ECP5)


def prove(both: Component, target: Target) -> None:
    """Fail unless `differ` of a component is 0 for all inputs."""
    design = convert(both, "both")
    reset = "-set rst 0" if "\\rst\n" in design else ""
    script = f"""
        read_rtlil design.il
        read_verilog -overwrite {MODELS[target]}
        hierarchy -top both
        proc
        flatten
        opt_clean
        techmap -map wires.v
        opt
        select -assert-none t:$*dff*
        sat {reset} -prove differ 0 -verify
        write_json done.json
    """
    run_yosys(script, {"design.il": design, "wires.v": WIRES}, ["done.json"])


def test_timings_cover_every_term() -> None:
    for target, terms, negatable in itertools.product(Target, range(1, 40), (True, False)):
        timing = sum_timing(terms, target, negatable)
        assert len(timing.delays) == terms
        assert max(timing.delays) < timing.latency


def test_models_exist() -> None:
    import pyosys

    for model in MODELS.values():
        assert (Path(pyosys.__file__).parent / "share" / model.removeprefix("+/")).exists()


def test_nothing_is_known_before_it_is_made():
    delay, value = Delays(Module()), Signal(4)
    assert delay(value, 0) is value and delay(value, 2) is not delay(value, 1)
    with pytest.raises(ValueError, match="a delay is -1 cycles; allowed: 0 or more"):
        delay(value, -1)
    with pytest.raises(ValueError, match="is 0 cycles; allowed: 1 or more"):
        delay.spread(Signal(), 0, 3)
