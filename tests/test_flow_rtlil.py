"""RTLIL with identical modules merged, and the Verilog made of it."""

import re
import shutil
import subprocess

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Const, Instance, Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from nomul.errors import ToolError
from nomul.export.deduplicate import merge
from nomul.export.rtlil import convert, to_verilog, verilog
from nomul.export.widths import make_explicit
from nomul.jobs.yosys_run import run_yosys
from tests.lint import warnings


class Row(wiring.Component):
    """Adds; `offset` makes one row differ from another in a constant alone."""

    def __init__(self, offset=0):
        self.offset = offset
        super().__init__({"a": In(4), "b": In(4), "y": Out(6)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.a + self.b + Const(self.offset, 4))
        return m


class Table(wiring.Component):
    def __init__(self, rows, offset=0):
        self.rows, self.offset = rows, offset
        super().__init__({"load": In(stream.Signature(8)), "index": In(4), "y": Out(6).array(rows)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=4, depth=16, init=[])
        write = store.write_port()
        m.d.comb += [
            self.load.ready.eq(1),
            write.addr.eq(self.load.payload[:4]),
            write.data.eq(self.load.payload[4:]),
            write.en.eq(self.load.valid),
        ]
        for index in range(self.rows):
            m.submodules[f"row_{index}"] = row = Row(self.offset)
            read = store.read_port(domain="comb")
            m.d.comb += [
                read.addr.eq(self.index),
                row.a.eq(read.data),
                row.b.eq(self.load.payload),
                self.y[index].eq(row.y),
            ]
        return m


class Array(wiring.Component):
    def __init__(self, tables, rows, offsets=None):
        self.rows, self.offsets = rows, offsets or [0] * tables
        super().__init__(
            {
                "load": In(stream.Signature(8)).array(tables),
                "index": In(4),
                "y": Out(6).array(tables, rows),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for number, offset in enumerate(self.offsets):
            m.submodules[f"table_{number}"] = table = Table(self.rows, offset)
            wiring.connect(m, wiring.flipped(self.load[number]), table.load)
            m.d.comb += table.index.eq(self.index)
            m.d.comb += [self.y[number][row].eq(table.y[row]) for row in range(self.rows)]
        return m


def modules(text):
    return re.findall(r"^module (\S+?)[( ;]*(?:\(|$)", text, re.MULTILINE)


def rtlil_modules(text):
    return re.findall(r"^module \\(\S+)$", text, re.MULTILINE)


def assert_equivalent(gold, gate, top):
    """Prove by induction that RTLIL `gold` and RTLIL or Verilog `gate` are the same circuit."""
    read = "read_rtlil" if gate.startswith("attribute") else "read_verilog"
    script = (
        f"read_rtlil gold.il\nhierarchy -check -top {top}\nproc\nmemory\nflatten\nrename {top} gold\n"
        "design -stash gold\n"
        f"{read} gate.il\nhierarchy -check -top {top}\nproc\nmemory\nflatten\nrename {top} gate\n"
        "design -stash gate\n"
        "design -copy-from gold gold\ndesign -copy-from gate gate\n"
        "equiv_make gold gate equiv\nhierarchy -top equiv\nequiv_simple -undef\nequiv_induct -undef\n"
        "tee -o status.txt equiv_status -assert\n"
    )
    status = run_yosys(script, {"gold.il": gold, "gate.il": gate}, ["status.txt"]).files["status.txt"]
    assert re.search(r"Found [1-9]\d* \$equiv cells", status), status
    assert "Equivalence successfully proven" in status


def test_one_module_for_each_kind():
    text = convert(Array(3, 4), "array")
    assert rtlil_modules(text) == ["array", "array__table", "array__row"]
    assert len(re.findall(r"cell \\array__table ", text)) == 3
    assert len(re.findall(r"cell \\array__row ", text)) == 4


def test_modules_that_differ_stay_apart():
    text = convert(Array(3, 2, offsets=[1, 2, 1]), "array")
    assert sorted(rtlil_modules(text)) == ["array", "array__row", "array__row_1", "array__table", "array__table_1"]
    table = dict(re.findall(r"cell \\(array__table\S*) \\(table_\d)", text))
    assert re.findall(r"cell \\(array__table\S*) ", text) == ["array__table", "array__table_1", "array__table"], table


@pytest.mark.parametrize("offsets", [[0, 0, 0], [3, 5, 3]])
def test_merging_changes_no_function(offsets):
    raw = rtlil.convert(Array(3, 2, offsets), name="array")
    merged = convert(Array(3, 2, offsets), "array")
    assert_equivalent(raw, merged, "array")
    assert_equivalent(raw, to_verilog(merged), "array")


def test_the_proof_above_can_fail():
    with pytest.raises(ToolError, match="unproven"):
        assert_equivalent(convert(Array(2, 2, [3, 5]), "array"), convert(Array(2, 2, [3, 3]), "array"), "array")


def test_names_of_modules():
    class Several(wiring.Component):
        a: In(4)
        y: Out(6).array(5)

        def elaborate(self, platform):
            m = Module()
            for index, name in enumerate(("row0", "row12", "int8", "sum_3", None)):
                row = Row(index if index > 1 else 0)
                if name:
                    m.submodules[name] = row
                else:
                    m.submodules += row
                m.d.comb += [row.a.eq(self.a), self.y[index].eq(row.y)]
            return m

    assert sorted(rtlil_modules(convert(Several(), "t"))) == ["t", "t__U", "t__int8", "t__row", "t__sum"]


def test_names_of_wires_do_not_keep_modules_apart():
    first, second = (
        f"module \\t.{name}\n  wire width 1 input 0 \\{port}\n  wire width 1 output 1 \\y\n"
        f"  cell $not $1\n    parameter \\A_WIDTH 1\n    connect \\A \\{port} [0]\n    connect \\Y \\y\n  end\nend\n"
        for name, port in (("left", "a"), ("right", "b"))
    )
    top = (
        "module \\t\n  wire width 1 input 0 \\b\n  wire width 2 output 1 \\a\n"
        "  cell \\t.left \\left\n    connect \\a \\b [0]\n    connect \\y \\a [0]\n  end\n"
        "  cell \\t.right \\right\n    connect \\b \\b [0]\n    connect \\y \\a [1]\n  end\nend\n"
    )
    merged = merge(top + first + second)
    assert rtlil_modules(merged) == ["t", "t__left"]
    assert merged.count("connect \\a \\b [0]") == 2  # the ports of both instances are called what the survivor's are


def test_text_says_nothing_about_the_machine_and_is_the_same_twice():
    first = verilog(Array(2, 3), "array")
    assert first == verilog(Array(2, 3), "array")
    assert not re.search(r"src|\.py|Yosys|generator|verilog_backend|/", first)
    assert not re.search(r"^(?:module|  \w+ ) ?\\", first, re.MULTILINE), "an escaped name"
    assert first.startswith("module array(clk, rst, load__0__payload, load__0__valid, load__0__ready,")


def test_aliases_go_and_kept_wires_stay():
    class Aliased(wiring.Component):
        a: In(4)
        y: Out(4)

        def elaborate(self, platform):
            m = Module()
            seen = Signal(4, attrs={"keep": 1})
            alias = Signal(4)
            second = Signal(4)
            m.d.comb += [seen.eq(self.a ^ 1), alias.eq(self.a), second.eq(alias), self.y.eq(self.a + 1)]
            return m

    text = convert(Aliased())
    assert "\\seen" in text
    assert "alias" not in text and "second" not in text


def test_signed_operands_stay_signed():
    class Signed(wiring.Component):
        a: In(signed(4))
        b: In(signed(8))
        y: Out(signed(9))

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.y.eq(self.a * self.b + self.a)
            return m

    raw = rtlil.convert(Signed(), name="signed_top")
    text = convert(Signed(), "signed_top")
    assert rtlil_modules(text) == ["signed_top"]
    assert re.search(r"wire width 4 input 1 \\a$", text, re.MULTILINE)
    assert_equivalent(raw, text, "signed_top")
    assert_equivalent(raw, to_verilog(text), "signed_top")
    assert "$signed(a) * $signed(b)" in to_verilog(text)


def test_memories_instances_and_attributes_survive():
    class Mixed(wiring.Component):
        a: In(2)
        y: Out(3)

        def elaborate(self, platform):
            m = Module()
            m.submodules.store = store = memory.Memory(
                shape=2, depth=4, init=[1, 2, 3], attrs={"ram_style": "distributed"}
            )
            read = store.read_port(domain="comb")
            m.d.comb += [read.addr.eq(self.a), self.y[:2].eq(read.data)]
            m.submodules.lut = Instance("LUT2", p_INIT=Const(8, 4), i_I0=self.a[0], i_I1=self.a[1], o_O=self.y[2])
            return m

    text = verilog(Mixed(), "mixed")
    assert "LUT2 #(\n    .INIT(4'h8)\n  ) lut (" in text
    assert '(* ram_style = "distributed" *)\n  reg [1:0] store [3:0];' in text
    assert "store[1] = 2'h2;" in text


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")
def test_verilog_is_verilog_2001(tmp_path):
    (tmp_path / "array.v").write_text(verilog(Array(2, 2), "array"))
    done = subprocess.run(
        ["iverilog", "-g2001", "-Wall", "-Wno-timescale", "-o", "array.vvp", "array.v"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_large_array_is_quick(benchmark_seconds=20):
    import time

    start = time.monotonic()
    text = convert(Array(30, 16), "array")
    printed = to_verilog(text)
    assert len(rtlil_modules(text)) == 3
    assert modules(printed) == ["array", "array__row", "array__table"]
    assert time.monotonic() - start < benchmark_seconds


def test_yosys_errors_are_one_sentence():
    with pytest.raises(ToolError, match=r"^Yosys stopped: No such command: nonsense"):
        run_yosys("nonsense\n", {}, [])
    with pytest.raises(ToolError, match=r"^Yosys ended without an error but left no out\.json: "):
        run_yosys("", {}, ["out.json"])
    with pytest.raises(ToolError, match=r"^Yosys did not finish within 0\.01 seconds$"):
        run_yosys("", {}, [], timeout=0.01)


def test_constant_part_of_a_signal_is_driven_from_the_start():
    """Yosys prints a process without inputs, which no simulator would ever run."""

    class Part(wiring.Component):
        choose: In(1)
        out: Out(8)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += [self.out[:4].eq(5), self.out[4:].eq(0)]
            with m.If(self.choose):
                m.d.comb += self.out[4:].eq(3)
            return m

    text = verilog(Part(), "part")
    assert not re.search(r"always @\*\n", text)
    assert re.search(r"if \(_at_start_\) begin end\n    out\[3:0\] = 4'h5;", text)


def test_ports_of_one_value_keep_their_own_attributes():
    class Pins(wiring.Component):
        first: Out(1)
        second: Out(1)
        third: Out(1)

        def elaborate(self, platform):
            return Module()

    pins = Pins()
    pins.first.attrs["WHICH"] = 'the "first"'
    pins.second.attrs["WHICH"] = "the second"
    found = re.findall(r'(?:\(\* WHICH = "(.*)" \*\)\n  )?output (\w+);', verilog(pins, "pins"))
    assert found == [(r"the \"first\"", "first"), ("the second", "second"), ("", "third")]


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "&": lambda a, b: a & b, "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "*": lambda a, b: a * b, "<<": lambda a, b: a << b.as_unsigned()[:2], ">>": lambda a, b: a >> b.as_unsigned()[:2],
    "part": lambda a, b: a.as_unsigned().bit_select(b.as_unsigned()[:2], 1), "neg": lambda a, b: -(a + b),
    "zero": lambda a, b: a == 0, "least": lambda a, b: (a + Const(-3, signed(9))) < Const(2, 2),
}  # fmt: skip


@pytest.mark.parametrize("shapes", [(4, 4), (3, 6), (6, 3), (signed(4), signed(6)), (signed(6), 3), (2, signed(5))])
def test_explicit_widths_are_the_same_circuits_and_clean(shapes, tmp_path):
    class Operators(wiring.Component):
        def __init__(self):
            self.values = [function(Signal(shapes[0]), Signal(shapes[1])) for function in OPERATORS.values()]
            outputs = {f"y{i}": Out(value.shape()) for i, value in enumerate(self.values)}
            super().__init__({"a": In(shapes[0]), "b": In(shapes[1]), **outputs})

        def elaborate(self, platform):
            m = Module()
            for i, function in enumerate(OPERATORS.values()):
                wide = Signal(14 if i % 2 else 11, name=f"wide{i}")
                m.d.comb += [wide.eq(function(self.a, self.b)), getattr(self, f"y{i}").eq(wide)]
            return m

    text = convert(Operators(), "operators")
    explicit = make_explicit(text)
    assert explicit != text
    assert_equivalent(text, explicit, "operators")
    printed = to_verilog(text)
    assert_equivalent(text, printed, "operators")
    found = warnings(printed, "operators", "portable", tmp_path)
    assert set(re.findall(r"%Warning-(\w+)", found)) <= {"DECLFILENAME", "UNUSEDSIGNAL", "CMPCONST"}, found


def test_operands_of_no_bits_are_what_they_are_for_yosys():
    class Nothing(wiring.Component):
        a: In(3)
        y: Out(8)

        def elaborate(self, platform):
            m = Module()
            none = self.a[3:]
            some = [
                none.all(),
                none.any(),
                none.xor(),
                none.bool(),
                ~none.bool(),
                none == 0,
                none != self.a,
                none + self.a,
            ]
            m.d.comb += self.y.eq(Cat(value[0] for value in some))
            return m

    text = convert(Nothing(), "nothing")
    assert_equivalent(text, make_explicit(text), "nothing")
    printed = to_verilog(text)
    assert_equivalent(text, printed, "nothing")


def test_wires_of_no_bits_are_not_printed():
    class Empty(wiring.Component):
        a: In(1)
        y: Out(2)

        def elaborate(self, platform):
            m = Module()
            nothing, all_but = Signal(0), Signal(3)
            with m.If(self.a):
                m.d.comb += nothing.eq(Mux(self.a, nothing, Signal(0)))
            m.d.sync += [all_but.eq(Cat(nothing, self.a, Mux(self.a, nothing, Signal(0)))), self.y.eq(all_but)]
            return m

    assert "[-1:0]" not in verilog(Empty(), "empty")


def test_a_choice_without_a_default_gets_one():
    class Choice(wiring.Component):
        a: In(3)
        b: In(2)
        y: Out(4)

        def elaborate(self, platform):
            m = Module()
            with m.Switch(self.a):
                with m.Case(1), m.Switch(self.b):
                    with m.Case(2):
                        m.d.comb += self.y.eq(5)
                    with m.Case(3):
                        m.d.comb += self.y.eq(7)
                with m.Case(2, 6):
                    m.d.comb += self.y.eq(9)
            return m

    text = convert(Choice(), "choice")
    printed = to_verilog(text)
    assert printed.count("default: ;") == printed.count("endcase") == 2
    assert_equivalent(text, printed, "choice")
