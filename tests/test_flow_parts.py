"""Synthesis with the parts of a design counted apart."""

from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

from nomul.errors import ToolError
from nomul.export.rtlil import convert
from nomul.fpga.hierarchy import children, synthesise_parts
from nomul.memory.rom import Rom, rom_model


class Sum(Component):
    """A registered sum of so many bits."""

    def __init__(self, bits: int) -> None:
        super().__init__({"a": In(bits), "b": In(bits), "total": Out(bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.total.eq(self.a + self.b)
        return m


class Design(Component):
    """Two equal sums, one of another width, a memory from a file, and a register of its own."""

    a: In(16)
    total: Out(16)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.first, m.submodules.second, m.submodules.small = parts = Sum(16), Sum(16), Sum(8)
        m.submodules.rom = rom = Rom(16, 512, "words.hex")
        held = Signal(16)
        m.d.sync += held.eq(rom.data)
        m.d.comb += [
            rom.enable.eq(1),
            rom.address.eq(self.a),
            parts[0].a.eq(self.a),
            parts[0].b.eq(held),
            parts[1].a.eq(self.a),
            parts[1].b.eq(parts[0].total),
            parts[2].a.eq(parts[1].total),
            parts[2].b.eq(parts[1].total[8:]),
            self.total.eq(parts[1].total ^ parts[2].total),
        ]
        return m


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    text = convert(Design(), "design")
    inside = children(text, "design")
    assert set(inside) == {"first", "second", "small", "rom"} and inside["first"] == inside["second"]
    files = {"rom.v": rom_model(text), "words.hex": "".join(f"{n * 40503 % 65536:04x}\n" for n in range(512))}
    kept = sorted(set(inside.values()))
    for _ in range(2):  # the second time from the cache
        found = synthesise_parts(text, "design", "ecp5", kept, files=files, netlist=True, cache=tmp_path)
        ffs = {name: part.ff for name, part in found.parts.items()}
        assert ffs == {inside["first"]: 32, inside["small"]: 8, inside["rom"]: 16, "design": 16}
        assert found.parts[inside["rom"]].bram == 1
        assert found.total.ff == sum(ffs.values()) and found.total.netlist is not None
        assert found.total.lut == sum(part.lut for part in found.parts.values())


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    text = convert(Design(), "design")
    with pytest.raises(ToolError, match=r"readmemh"):
        synthesise_parts(text, "design", "ecp5", [], files={"rom.v": rom_model(text)}, cache=None)
