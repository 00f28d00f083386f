# amaranth: UnusedElaboratable=no
"""The standard-cell flow: cells found by function, areas and delays that a hand count gives, and refusals."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from hypothesis import given
from hypothesis import strategies as st

from nomul.arith import cells as generic
from nomul.asic import asic_flow as flow
from nomul.asic.asic_flow import Implementation, implement
from nomul.asic.cell_mapping import abc_delay, map_cells
from nomul.asic.liberty import Library, as_verilog, parse_function, read_liberty, truth_table
from nomul.asic.netlist import gates_of
from nomul.asic.power import power_mw
from nomul.asic.sta import sta_version
from nomul.cli import main
from nomul.errors import InputError, ToolError
from nomul.export.rtlil import convert, to_verilog
from nomul.jobs.yosys_run import run_yosys
from nomul.report.cell_figures import cell_report
from nomul.report.figures import Elaborated, Work
from tests.tiny_liberty import tiny

with_sta = pytest.mark.skipif(sta_version() is None, reason="OpenSTA is not installed")


class Design(Component):
    """A design of one function, which gets its inputs and returns what its output register takes."""

    def __init__(self, width: int, body: Callable[[Module, "Design"], object]) -> None:
        self.body = body
        super().__init__({"x": In(width), "en": In(1), "y": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.y.eq(self.body(m, self))
        return m


class Chain(Component):
    """A register, `length` full adders in a row on its bits, and a register."""

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__({"x": In(length), "z": In(length), "total": Out(length + 1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        x, z = (Signal(self.length, reset_less=True, name=name) for name in "ab")
        total = Signal(self.length + 1, reset_less=True)
        m.d.sync += [x.eq(self.x), z.eq(self.z), total.eq(0)]
        carry: object = Const(0, 1)
        sums = []
        for bit in range(self.length):
            out, carry = generic.full_adder(m, f"add{bit}", x[bit], z[bit], carry)
            sums.append(out)
        m.d.sync += total.eq(Cat(*sums, carry))
        m.d.comb += self.total.eq(total)
        return m


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return library_of(tmp_path)


def library_of(folder: Path, *without: str) -> Library:
    file = folder / "tiny.lib"
    file.write_text(tiny(*without))
    return read_liberty(file)


# --- generic cells --------------------------------------------------------------------------------------------------


def test_printed_verilog_carries_the_models_it_uses() -> None:
    text = to_verilog(convert(Chain(3), "chain"))
    assert text.count("module NOMUL_FA ") == 1
    assert text.count("module NOMUL_HA ") == 1
    assert "module NOMUL_AOI22" not in text
    assert text.count("  NOMUL_FA ") == 2


OPERANDS = ("x", 0, 1)
HELPERS = {
    "full": (3, lambda m, v: Cat(*generic.full_adder(m, "c", *v)), lambda v: sum(v)),
    "half": (2, lambda m, v: Cat(*generic.half_adder(m, "c", *v)), lambda v: sum(v)),
    "22": (4, lambda m, v: generic.and_or_invert22(m, "c", *v), lambda v: 1 - (v[0] & v[1] | v[2] & v[3])),
    "222": (
        6,
        lambda m, v: generic.and_or_invert222(m, "c", *v),
        lambda v: 1 - (v[0] & v[1] | v[2] & v[3] | v[4] & v[5]),
    ),
    "buffer": (1, lambda m, v: generic.buffer(m, "c", *v), lambda v: v[0]),
}


@pytest.mark.parametrize("name", HELPERS)
def test_helpers_compute_their_function_with_any_constants(name: str) -> None:
    inputs, build, function = HELPERS[name]
    patterns = [[OPERANDS[code // 3**place % 3] for place in range(inputs)] for code in range(3**inputs)]
    patterns = patterns if len(patterns) <= 81 else patterns[:: len(patterns) // 60]

    class All(Component):
        x: In(6)
        differ: Out(1)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            wrong = []
            for number, pattern in enumerate(patterns):
                m.submodules[f"p{number}"] = part = Module()
                values = [self.x[place] if code == "x" else code for place, code in enumerate(pattern)]
                got = Signal(2, name=f"got{number}")
                part.d.comb += got.eq(build(part, values))
                table = [
                    function([index >> place & 1 if code == "x" else code for place, code in enumerate(pattern)])
                    for index in range(1 << inputs)
                ]
                want = Cat(*(Const(value, 2) for value in table)).word_select(self.x[:inputs], 2)
                wrong.append(got != want)
            m.d.comb += self.differ.eq(Cat(*wrong).any())
            return m

    text = to_verilog(convert(All(), "all"))
    script = """
        read_verilog all.v
        hierarchy -top all
        proc
        flatten
        opt_clean
        sat -prove differ 0 -verify
        write_json done.json
    """
    run_yosys(script, {"all.v": text}, ["done.json"])


def test_constants_need_no_cells() -> None:
    m = Module()
    a, b = Signal(), Signal()
    assert [value.value for value in generic.full_adder(m, "f", 1, 0, 1)] == [0, 1]
    total, carry = generic.half_adder(m, "h", a, Const(0, 1))
    assert total is a and isinstance(carry, Const)
    generic.full_adder(m, "one", a, b, 1)
    generic.and_or_invert22(m, "aoi", a, b, 0, b)
    assert "NOMUL" not in convert(Design(1, lambda m, d: generic.full_adder(m, "f", d.x, d.en, 1)[0]), "t")


def test_a_wide_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a generic cell takes values of one bit, not of 2$"):
        generic.full_adder(Module(), "f", Signal(2), Signal(), Signal())


# --- Liberty --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "table"),
    [("A B", 8), ("A*B'", 2), ("!(A+B)", 1), ("A ^ B", 6), ("(A & !B) | (!A & B)", 6), ("A B + A' B'", 9), ("1", 15)],
)
def test_functions(text: str, table: int) -> None:
    assert truth_table(parse_function(text), ("A", "B")) == table


@given(st.recursive(st.sampled_from("ABC"), lambda part: st.tuples(st.sampled_from("&|^"), part, part), max_leaves=9))
def test_functions_survive_being_printed(expression: object) -> None:
    again = parse_function(as_verilog(expression))
    assert truth_table(again, ("A", "B", "C")) == truth_table(expression, ("A", "B", "C"))


@pytest.mark.parametrize("text", ["A +", "(A", "A % B", "", "A ) B"])
def test_what_is_no_function(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a Liberty function$"):
        parse_function(text)


def test_cells_are_found_by_function(library: Library) -> None:
    adder = library.matching(0x96, 0xE8, inputs=3)
    assert adder is not None and (adder[0].name, adder[2]) == ("FIG", ("U", "V"))
    swapped = library.matching(0xE8, 0x96, inputs=3)
    assert swapped is not None and swapped[2] == ("V", "U")
    assert [cell.name for cell in library.buffers] == ["BIRCH", "BEECH"]
    assert [cell.name for cell in library.strengths("BIRCH")] == ["BIRCH", "BEECH"]
    assert [cell.name for cell in library.kind("flip-flop")] == ["DOGWOOD"]
    assert [cell.name for cell in library.kind("clock gate")] == ["GINKGO"]
    assert library.capacitance_farad == 1e-15


def test_real_libraries(library_file: Path) -> None:
    found = read_liberty(library_file)
    assert found.kind("flip-flop") and len(found.buffers) >= 3
    and_or_invert = found.matching(0x0777, inputs=4)
    assert and_or_invert is not None and "22" in and_or_invert[0].name
    adder = found.matching(0x96, 0xE8, inputs=3)
    assert (adder is None) == ("sg13g2" in library_file.name)


def test_bad_files(tmp_path: Path) -> None:
    def refused(data: bytes, expected: str) -> None:
        file = tmp_path / "bad.lib"
        file.write_bytes(data)
        with pytest.raises(InputError, match=expected):
            read_liberty(file)

    text = tiny().encode()
    with pytest.raises(InputError, match=r"^liberty file .*none\.lib does not exist$"):
        read_liberty(tmp_path / "none.lib")
    refused(gzip.compress(text)[:-40], r"is a gzip file that is cut short or damaged$")
    refused(b"", r"is not Liberty: it does not begin with 'library \(NAME\) \{'$")
    refused(b"module top; endmodule", r"is not Liberty: it does not begin")
    refused(b"\x00\xff" * 100, r"is not Liberty: it does not begin")
    refused(text[: len(text) // 2], r"(is cut short: it ends inside|is not Liberty: nothing to be read near line)")
    refused(b"library (empty) { }", r"has no cell with an area$")
    refused(b'library (x) { time_unit : "1 fortnight"; }', r"makes no sense$")


def test_a_gzipped_file_reads_as_the_plain_one(tmp_path: Path, library: Library) -> None:
    file = tmp_path / "tiny.lib.gz"
    file.write_bytes(gzip.compress(tiny().encode()))
    assert read_liberty(file).cells == library.cells


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (("flip-flop",), r"has no flip-flop, so it holds no design with registers$"),
        (("nand", "nor"), r"has neither a NAND nor a NOR of two inputs$"),
        (("inverter",), r"has no inverter$"),
    ],
)
def test_libraries_that_hold_no_design(tmp_path: Path, without: tuple[str, ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        implement("", "t", library_of(tmp_path, *without), cache=None)


@pytest.mark.parametrize("clock", [0, -1.5, float("inf"), float("nan")])
def test_impossible_clocks(library: Library, clock: float) -> None:
    with pytest.raises(InputError, match=r"^clock period \S+ ns is not possible; allowed: above 0$"):
        implement("", "t", library, clock, cache=None)


# --- mapping --------------------------------------------------------------------------------------------------------


@pytest.mark.synth
def test_a_chain_has_the_area_and_delay_of_a_hand_count(library: Library) -> None:
    """Area 5 a flip-flop, 4 a full adder, 2.5 the half adder; delay 0.2 + 0.15 + 7 x 0.25 + 0.05."""
    result = implement(convert(Chain(8), "chain"), "chain", library, 10, cache=None)
    assert result.cells == {"DOGWOOD": 25, "FIG": 7, "HAZEL": 1}
    assert result.area == 25 * 5 + 7 * 4 + 2.5
    if sta_version():
        assert result.critical_path_ns == pytest.approx(2.15, abs=2e-3)
        assert result.timing_source == f"{sta_version()}, without wires"
        assert result.path[1] in ("total[7]", "total[8]")


@pytest.mark.synth
def test_without_adders_in_the_library_they_are_logic(tmp_path: Path) -> None:
    library = library_of(tmp_path, "adder", "half adder")
    result = implement(convert(Chain(4), "chain"), "chain", library, cache=None)
    assert result.cells["DOGWOOD"] == 13
    assert set(result.cells) <= {"DOGWOOD", "IVY", "BIRCH", "NETTLE", "NUTMEG", "ALDER"}


@pytest.mark.synth
def test_a_tree_of_sixteen_lanes_in_a_real_library(nangate45: Path) -> None:
    """FA_X1 4.256, HA_X1 2.66, DFF_X1 4.522: from the Liberty file, times what the design names."""
    library = read_liberty(nangate45)
    result = implement(convert(Chain(16), "chain"), "chain", library, 10, cache=None)
    assert result.area == pytest.approx(15 * 4.256 + 2.66 + 49 * 4.522, abs=0.01)


@pytest.mark.synth
def test_shared_enables_become_a_clock_gate(tmp_path: Path, library: Library) -> None:
    text = convert(Design(8, lambda m, d: Mux(d.en, d.x, d.y)), "gated")
    gated = implement(text, "gated", library, cache=None)
    assert (gated.cells["GINKGO"], gated.cells["DOGWOOD"]) == (1, 8)
    plain = implement(text, "gated", library, gating=False, cache=None)
    assert "GINKGO" not in plain.cells and plain.area > gated.area
    without = implement(text, "gated", library_of(tmp_path, "clock gate"), cache=None)
    assert without.area == plain.area


def memory(words: int, m: Module, d: Design) -> object:
    m.submodules.store = store = Memory(shape=8, depth=words, init=[])
    write, read = store.write_port(), store.read_port()
    m.d.comb += [write.addr.eq(d.x), write.data.eq(d.x), write.en.eq(d.en), read.addr.eq(d.x[1:]), read.en.eq(1)]
    return read.data


@pytest.mark.synth
def test_large_memories_are_macros_and_small_ones_flip_flops(library: Library) -> None:
    large = implement(convert(Design(8, lambda m, d: memory(128, m, d)), "large"), "large", library, 4, cache=None)
    assert large.memory_bits == 1024
    assert [(macro.words, macro.width, macro.asynchronous) for macro in large.memories] == [(128, 8, False)]
    small = implement(convert(Design(8, lambda m, d: memory(8, m, d)), "small"), "small", library, 4, cache=None)
    assert small.memory_bits == 0 and small.memories == ()
    assert small.cells["DOGWOOD"] > 64
    if sta_version():
        # 0.8 ns out of the macro, an AND for the reset, 0.05 ns of set-up
        assert large.critical_path_ns == pytest.approx(0.2 * 4 + 0.05, abs=0.35)


@pytest.mark.synth
def test_wide_nets_are_buffered_within_the_limits(library: Library) -> None:
    """One flip-flop drives 60 others through ANDs; its limit of 20 becomes 8 by the share of 0.4."""

    class Wide(Component):
        x: In(60)
        en: In(1)
        y: Out(60)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            select, word = Signal(reset_less=True), Signal(60, reset_less=True)
            m.d.sync += [select.eq(self.en), word.eq(self.x & select.replicate(60))]
            m.d.comb += self.y.eq(word)
            return m

    text = convert(Wide(), "wide")
    mapped = map_cells(text, "wide", library, None, cache=None)
    before = gates_of(mapped, library)
    result = flow.repair(before, 5, timing=False)
    loads = [
        result.gates.load(net) / result.gates.gates[name].cell.drive for net, (name, _) in result.gates.drivers.items()
    ]
    assert max(before.load(net) for net in before.drivers) == 60
    assert result.buffers > 0 and max(loads) <= 0.4
    assert equal(before.verilog(), result.gates.verilog(), "wide")


def equal(gold: str, gate: str, top: str) -> bool:
    """Prove that two netlists of the tiny library are the same function, registers as wires."""
    models = """
        module IVY(input A, output Z); assign Z = ~A; endmodule
        module BIRCH(input A, output Z); assign Z = A; endmodule
        module BEECH(input A, output Z); assign Z = A; endmodule
        module NETTLE(input A, B, output Z); assign Z = ~(A & B); endmodule
        module NUTMEG(input A, B, output Z); assign Z = ~(A | B); endmodule
        module ALDER(input A, B, output Z); assign Z = A & B; endmodule
        module DOGWOOD(input C, D, output Q); assign Q = D; endmodule
    """
    script = f"""
        read_verilog gold.v models.v
        rename {top} gold
        read_verilog gate.v
        rename {top} gate
        proc
        miter -equiv -flatten gold gate both
        hierarchy -top both
        sat -prove trigger 0 -verify
        write_json done.json
    """
    run_yosys(script, {"gold.v": gold, "gate.v": gate, "models.v": models}, ["done.json"])
    return True


@pytest.mark.synth
def test_latches_are_refused(library: Library) -> None:
    text = "module t(input e, d, output reg q); always @* if (e) q = d; endmodule\n"
    with pytest.raises(ToolError, match=r"^Yosys stopped: .*[Ll]atch"):
        map_cells(text, "t", library, None, cache=None)


@pytest.mark.synth
def test_a_design_that_computes_nothing_is_refused(library: Library) -> None:
    text = "module t(input d, output q); assign q = d; endmodule\n"
    with pytest.raises(ToolError, match=r"^mapping of t to tiny left no cells at all; "):
        map_cells(text, "t", library, None, cache=None)


@pytest.mark.synth
def test_without_opensta_the_figure_is_abcs_and_says_so(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "sta_version", lambda: None)
    monkeypatch.setattr("nomul.asic.power.sta_version", lambda: None)
    text = convert(Chain(6), "chain")
    result = cell_report(Elaborated(text, "chain", {}, Work(2, 1.0)), library, 3, cache=None)
    assert result.found.timing_source.startswith("ABC in Yosys ")
    assert result.found.critical_path_ns == abc_delay(text, "chain", library)
    assert (result.power_mw, result.power_source) == (None, "none: OpenSTA is not installed")


@with_sta
@pytest.mark.synth
def test_a_report_has_every_field_and_comes_back_from_the_cache(nangate45: Path, tmp_path: Path) -> None:
    library = read_liberty(nangate45)
    core = Elaborated(convert(Chain(8), "chain"), "chain", {"length": 8}, Work(4, 0.5))
    reference = Elaborated(convert(Chain(16), "other"), "other", {}, Work(4, 0.5))
    result = cell_report(core, library, 2, baseline=reference, cache=tmp_path).as_json()
    assert json.loads(json.dumps(result)) == result
    assert result["area_per_mac"] == pytest.approx(result["area"] / 4, abs=1e-4)
    assert result["area_ratio"] == pytest.approx(result["area_per_mac"] / result["baseline_area_per_mac"], abs=1e-4)
    assert 0.3 < result["critical_path_ns"] < 1.5
    assert 0.01 < result["power_mw"] < 1
    assert result["power_source"].startswith("assumed: ")
    assert sum(result["area_by_kind"].values()) == pytest.approx(result["area"], abs=0.01)
    assert cell_report(core, library, 2, baseline=reference, cache=tmp_path).as_json() == result


@with_sta
@pytest.mark.synth
def test_a_faster_clock_buys_strength(nangate45: Path) -> None:
    """A register that 40 others read through exclusive ors: strength and buffers make its path shorter."""
    library = read_liberty(nangate45)

    class Fan(Component):
        x: In(40)
        en: In(1)
        y: Out(40)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            select, first, word = Signal(reset_less=True), Signal(40, reset_less=True), Signal(40, reset_less=True)
            m.d.sync += [select.eq(self.en), first.eq(self.x), word.eq(first ^ select.replicate(40))]
            m.d.comb += self.y.eq(word)
            return m

    text = convert(Fan(), "fan")

    def made(clock: float) -> Implementation:
        return implement(text, "fan", library, clock, cache=None)

    slow, fast = made(5), made(0.2)
    assert fast.critical_path_ns < slow.critical_path_ns
    assert fast.area > slow.area
    assert slow.rounds == 0 < fast.rounds


@with_sta
@pytest.mark.synth
def test_power_follows_the_activity_of_a_simulation(nangate45: Path) -> None:
    library = read_liberty(nangate45)
    found = implement(convert(Chain(8), "chain"), "chain", library, 2, cache=None)
    inputs = [f"{port}_{bit}_" for port in "xz" for bit in range(8)]
    adders = re.findall(r"FA_X1 (g\d+) ", found.verilog)
    assert len(adders) == 7

    def power(rate: float) -> float:
        pins = [f"{name}/{pin}" for name in adders for pin in ("S", "CO")]
        milliwatts, source = power_mw(found, library, dict.fromkeys([*inputs, *pins], rate))
        assert source.startswith("switching activity from a simulation on real data, OpenSTA ")
        return milliwatts

    idle, half, busy = power(0), power(0.5), power(1)
    assert 0 < idle < half < busy
    assert half - idle == pytest.approx(busy - half, rel=0.05)


# --- the command ----------------------------------------------------------------------------------------------------

SMALL = ("tables=2", "rows=2", "fill_units=1", "n_in_max=64", "n_out_max=64")


def run(*arguments: str) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    main(["report", "tlmm", *arguments, *settings, "--layer", "64x64"])


@pytest.mark.synth
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.lib").write_text(tiny())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run("--target", "cells", "--liberty", "tiny.lib", "--clock-ns", "5", "--json")
    assert ended.value.code == 0
    figures = json.loads(capsys.readouterr().out)
    expected = {"area", "area_per_mac", "baseline_area_per_mac", "area_ratio", "critical_path_ns", "timing_source"}
    expected |= {"power_mw", "power_source", "memory_bits", "library", "engine", "config", "target", "macs_per_cycle"}
    assert expected <= set(figures)
    assert (figures["engine"], figures["target"], figures["library"]) == ("tlmm", "cells", "tiny")
    assert figures["config"]["target"] == "cells"
    with pytest.raises(SystemExit):
        run("--target", "cells", "--liberty", "tiny.lib", "--clock-ns", "5")
    assert "area per MAC" in capsys.readouterr().out


@pytest.mark.synth
def test_the_command_with_a_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.lib").write_text(tiny())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["report", "absmax", "--target", "cells", "--liberty", "tiny.lib", "--set", "length_max=16", "--json"])
    assert ended.value.code == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["area"] > 0
    assert figures["baseline_area_per_mac"] is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--target", "cells"), "target 'cells' needs --liberty FILE, a library of standard cells"),
        (("--target", "ecp5", "--liberty", "x.lib"), "--liberty goes with target 'cells' only; the target is 'ecp5'"),
        (("--target", "ecp5", "--clock-ns", "2"), "--clock-ns goes with target 'cells' only; the target is 'ecp5'"),
        (("--target", "cells", "--liberty", "x.lib", "--clock-ns", "0"), "--clock-ns is 0; allowed: above 0"),
        (("--target", "cells", "--liberty", "none.lib"), "liberty file none.lib does not exist"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.strip().endswith(f"nomul: {expected}")
    assert captured.out == ""
