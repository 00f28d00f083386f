"""Components that are elaborated once: the modules they become, and the circuits that those are."""

import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, DomainRenamer, EnableInserter, Module, ResetInserter
from amaranth.lib.wiring import Component, In, Out

from nomul.export.rtlil import convert, to_verilog
from nomul.jobs.yosys_run import run_yosys
from nomul.shared_module import SharedModule, enabled, resettable
from tests.test_flow_rtlil import rtlil_modules

built = []


def assert_equivalent(gold, gate, top, reset="rst"):
    """Prove that two designs agree for seven cycles after a reset, for all inputs, whatever their wires are called."""
    sides = []
    for name, text in (("gold", gold), ("gate", gate)):
        read = "read_rtlil" if text.startswith("attribute") else "read_verilog"
        sides.append(
            f"{read} {name}.txt\nhierarchy -check -top {top}\nproc\nasync2sync\nflatten\nrename {top} {name}\n"
            f"design -stash {name}\n"
        )
    script = (
        "".join(sides) + "design -copy-from gold gold\ndesign -copy-from gate gate\n"
        "miter -equiv -flatten -make_assert gold gate miter\nhierarchy -top miter\n"
        f"sat -verify -prove-asserts -seq 8 -set-at 1 in_{reset} 1 -prove-skip 1 miter\nwrite_json done.json\n"
    )
    run_yosys(script, {"gold.txt": gold, "gate.txt": gate}, ["done.json"])


class Inner(SharedModule):
    def __init__(self, width):
        self.width = width
        super().__init__({"a": In(width), "y": Out(width)})

    def build(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.y + self.a)
        return m


class Row(SharedModule):
    """Has a register, an inner component, and an input that nothing uses."""

    def __init__(self, width, *, step=1):
        self.width, self.step = width, step
        super().__init__({"a": In(width), "idle": In(1), "keep": In(1, init=1), "y": Out(width)})

    def build(self, platform):
        built.append(self.step)
        m = Module()
        m.submodules.inner = inner = Inner(self.width)
        m.d.comb += inner.a.eq(self.a + self.step)
        with m.If(self.keep):
            m.d.sync += self.y.eq(inner.y ^ self.a)
        return m


class Rows(Component):
    """Rows, of which those of `held` keep their value now and then."""

    def __init__(self, steps, held=()):
        self.steps, self.held = steps, held
        super().__init__({"a": In(4), "y": Out(4).array(len(steps))})

    def elaborate(self, platform):
        m = Module()
        for index, step in enumerate(self.steps):
            m.submodules[f"row{index}"] = row = Row(4, step=step)
            m.d.comb += [row.a.eq(self.a << index), row.idle.eq(self.a[0]), self.y[index].eq(row.y)]
            if index in self.held:
                m.d.comb += row.keep.eq(self.a[index])
        return m


class Wrapped(Component):
    """Rows in a wrapper, and a register of its own."""

    def __init__(self, wrap, steps):
        self.wrap, self.steps = wrap, steps
        super().__init__({"a": In(4), "move": In(1), "y": Out(4).array(len(steps)), "last": Out(4)})

    def elaborate(self, platform):
        m = Module()
        rows = Rows(self.steps)
        m.submodules.rows = self.wrap(self.move, rows)
        m.d.comb += [rows.a.eq(self.a), *(mine.eq(theirs) for mine, theirs in zip(self.y, rows.y, strict=True))]
        m.d.sync += self.last.eq(self.a)
        return m


def test_equal_ones_are_built_once_and_are_the_same_circuit():
    built.clear()
    text = convert(Rows([1, 3, 1, 3, 1]), "rows")
    assert sorted(built) == [1, 3]
    assert sorted(rtlil_modules(text)) == ["rows", "rows__inner", "rows__row", "rows__row_1"]
    assert text.count("attribute \\top 1") == 1
    built.clear()
    raw = rtlil.convert(Rows([1, 3, 1, 3, 1]), name="rows")
    assert sorted(built) == [1, 1, 1, 3, 3], "Amaranth alone elaborates each"
    assert_equivalent(raw, text, "rows")
    assert_equivalent(raw, to_verilog(text), "rows")


def test_a_repeated_component_may_be_the_top():
    text = convert(Row(4), "row")
    assert sorted(rtlil_modules(text)) == ["row", "row__inner"]
    assert_equivalent(rtlil.convert(Row(4), name="row"), text, "row")


def test_what_has_no_register_has_no_clock():
    class Inverse(SharedModule):
        def __init__(self):
            super().__init__({"a": In(4), "y": Out(4)})

        def build(self, platform):
            m = Module()
            m.d.comb += self.y.eq(~self.a)
            return m

    class Inverses(Component):
        a: In(4)
        y: Out(4).array(2)

        def elaborate(self, platform):
            m = Module()
            for index in range(2):
                m.submodules[f"inverse{index}"] = inverse = Inverse()
                m.d.comb += [inverse.a.eq(self.a << index), self.y[index].eq(inverse.y)]
            return m

    assert not re.search("clk|rst", convert(Inverses(), "inverses"))


def test_another_circuit_is_noticed():
    with pytest.raises(Exception, match="proof did fail"):
        assert_equivalent(rtlil.convert(Rows([1, 3]), name="rows"), convert(Rows([1, 1]), "rows"), "rows")


