"""Place and route of cores out of context, on designs that take seconds."""

import json

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nomul.errors import InputError, ToolError
from nomul.export.rtlil import convert
from nomul.fpga.nextpnr import find_device, place_and_route
from nomul.fpga.yosys import synthesise


class Tree(wiring.Component):
    """A registered adder tree with an accumulator: far more port bits than a chip has pins."""

    def __init__(self, operands, width):
        self.width = width
        super().__init__({"a": In(signed(width)).array(operands), "y": Out(signed(width + 8))})

    def elaborate(self, platform):
        m = Module()
        terms = []
        for operand in self.a:
            terms.append(Signal(signed(self.width)))
            m.d.sync += terms[-1].eq(operand)
        while len(terms) > 1:
            sums = [Signal(signed(len(terms[0]) + 1)) for _ in range((len(terms) + 1) // 2)]
            for index, total in enumerate(sums):
                m.d.sync += total.eq(sum(terms[2 * index : 2 * index + 2]))
            terms = sums
        m.d.sync += self.y.eq(self.y + terms[0])
        return m


class Wide(wiring.Component):
    """A register of 500 bits that is rotated by one: a thousand port bits."""

    a: In(500)
    y: Out(500)

    def elaborate(self, platform):
        m = Module()
        first = Signal(500)
        m.d.sync += [first.eq(self.a), self.y.eq(first.rotate_left(1) & ~first)]
        return m


def mapped(component, target):
    return synthesise(convert(component, "top"), "top", target, netlist=True, cache=None).netlist


@pytest.mark.synth
def test_trimming_saves_what_it_says_on_an_adder_tree():
    netlist = mapped(Tree(28, 8), "ecp5")
    before = place_and_route(netlist, "top", "ecp5", seeds=(1,), trim=False, cache=None)
    after = place_and_route(netlist, "top", "ecp5", seeds=(1,), cache=None)
    assert before.trimmed == 0
    assert before.logic_cells - after.logic_cells == after.trimmed
    assert after.trimmed >= 3 * 28
    assert after.logic_cells <= 0.80 * before.logic_cells
    assert after.cells["TRELLIS_FF"] == before.cells["TRELLIS_FF"]
    assert after.fmax_mhz > 0.9 * before.fmax_mhz


@pytest.mark.synth
@pytest.mark.parametrize(
    ("target", "device", "cell"),
    [
        ("ecp5", "ecp5-85k", "TRELLIS_FF"),
        ("ice40", "ice40-up5k", "ICESTORM_LC"),
        ("gowin", "gowin-gw2ar-18", "DFF"),
    ],
)
def test_a_thousand_port_bits_and_three_seeds(target, device, cell):
    timing = place_and_route(mapped(Wide(), target), "top", target, cache=None)
    assert timing.device == device
    assert set(timing.fmax_by_seed) == {1, 2, 3}
    assert sorted(timing.fmax_by_seed.values())[1] == timing.fmax_mhz
    assert 100 < timing.fmax_mhz < 1500
    assert 1000 <= timing.cells[cell] <= 1010
    assert 0 < timing.logic_cells <= timing.logic_available
    path = timing.critical_path
    assert 1000 / timing.fmax_mhz == pytest.approx(path.logic_ns + path.routing_ns, rel=0.02)


@pytest.mark.synth
def test_a_design_without_paths_between_registers_has_no_frequency():
    text = "module top(input c, a, output reg y); always @(posedge c) y <= a; endmodule"
    netlist = synthesise(text, "top", "ecp5", netlist=True, cache=None).netlist
    timing = place_and_route(netlist, "top", "ecp5", seeds=(1,), cache=None)
    assert timing.fmax_mhz is None
    assert timing.critical_path is None


@pytest.mark.synth
def test_every_look_up_table_of_gowin_has_a_delay():
    text = (
        "module top(input c, input [3:0] a, output reg [1:0] y); reg [3:0] r;"
        " always @(posedge c) begin r <= a; y <= r[1:0] ^ r[3:2]; end endmodule"
    )
    result = synthesise(text, "top", "gowin", netlist=True, cache=None)
    assert result.cells == {"DFF": 6, "LUT2": 2}
    assert place_and_route(result.netlist, "top", "gowin", seeds=(1,), cache=None).critical_path.logic_ns > 0.5


@pytest.mark.synth
def test_results_are_cached_by_seed(tmp_path):
    netlist = mapped(Tree(4, 6), "ecp5")
    first = place_and_route(netlist, "top", "ecp5", seeds=(1, 2), cache=tmp_path)
    assert len(list(tmp_path.glob("nextpnr/*.json"))) == 2
    assert place_and_route(netlist, "top", "ecp5", seeds=(1, 2), cache=tmp_path) == first
    entry = sorted(tmp_path.glob("nextpnr/*.json"))[0]
    entry.write_text(entry.read_text().replace('"fmax": ', '"fmax": 9'))
    assert place_and_route(netlist, "top", "ecp5", seeds=(1, 2), cache=tmp_path).fmax_mhz == first.fmax_mhz


@pytest.mark.synth
def test_what_does_not_fit_is_said():
    text = (
        "module top(input c, we, input [13:0] wa, ra, input [8:0] d, output reg [8:0] y); (* no_rw_check *)"
        " reg [8:0] m [0:16383]; always @(posedge c) begin if (we) m[wa] <= d; y <= m[ra]; end endmodule"
    )
    result = synthesise(text, "top", "ice40", netlist=True, cache=None)
    assert result.bram == 36  # of the UP5K's 30
    with pytest.raises(ToolError, match=r"^top does not fit ice40-up5k: Unable to place cell .*'ICESTORM_RAM'$"):
        place_and_route(result.netlist, "top", "ice40", seeds=(1,), cache=None)


def test_wrong_devices():
    with pytest.raises(InputError, match=r"^nextpnr cannot place for target 'xcup'; it can for ecp5, ice40, gowin$"):
        find_device("xcup")
    with pytest.raises(
        InputError, match=r"^device 'lp1k' is not one of target ice40; choose one of ice40-up5k, ice40-hx8k$"
    ):
        find_device("ice40", "lp1k")
    with pytest.raises(InputError, match=r"^device 'ice40-up5k' is not one of target ecp5; choose one of ecp5-85k$"):
        find_device("ecp5", "ice40-up5k")
    assert find_device("gowin").name == "gowin-gw2ar-18"


def test_a_netlist_that_nextpnr_refuses():
    module = {"attributes": {}, "ports": {}, "netnames": {}, "cells": {}}
    cell = {
        "hide_name": 0,
        "type": "NONSENSE",
        "parameters": {},
        "attributes": {},
        "port_directions": {},
        "connections": {},
    }
    netlist = json.dumps({"creator": "test", "modules": {"top": module | {"cells": {"c": cell}}}})
    with pytest.raises(ToolError, match=r"^top does not fit ecp5-85k: .*'NONSENSE'$"):
        place_and_route(netlist, "top", "ecp5", seeds=(1,), cache=None)
