"""Synthesis and its counts, on designs small enough to count by hand."""

import json

import pytest
from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from nomul.errors import InputError, ToolError
from nomul.export.rtlil import convert
from nomul.fpga.targets import TARGETS, find_target
from nomul.fpga.yosys import is_rtlil, synthesise, tally
from nomul.jobs.cache import Cache, digest


class Lookup(wiring.Component):
    """A table of 32 words with `ports` read ports of `width` bits, all registered by the reader."""

    def __init__(self, ports, width, depth=32):
        self.ports, self.width, self.depth = ports, width, depth
        super().__init__(
            {
                "address": In(range(depth)),
                "data": In(width),
                "enable": In(1),
                "index": In(range(depth)).array(ports),
                "word": Out(width).array(ports),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write = store.write_port()
        m.d.comb += [write.addr.eq(self.address), write.data.eq(self.data), write.en.eq(self.enable)]
        for index, word in zip(self.index, self.word, strict=True):
            read = store.read_port(domain="comb")
            m.d.comb += [read.addr.eq(index), word.eq(read.data)]
        return m


class Adder(wiring.Component):
    def __init__(self, width):
        super().__init__({"a": In(width), "b": In(width), "y": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.a + self.b)
        return m


def build(component, target, **options):
    return synthesise(convert(component, "top"), "top", target, cache=None, **options)


@pytest.mark.synth
@pytest.mark.parametrize(
    ("ports", "width", "target", "cell", "count", "luts"),
    [
        (7, 2, "xcup", "RAM32M16", 1, 8),  # seven read ports of two bits share one primitive
        (5, 2, "xcup", "RAM32M16", 5, 40),  # and five do not
        (1, 14, "xcup", "RAM32M16", 1, 8),
        (3, 2, "xc7", "RAM32M", 1, 4),
    ],
)
def test_read_ports_share_a_lutram(ports, width, target, cell, count, luts):
    result = build(Lookup(ports, width), target)
    assert result.cells == {cell: count}
    assert (result.lut, result.lutram_as_lut, result.ff) == (luts, luts, 0)


@pytest.mark.synth
@pytest.mark.parametrize(("target", "cell"), [("ecp5", "TRELLIS_DPR16X4"), ("gowin", "RAM16SDP4")])
def test_a_small_lutram_costs_six_luts(target, cell):
    result = build(Lookup(1, 4, depth=16), target)
    assert result.cells[cell] == 1
    assert (result.lut, result.lutram_as_lut) == (6, 6)


@pytest.mark.synth
@pytest.mark.parametrize(
    ("target", "lut", "carry"),
    [("xcup", 8, 2), ("xc7", 8, 2), ("ecp5", 8, 4), ("gowin", 8, 8), ("ice40", 9, 7)],
)
def test_adder_of_eight_bits(target, lut, carry):
    result = build(Adder(8), target)
    # Every target spends a LUT a bit; iCE40's first carry needs no cell, and its last sum is one LUT of its own.
    assert result.ff == 8
    assert result.carry == carry
    assert result.lut in (lut, lut - 1)
    assert (result.lutram_as_lut, result.dsp, result.bram, result.uram) == (0, 0, 0, 0)


@pytest.mark.synth
@pytest.mark.parametrize("target", ["xcup", "ecp5", "gowin", "ice40"])
def test_multipliers_only_when_asked_for(target):
    text = "module top(input signed [8:0] a, b, output signed [17:0] y); assign y = a * b; endmodule"
    without = synthesise(text, "top", target, cache=None)
    assert without.dsp == 0
    assert without.lut > 80
    multiplier = synthesise(text, "top", target, dsp=True, cache=None)
    assert multiplier.dsp == 1
    assert multiplier.lut == 0


@pytest.mark.synth
def test_shift_registers_and_blocks():
    chain = (
        "module top(input c, a, output y); reg [15:0] q; always @(posedge c) q <= {q, a}; assign y = q[15]; endmodule"
    )
    result = synthesise(chain, "top", "xcup", cache=None)
    assert (result.lut, result.lutram_as_lut) == (1, 1)
    store = (
        "module top(input c, we, input [9:0] wa, ra, input [17:0] d, output reg [17:0] y);"
        " (* no_rw_check *) reg [17:0] m [0:1023];"
        " always @(posedge c) begin if (we) m[wa] <= d; y <= m[ra]; end endmodule"
    )
    blocks = {name: synthesise(store, "top", name, cache=None).bram for name in TARGETS}
    assert blocks == {"xcup": 0.5, "xc7": 0.5, "ecp5": 1, "gowin": 1, "ice40": 5}  # 18, 18, 18, 18 and 4 kbit


@pytest.mark.synth
def test_a_repeated_module_is_mapped_once():
    class Row(wiring.Component):
        a: In(8)
        y: Out(1)

        def elaborate(self, platform):
            m = Module()
            m.d.sync += self.y.eq(self.a.xor())
            return m

    class Rows(wiring.Component):
        a: In(8).array(5)
        y: Out(5)

        def elaborate(self, platform):
            m = Module()
            for number in range(5):
                m.submodules[f"row{number}"] = row = Row()
                m.d.comb += [row.a.eq(self.a[number]), self.y[number].eq(row.y)]
            return m

    text = convert(Rows(), "top")
    whole, once = (synthesise(text, "top", "xcup", once=each, cache=None) for each in (False, True))
    assert whole.cells == once.cells
    assert (once.lut, once.ff) == (whole.lut, 5)
    with pytest.raises(ValueError, match=r"^a netlist is flat; it cannot be mapped with once = True$"):
        synthesise(text, "top", "xcup", once=True, netlist=True)


@pytest.mark.synth
def test_instantiated_primitives_count_themselves():
    class Dual(wiring.Component):
        a: In(5)
        y: Out(2)

        def elaborate(self, platform):
            m = Module()
            out = Signal(2)
            m.submodules.lut = Instance(
                "LUT6_2",
                p_INIT=Const(0x96696996_E8808000, 64),
                **{f"i_I{i}": self.a[i] for i in range(5)},
                i_I5=Const(1),
                o_O6=out[0],
                o_O5=out[1],
            )
            m.submodules.ff = Instance(
                "FDRE", i_C=ClockSignal(), i_CE=Const(1), i_R=Const(0), i_D=out[0], o_Q=self.y[0]
            )
            m.d.comb += self.y[1].eq(out[1])
            return m

    result = build(Dual(), "xcup")
    assert result.cells == {"FDRE": 1, "LUT6_2": 1}
    assert (result.lut, result.ff) == (1, 1)


def test_cost_tables():
    cells = {"RAM32M16": 2, "RAM64M8": 1, "RAM32M": 1, "RAM64M": 1, "RAM32X1D": 3, "SRLC32E": 5, "LUT6": 7, "INV": 1}
    result = tally(cells | {"MUXF7": 4, "CARRY8": 2, "FDSE": 9, "RAMB18E2": 3, "URAM288": 1}, TARGETS["xcup"], "t")
    assert result.lutram_as_lut == 16 + 8 + 4 + 4 + 6 + 5
    assert result.lut == result.lutram_as_lut + 7 + 1
    assert (result.carry, result.ff, result.bram, result.uram) == (2, 9, 1.5, 1)
    result = tally({"CCU2C": 3, "LUT4": 5, "TRELLIS_DPR16X4": 2, "PFUMX": 1}, TARGETS["ecp5"], "t")
    assert (result.lut, result.lutram_as_lut, result.carry) == (6 + 5 + 12, 12, 3)
    result = tally({"ALU": 4, "LUT3": 2, "RAM16SDP4": 1, "DFFRE": 3, "SDPB": 1}, TARGETS["gowin"], "t")
    assert (result.lut, result.lutram_as_lut, result.ff, result.bram) == (4 + 2 + 6, 6, 3, 1)
    result = tally({"SB_LUT4": 3, "SB_CARRY": 2, "SB_DFFESR": 1, "SB_SPRAM256KA": 1}, TARGETS["ice40"], "t")
    assert (result.lut, result.carry, result.ff, result.uram) == (3, 2, 1, 1)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"LUT4": 1, "mystery": 1}, r"^synthesis of t for ecp5 left cells that are not primitives .*: mystery$"),
        (
            {"LUT4": 1, "$_DLATCH_P_": 2},
            r"^synthesis of t for ecp5 left latches \(\$_DLATCH_P_\); make them registers$",
        ),
        ({"LUT4": 1, "$mul": 2}, r"^synthesis of t for ecp5 left cells that are not primitives .*: \$mul$"),
        ({}, r"^synthesis of t for ecp5 left no logic at all; "),
        ({"VHI": 1, "$scopeinfo": 4}, r"^synthesis of t for ecp5 left no logic at all; "),
    ],
)
def test_results_that_are_refused(cells, message):
    with pytest.raises(ToolError, match=message):
        tally(cells, TARGETS["ecp5"], "t")


