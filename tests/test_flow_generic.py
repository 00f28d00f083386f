"""The generic library: areas and delays by its own rules, every generic cell in it, and the same models on FPGAs."""

import re

import pytest
from amaranth.hdl import Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nomul.arith.cells import GENERIC_CELLS
from nomul.asic.asic_flow import implement
from nomul.asic.cell_mapping import FUNCTIONS
from nomul.asic.gate_library import GATES, generic_library, generic_text
from nomul.asic.sta import sta_version
from nomul.export.rtlil import convert
from nomul.fpga.yosys import synthesise


class Chosen(wiring.Component):
    """A register behind an and-or-invert of four registers."""

    a: In(4)
    y: Out(1)

    def elaborate(self, platform):
        m = Module()
        held, value = Signal(4), Signal()
        ports = GENERIC_CELLS["NOMUL_AOI22"]
        links = {f"i_{name}": held[index] for index, name in enumerate(ports[:-1])} | {f"o_{ports[-1]}": value}
        m.submodules.choice = Instance("NOMUL_AOI22", **links)
        m.d.sync += [held.eq(self.a), self.y.eq(value)]
        return m


@pytest.fixture
def library(tmp_path):
    return generic_library(tmp_path)


def test_areas_are_transistors_over_four(library):
    areas = {name: cell.area for name, cell in library.cells.items()}
    assert (areas["NAND2_X1"], areas["INV_X1"], areas["FA_X1"], areas["DFF_X1"]) == (1, 0.5, 7, 6)
    assert areas["INV_X8"] == 8 * areas["INV_X1"]
    assert len({name for name, *_ in GATES}) == len(GATES)


def test_it_has_every_generic_cell_and_what_mapping_needs(library):
    for name, (inputs, functions) in FUNCTIONS.items():
        places = range(inputs)
        tables = [
            sum(function(*(index >> place & 1 for place in places)) << index for index in range(1 << inputs))
            for function in functions
        ]
        assert library.matching(*tables, inputs=inputs) is not None, name
    assert library.kind("flip-flop") and library.kind("clock gate") and len(library.buffers) == 4


def test_an_inverter_that_drives_four_takes_one_fo4():
    inverter = re.search(r"cell \(INV_X1\).*?cell_rise \(by_load\) \{ values \(\"([\d.]+), ([\d.]+)\"", generic_text())
    empty, full = float(inverter[1]), float(inverter[2])
    assert empty + 4 * (full - empty) / 1000 == pytest.approx(1, rel=1e-3)


@pytest.mark.synth
def test_a_generic_cell_is_one_cell_here_and_one_table_on_an_fpga(library):
    text = convert(Chosen(), "chosen")
    found = implement(text, "chosen", library, cache=None)
    assert found.cells["AOI22_X1"] == 1
    assert found.cells["DFF_X1"] == 5
    if sta_version():
        assert 2 < found.critical_path_ns < 6  # clock to output, the gate, set-up
    assert (synthesise(text, "chosen", "ecp5", cache=None).lut, synthesise(text, "chosen", "ice40", cache=None).ff) == (
        1,
        5,
    )
