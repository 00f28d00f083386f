"""A block design, and what is wrong with it.

It is checked as `validate_bd_design` would: pins that nothing drives, interfaces without a partner, clocks that differ,
memory without an address.
"""

import itertools
from typing import Any

from tests.vivado_cells import OTHER, WINDOWS, Cell


class BlockDesign:
    """Cells, and what connects them; pins and interfaces are named by their paths, `/CELL/NAME`."""

    def __init__(self) -> None:
        self.cells: dict[str, Cell] = {}
        self.nets: list[tuple[str, str]] = []
        """Driver and driven pin."""
        self.links: list[tuple[str, str]] = []
        """Master and slave interface."""
        self.mapped: dict[tuple[str, str], tuple[int, int]] = {}
        """By address space and segment: offset and size."""
        self.excluded: set[tuple[str, str]] = set()

    def part(self, path: str, place: int) -> Any:
        """Return a pin (place 0) or an interface (place 1) by its path; None if there is none."""
        cell, _, name = path.lstrip("/").partition("/")
        return self.cells[cell].parts[place].get(name) if cell in self.cells else None

    def segments(self) -> dict[str, str]:
        """Return the interface behind each segment."""
        found = {}
        for name, cell in self.cells.items():
            for bus, one in cell.parts[1].items():
                if cell.kind == "module" and not one.master:
                    found[f"{name}/{bus}/reg0"] = f"/{name}/{bus}"
                if cell.kind == "zynq_ultra_ps_e" and not one.master:
                    port = int(bus[8])
                    for area in ("DDR_LOW", "DDR_HIGH", "QSPI", "LPS_OCM"):
                        found[f"{name}/SAXIGP{port + 2}/HP{port}_{area}"] = f"/{name}/{bus}"
        return found

    def reached(self, bus: str) -> list[str]:
        """Return the slave interfaces that transfers of a master get to, through interconnect."""
        ends = [sink for source, sink in self.links if source == bus]
        found = []
        for end in ends:
            cell = end.split("/")[1]
            if self.cells[cell].kind == "smartconnect":
                for name, one in self.cells[cell].parts[1].items():
                    found += self.reached(f"/{cell}/{name}") if one.master else []
            else:
                found.append(end)
        return found

    def problems(self) -> list[str]:
        """Return what is wrong with the design."""
        wrong = []
        driver = {sink: source for source, sink in self.nets}
        for name, cell in self.cells.items():
            pins, buses = cell.parts
            for pin, one in pins.items():
                path = f"/{name}/{pin}"
                if not one.output and one.needed and path not in driver:
                    wrong.append(f"nothing drives {path}")
                if path in driver and one.kind != OTHER and self.part(driver[path], 0).kind != one.kind:
                    wrong.append(f"{driver[path]} is no {one.kind} for {path}")
            wrong += [
                f"{path} is open" for path in (f"/{name}/{bus}" for bus in buses)
                if not any(path in link for link in self.links)
            ]  # fmt: skip
        for source, sink in self.links:
            clocks = {driver.get(f"/{end.split('/')[1]}/{self.part(end, 1).clock}") for end in (source, sink)}
            if len(clocks) != 1:
                wrong.append(f"{source} and {sink} have different clocks")
        for name, cell in self.cells.items():
            for bus, one in cell.parts[1].items():
                if one.master and cell.kind != "smartconnect":
                    wrong += self._unmapped(name, bus, cell)
        return wrong

    def widths(self) -> dict[str, tuple[int, int]]:
        """Return the widths of a master and its slave, through interconnect, where they differ."""
        found = {}
        for name, cell in self.cells.items():
            for bus, one in cell.parts[1].items():
                for end in self.reached(f"/{name}/{bus}") if one.master and one.data else []:
                    other = self.part(end, 1).data
                    if other and other != one.data:
                        found[f"/{name}/{bus}"] = (one.data, other)
        return found

    def _unmapped(self, name: str, bus: str, cell: Cell) -> list[str]:
        """Return what a master cannot reach, or reaches where it must not."""
        ps = cell.kind == "zynq_ultra_ps_e"
        space, wrong, areas = f"/{name}/{'Data' if ps else bus}", [], []
        low, size = WINDOWS[bus] if ps else (0, 1 << 32)
        for end in self.reached(f"/{name}/{bus}"):
            for segment in (f"/{segment}" for segment, slave in self.segments().items() if slave == end):
                if (space, segment) in self.mapped:
                    offset, length = self.mapped[space, segment]
                    if offset < low or offset + length > low + size:
                        wrong.append(f"{segment} is outside of what {bus} reaches")
                    areas.append((offset, offset + length))
                elif (space, segment) not in self.excluded:
                    wrong.append(f"{segment} has no address for {space}")
        areas.sort()
        wrong += [f"addresses of {space} overlap" for one, behind in itertools.pairwise(areas) if one[1] > behind[0]]
        return wrong
