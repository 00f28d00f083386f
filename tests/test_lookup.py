"""The memories of look-up engines: AMD's form equals the portable one, and takes no more than the portable one."""

import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.lookup import LookupMemory
from nomul.arith.target import AMD, Target
from nomul.arith.xilinx import lutram_parts
from nomul.export.rtlil import convert
from nomul.jobs.yosys_run import run_yosys


class Both(Component):
    """The portable form and a target's, on the same inputs; `differ` compares the words of every reader."""

    def __init__(self, width: int, depth: int, readers: int, target: Target) -> None:
        self.forms = [LookupMemory(width, depth, readers, form) for form in (Target.PORTABLE, target)]
        address = self.forms[0].write_address.shape()
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(address),
                "write_data": In(width),
                "addresses": In(address).array(readers),
                "differ": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, form in zip(("portable", "native"), self.forms, strict=True):
            m.submodules[name] = form
            m.d.comb += [
                form.write_enable.eq(self.write_enable),
                form.write_address.eq(self.write_address),
                form.write_data.eq(self.write_data),
                *(its.eq(mine) for mine, its in zip(self.addresses, form.addresses, strict=True)),
            ]
        m.d.comb += self.differ.eq(Cat(*self.forms[0].words) != Cat(*self.forms[1].words))
        return m


@pytest.mark.synth
@pytest.mark.parametrize("target", AMD)
@pytest.mark.parametrize(("width", "depth", "readers"), [(3, 8, 3), (5, 32, 1), (3, 64, 1), (1, 128, 1)])
def test_amds_form_equals_the_portable_one(width: int, depth: int, readers: int, target: Target) -> None:
    """Proven by SAT with Yosys' models of the primitives, for any two writes and what is read before and after them."""
    script = """
        read_rtlil design.il
        read_verilog -overwrite +/xilinx/cells_sim.v
        hierarchy -top both
        proc
        flatten
        memory_map
        opt
        sat -seq 3 -set-init-zero -prove differ 0 -verify
        write_json done.json
    """
    run_yosys(script, {"design.il": convert(Both(width, depth, readers, target), "both")}, ["done.json"])


@pytest.mark.parametrize(
    ("ports", "target", "parts"),
    [
        (5, Target.XCUP, [7]),
        (10, Target.XCUP, [7, 3]),
        (11, Target.XCUP, [7, 7]),
        (20, Target.XCUP, [7, 7, 7]),
        (80, Target.XCUP, [7] * 11 + [3]),
        (1, Target.XCUP, [3]),
        (20, Target.XC7, [3] * 7),
    ],
)
def test_ports_fill_one_primitive_after_the_other(ports: int, target: Target, parts: list[int]) -> None:
    """Four rows of ten bits are 20 ports of two: three RAM32M16 of 24 look-up tables, where copies would take 32."""
    assert lutram_parts(ports, target) == parts


@pytest.mark.parametrize(("target", "portable"), [(Target.XCUP, (14, 8)), (Target.XC7, (6, 4))])
def test_no_number_of_readers_takes_more_than_a_copy_for_each(target: Target, portable: tuple[int, int]) -> None:
    """A copy of 32 words takes eight look-up tables for 14 bits on UltraScale+, four for six bits on 7 series."""
    most, luts = portable
    for readers in range(1, 33):
        for width in range(1, 25):
            parts = lutram_parts(readers * -(-width // 2), target)
            assert sum(8 if part == 7 else 4 for part in parts) <= readers * -(-width // most) * luts
