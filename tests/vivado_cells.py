"""The cells of a block design by their pins and interfaces, as Vivado's block designer names them.

Facts: AMD PG201 (Zynq UltraScale+ PS), PG247 (SmartConnect), PG164 (Processor System Reset), UG1085 (addresses). A
module's own are found in the attributes of its Verilog, as the block designer does (UG994).
"""

import dataclasses
import re

CLOCK, RESET, OTHER = "clock", "reset", "other"

WINDOWS = {
    "M_AXI_HPM0_FPD": (0xA0000000, 1 << 28),
    "M_AXI_HPM1_FPD": (0xB0000000, 1 << 28),
    "M_AXI_HPM0_LPD": (0x80000000, 1 << 29),
}
"""Where the processors see the fabric (UG1085), lower windows."""

PS_DEFAULTS = {"PSU__USE__M_AXI_GP0": 1, "PSU__USE__M_AXI_GP1": 1, "PSU__USE__M_AXI_GP2": 1} | {
    f"PSU__USE__S_AXI_GP{number}": 0 for number in range(2, 6)
}
MASTERS = ("M_AXI_HPM0_FPD", "M_AXI_HPM1_FPD", "M_AXI_HPM0_LPD")


@dataclasses.dataclass
class Pin:
    """A pin of a cell: which way, and what for."""

    output: bool
    kind: str = OTHER
    needed: bool = True


@dataclasses.dataclass
class Bus:
    """An interface of a cell: whether it begins transfers, and the cell's pin that clocks it."""

    master: bool
    clock: str
    lite: bool = False
    data: int = 0


@dataclasses.dataclass
class Cell:
    """A cell of the design, which knows its pins only when its configuration is done."""

    kind: str
    config: dict[str, str] = dataclasses.field(default_factory=dict)
    module: tuple[dict[str, Pin], dict[str, Bus]] | None = None

    @property
    def parts(self) -> tuple[dict[str, Pin], dict[str, Bus]]:
        """Pins and interfaces."""
        if self.module is not None:
            return self.module
        kinds = {"zynq_ultra_ps_e": self._ps, "proc_sys_reset": self._reset, "smartconnect": self._smartconnect}
        return kinds[self.kind]()

    def _ps(self) -> tuple[dict[str, Pin], dict[str, Bus]]:
        value = lambda name: int(self.config.get(name, PS_DEFAULTS.get(name, 0)))  # noqa: E731
        pins, buses = {"pl_resetn0": Pin(True, RESET)}, {}
        if value("PSU__FPGA_PL0_ENABLE"):
            pins["pl_clk0"] = Pin(True, CLOCK)
        if value("PSU__USE__IRQ0"):
            pins["pl_ps_irq0"] = Pin(False)
        for number, name in enumerate(MASTERS):
            if value(f"PSU__USE__M_AXI_GP{number}"):
                clock = name.replace("M_AXI_", "maxi").lower() + "_aclk"
                pins[clock], buses[name] = Pin(False, CLOCK), Bus(True, clock)
        for port in range(4):
            if value(f"PSU__USE__S_AXI_GP{port + 2}"):
                clock, width = f"saxihp{port}_fpd_aclk", value(f"PSU__SAXIGP{port + 2}__DATA_WIDTH") or 128
                pins[clock], buses[f"S_AXI_HP{port}_FPD"] = Pin(False, CLOCK), Bus(False, clock, data=width)
        return pins, buses

    def _reset(self) -> tuple[dict[str, Pin], dict[str, Bus]]:
        outputs = ("peripheral_aresetn", "interconnect_aresetn", "peripheral_reset", "bus_struct_reset", "mb_reset")
        optional = ("aux_reset_in", "mb_debug_sys_rst", "dcm_locked")
        return {
            "slowest_sync_clk": Pin(False, CLOCK),
            "ext_reset_in": Pin(False, RESET),
            **{name: Pin(True, RESET) for name in outputs},
            **{name: Pin(False, RESET, needed=False) for name in optional},
        }, {}

    def _smartconnect(self) -> tuple[dict[str, Pin], dict[str, Bus]]:
        buses = {f"S{number:02}_AXI": Bus(False, "aclk") for number in range(int(self.config.get("NUM_SI", 2)))}
        buses |= {f"M{number:02}_AXI": Bus(True, "aclk") for number in range(int(self.config.get("NUM_MI", 1)))}
        return {"aclk": Pin(False, CLOCK), "aresetn": Pin(False, RESET)}, buses


def module_parts(text: str, top: str) -> tuple[dict[str, Pin], dict[str, Bus]]:
    """Return the pins and interfaces that the attributes in a module's Verilog make."""
    found = re.search(rf"^module {top}\b.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no module {top}"
    port = r'((?:\s*\(\* \w+ = "[^"]*" \*\))*)\s*(input|output) (?:reg |wire )?(?:\[(\d+):0\] )?(\w+);'
    pins: dict[str, Pin] = {}
    groups: dict[str, dict[str, tuple[bool, int]]] = {}
    settings: dict[str, dict[str, str]] = {}
    for attributes, way, high, name in re.findall(port, found[0]):
        given = dict(re.findall(r'\(\* (\w+) = "([^"]*)" \*\)', attributes))
        kind, bus, logical = given["X_INTERFACE_INFO"].split()
        if "X_INTERFACE_PARAMETER" in given:
            words = [word.split(" ", 1) for word in given["X_INTERFACE_PARAMETER"].split(", ")]
            assert words[0] == ["XIL_INTERFACENAME", bus]
            settings[bus] = dict(words[1:])
        if kind.startswith("xilinx.com:signal:"):
            pins[name] = Pin(way == "output", {"clock": CLOCK, "reset": RESET}.get(kind.split(":")[2], OTHER))
        else:
            assert kind == "xilinx.com:interface:aximm:1.0"
            assert name == f"{bus}_{logical.lower()}"
            groups.setdefault(bus, {})[logical] = (way == "output", int(high or 0) + 1)
    assert settings["aclk"]["ASSOCIATED_RESET"] == "aresetn" and pins["aclk"].kind == CLOCK
    assert settings["aresetn"]["POLARITY"] == "ACTIVE_LOW" and pins["aresetn"].kind == RESET
    assert sorted(settings["aclk"]["ASSOCIATED_BUSIF"].split(":")) == sorted(groups)
    buses = {}
    for bus, signals in groups.items():
        lite = settings[bus]["PROTOCOL"] == "AXI4LITE"
        assert lite == ("ARLEN" not in signals) and int(settings[bus]["DATA_WIDTH"]) == signals["RDATA"][1]
        buses[bus] = Bus(signals["ARVALID"][0], "aclk", lite, signals["RDATA"][1])
    return pins, buses