def test_ports_that_do_nothing_go_and_common_constants_move_inside():
    text = convert(Rows([1, 1, 1]), "rows")
    row = re.search(r"^module \\rows__row\n(.*?)^end$", text, re.MULTILINE | re.DOTALL)[1]
    assert re.findall(r"input \d+ \\(\w+)", row) == ["clk", "rst", "a"]
    assert "connect \\keep 1'1" in row
    inner = re.search(r"^module \\rows__inner\n(.*?)^end$", text, re.MULTILINE | re.DOTALL)[1]
    assert re.findall(r"input \d+ \\(\w+)", inner) == ["clk", "rst", "a"]


def test_a_constant_of_some_stays_a_port():
    text = convert(Rows([1, 1, 1], held=(1,)), "rows")
    row = re.search(r"^module \\rows__row\n(.*?)^end$", text, re.MULTILINE | re.DOTALL)[1]
    assert re.findall(r"input \d+ \\(\w+)", row) == ["clk", "rst", "a", "keep"]
    assert_equivalent(rtlil.convert(Rows([1, 1, 1], held=(1,)), name="rows"), text, "rows")


class Twice(Component):
    """Rows in two wrappers, with a register in each."""

    def __init__(self, outer, inner):
        self.outer, self.inner = outer, inner
        super().__init__({"a": In(4), "move": In(1), "y": Out(4).array(2), "last": Out(4)})

    def elaborate(self, platform):
        m = Module()
        wrapped = Wrapped(lambda _, rows: self.inner(self.a[0], rows), [1, 1])
        m.submodules.wrapped = self.outer(self.move, wrapped)
        m.d.comb += [wrapped.a.eq(self.a), self.last.eq(wrapped.last)]
        m.d.comb += [mine.eq(theirs) for mine, theirs in zip(self.y, wrapped.y, strict=True)]
        return m


ENABLES = (lambda enable, part: EnableInserter(enable)(part), enabled)
RESETS = (lambda reset, part: ResetInserter(reset)(part), resettable)


@pytest.mark.parametrize("outer", [ENABLES, RESETS])
@pytest.mark.parametrize("inner", [ENABLES, RESETS])
def test_wrappers_within_wrappers(outer, inner):
    plain = rtlil.convert(Twice(outer[0], inner[0]), name="twice")
    assert_equivalent(plain, convert(Twice(outer[1], inner[1]), "twice"), "twice")
    assert_equivalent(plain, rtlil.convert(Twice(outer[1], inner[1]), name="twice"), "twice")


@pytest.mark.parametrize("wrapper", [ENABLES, RESETS])
def test_a_wrapper_reaches_the_registers_of_modules(wrapper):
    plain = rtlil.convert(Wrapped(wrapper[0], [1, 1, 3]), name="wrapped")
    built.clear()
    text = convert(Wrapped(wrapper[1], [1, 1, 3]), "wrapped")
    assert sorted(built) == [1, 3]
    assert_equivalent(plain, text, "wrapped")


@pytest.mark.parametrize("wrap", [ENABLES[0], RESETS[0]])
def test_a_wrapper_that_does_not_reach_modules_has_none_to_reach(wrap):
    plain = rtlil.convert(Wrapped(wrap, [1, 1, 3]), name="wrapped")
    assert_equivalent(plain, convert(Wrapped(wrap, [1, 1, 3]), "wrapped"), "wrapped")


class Renamed(Component):
    """Rows in a domain of another name, of which `domain` is made."""

    def __init__(self, **domain):
        self.domain = domain
        super().__init__({"a": In(4), "other_clk": In(1), "other_rst": In(1), "y": Out(4).array(3)})

    def elaborate(self, platform):
        m = Module()
        m.domains.other = other = ClockDomain(**self.domain)
        rows = Rows([1, 1, 3])
        m.submodules.rows = DomainRenamer("other")(rows)
        m.d.comb += [other.clk.eq(self.other_clk), other.rst.eq(self.other_rst), rows.a.eq(self.a)]
        m.d.comb += [mine.eq(theirs) for mine, theirs in zip(self.y, rows.y, strict=True)]
        return m


def test_modules_in_a_renamed_domain_have_its_clock():
    built.clear()
    text = convert(Renamed(), "renamed")
    assert sorted(built) == [1, 3]
    plain = rtlil.convert(Renamed(), name="renamed")
    assert_equivalent(plain, text, "renamed", reset="other_rst")
    assert_equivalent(plain, to_verilog(text), "renamed", reset="other_rst")


@pytest.mark.parametrize("domain", [{"async_reset": True}, {"clk_edge": "neg"}])
def test_a_domain_that_modules_do_not_know_has_none(domain):
    kinds = {"async_reset": r"cell \$adff", "clk_edge": r"CLK_POLARITY 0"}
    text = convert(Renamed(**domain), "renamed")
    assert re.search(kinds[next(iter(domain))], text)
    assert_equivalent(rtlil.convert(Renamed(**domain), name="renamed"), text, "renamed", reset="other_rst")


def test_arguments_that_cannot_be_hashed_are_refused():
    class Listed(SharedModule):
        def __init__(self, numbers):
            super().__init__({"y": Out(4)})

    class Holder(Component):
        y: Out(4)

        def elaborate(self, platform):
            m = Module()
            m.submodules.listed = listed = Listed([1, 2])
            m.d.comb += self.y.eq(listed.y)
            return m

    with pytest.raises(TypeError, match="unhashable"):
        convert(Holder(), "holder")