BAD = {
    "two drivers": (
        "input a, b, output y",
        "assign y = a; assign y = b;",
        r"multiple conflicting drivers for top\.[aby]$",
    ),
    "latch": ("input a, b, output reg y", "always @* if (a) y = b;", r"latch"),
    "loop": ("input a, output y", "assign y = ~(y & a);", r"found logic loop in module top$"),
    "no driver": ("input a, output y", "wire q; assign y = a & q;", r"Wire top\.q is used but has no driver\.$"),
    "missing module": ("input a, output y", "foo f(.a(a), .y(y));", r"Module `\\foo' referenced in module"),
    "nothing": ("input a, output y", "assign y = a;", r"left no logic at all"),
    "syntax": ("input a, output y", "assign y = ;", r"syntax error"),
}


@pytest.mark.synth
@pytest.mark.parametrize("target", ["ecp5", "ice40"])
@pytest.mark.parametrize(("ports", "body", "message"), BAD.values(), ids=BAD)
def test_designs_that_are_refused(target, ports, body, message):
    with pytest.raises(ToolError, match=message) as raised:
        synthesise(f"module top({ports}); {body} endmodule", "top", target, cache=None)
    assert "\n" not in str(raised.value)


def test_unknown_target():
    with pytest.raises(InputError, match=r"^target 'virtex' is unknown; choose one of xcup, xc7, ecp5, gowin, ice40$"):
        find_target("virtex")


