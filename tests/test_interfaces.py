"""Buses found by the names of pins, and registers whose bits are cleared."""

import pytest

from nomul.bus.axi4 import axi4_members
from nomul.bus.axi_lite import Register, axi_lite_members
from nomul.bus.interfaces import find_interfaces


def test_pins_make_buses() -> None:
    widths = {"aclk": 1, "irq": 1, "s_axis_a_b_tdata": 24, "s_axis_a_b_tvalid": 1}
    widths |= dict.fromkeys(axi_lite_members("s_axi"), 8) | dict.fromkeys(axi4_members("m_axi", 2, 32, 64), 64)
    found = {interface.name: interface for interface in find_interfaces(widths)}
    kinds = {name: (interface.kind, interface.master) for name, interface in found.items()}
    assert kinds == {
        "aclk": ("clock", False), "irq": ("interrupt", True), "s_axis_a_b": ("axi_stream", False),
        "s_axi": ("axi_lite", False), "m_axi0": ("axi4", True), "m_axi1": ("axi4", True),
    }  # fmt: skip
    assert found["s_axis_a_b"].pins == {"TDATA": "s_axis_a_b_tdata", "TVALID": "s_axis_a_b_tvalid"}
    assert found["s_axis_a_b"].parameters["TDATA_NUM_BYTES"] == "3"
    assert found["aclk"].parameters["ASSOCIATED_BUSIF"] == "s_axis_a_b:s_axi:m_axi0:m_axi1"
    assert sum(len(interface.pins) for interface in found.values()) == len(widths)


def test_a_pin_of_no_bus_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^pin 'fault' is not named as one of an AXI bus, and is not one of aclk, .*$"
    ):
        find_interfaces({"aclk": 1, "fault": 1})


def test_a_bit_that_is_cleared_must_be_one_of_the_register() -> None:
    with pytest.raises(ValueError, match=r"^register STATUS has cleared \('gone',\); allowed: its bits, done, busy$"):
        Register("STATUS", 0, "rw", "state", ("done: a job has ended", "busy: one has not"), ("gone",))