def test_languages_are_told_apart():
    assert is_rtlil("attribute \\top 1\nmodule \\top\n  wire width 1 \\a\nend\n")
    assert not is_rtlil("module \\top (a);\nendmodule")
    assert not is_rtlil("module top(a);\nendmodule")


@pytest.mark.synth
def test_cache_rebuilds_what_is_corrupt(tmp_path, monkeypatch):
    text = convert(Adder(4), "top")
    runs = []
    import nomul.fpga.yosys as module

    real = module.run_yosys
    monkeypatch.setattr(module, "run_yosys", lambda *args: runs.append(1) or real(*args))
    first = synthesise(text, "top", "ecp5", netlist=True, cache=tmp_path)
    again = synthesise('attribute \\src "elsewhere.py:1"\n' + text, "top", "ecp5", netlist=True, cache=tmp_path)
    assert len(runs) == 1
    assert again.netlist == first.netlist
    assert again.cells == first.cells
    assert "TRELLIS_FF" in {cell["type"] for cell in json.loads(again.netlist)["modules"]["top"]["cells"].values()}
    for number, name in enumerate(sorted(tmp_path.glob("synthesis/*")), 2):
        name.write_text(name.read_text()[:-20])
        assert synthesise(text, "top", "ecp5", netlist=True, cache=tmp_path).netlist == first.netlist
        assert len(runs) == number
    synthesise(text, "top", "ecp5", cache=tmp_path)  # the netlist's entry serves whoever does not want it
    assert len(runs) == 3
    synthesise(text, "top", "ecp5", dsp=True, cache=tmp_path)  # another script is another entry
    assert len(runs) == 4
    synthesise(text, "top", "ecp5", dsp=True, netlist=True, cache=tmp_path)  # and one without a netlist has none
    assert len(runs) == 5


def test_cache_entries(tmp_path):
    cache = Cache(tmp_path)
    key = digest("a", "bc")
    assert key != digest("ab", "c")
    assert cache.get(key) is None
    cache.put(key, {"n": 1}, {".txt": "text"})
    assert cache.get(key) == {"n": 1}
    for bad in ("", "[]", "{}", '{"payload": {"n": 1}, "files": {}, "sha256": "0"}', "null"):
        cache.put(key, {"n": 1}, {".txt": "text"})
        cache.path(key).write_text(bad)
        assert cache.get(key) is None
        assert not cache.path(key).exists()
    cache.put(key, {"n": 1}, {".txt": "text"})
    cache.path(key, ".txt").unlink()
    assert cache.get(key) is None
    assert Cache(None).get(key) is None
