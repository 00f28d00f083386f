"""The buses that a component's pins make, found by the pins' conventional names.

One description serves all who must know: the attributes in the Verilog by which Vivado's block designer groups pins
(UG1118, UG994: X_INTERFACE_INFO, X_INTERFACE_PARAMETER), and whatever is exported beside it.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from amaranth.hdl import Shape
from amaranth.lib.wiring import Component

__all__ = ["Interface", "find_interfaces", "mark_pins"]

BUS = re.compile(r"([sm]_axis_\w+|s_axi|m_axi\d+)_([a-z]+)")

SIGNALS = {
    "aclk": ("clock", "CLK", False),
    "aresetn": ("reset", "RST", False),
    "irq": ("interrupt", "INTERRUPT", True),
}
"""Pins that are buses of their own: kind, logical name, whether this side drives it."""

TYPES = {
    "axi_lite": "xilinx.com:interface:aximm:1.0",
    "axi4": "xilinx.com:interface:aximm:1.0",
    "axi_stream": "xilinx.com:interface:axis:1.0",
    "clock": "xilinx.com:signal:clock:1.0",
    "reset": "xilinx.com:signal:reset:1.0",
    "interrupt": "xilinx.com:signal:interrupt:1.0",
}
"""Vendor, library, name and version of the bus of each kind."""


@dataclasses.dataclass(frozen=True)
class Interface:
    """A bus of a component."""

    name: str
    """What its pins' names begin with, or the one pin's name."""
    kind: str
    """One of axi_lite, axi4, axi_stream, clock, reset, interrupt."""
    master: bool
    """Whether it is on this side that transfers begin, or that drives the wire."""
    pins: Mapping[str, str]
    """The component's pin of each logical one, such as AWADDR."""
    parameters: Mapping[str, str]
    """What a block designer is told of it."""

    @property
    def type(self) -> str:
        """Vendor, library, name and version of the bus, joined by colons."""
        return TYPES[self.kind]


def find_interfaces(widths: Mapping[str, int]) -> tuple[Interface, ...]:
    """Return the buses that pins of these names and widths make, in the order of the pins; every pin is in one.

    Raises
    ------
    ValueError
        If the name of a pin belongs to no bus.
    """
    groups: dict[str, dict[str, str]] = {}
    for pin in widths:
        found = BUS.fullmatch(pin)
        if pin not in SIGNALS and not found:
            raise ValueError(f"pin {pin!r} is not named as one of an AXI bus, and is not one of {', '.join(SIGNALS)}")
        bus, logical = (found[1], found[2].upper()) if found else (pin, SIGNALS[pin][1])
        groups.setdefault(bus, {})[logical] = pin
    buses = [name for name in groups if name not in SIGNALS]
    return tuple(_interface(name, pins, widths, buses) for name, pins in groups.items())


def _interface(name: str, pins: Mapping[str, str], widths: Mapping[str, int], buses: Iterable[str]) -> Interface:
    if name in SIGNALS:
        kind, _, drives = SIGNALS[name]
        parameters = {
            "clock": {"ASSOCIATED_BUSIF": ":".join(buses), "ASSOCIATED_RESET": "aresetn"},
            "reset": {"POLARITY": "ACTIVE_LOW"},
            "interrupt": {"SENSITIVITY": "LEVEL_HIGH"},
        }[kind]
        return Interface(name, kind, drives, pins, parameters)
    width = {logical: widths[pin] for logical, pin in pins.items()}
    master = name.startswith("m_")
    if "TDATA" in pins:
        return Interface(
            name, "axi_stream", master, pins, {"TDATA_NUM_BYTES": str(width["TDATA"] // 8), "HAS_TLAST": "1"}
        )
    common = {"ADDR_WIDTH": str(width["ARADDR"]), "DATA_WIDTH": str(width["RDATA"])}
    if "ARLEN" not in pins:
        return Interface(name, "axi_lite", master, pins, {"PROTOCOL": "AXI4LITE", **common})
    burst = {"ID_WIDTH": str(width["ARID"]), "SUPPORTS_NARROW_BURST": "0", "MAX_BURST_LENGTH": "256"}
    return Interface(name, "axi4", master, pins, {"PROTOCOL": "AXI4", **common, **burst})


def mark_pins(component: Component) -> None:
    """Give every pin of a component the attributes by which Vivado's block designer knows its bus."""
    widths = {name: Shape.cast(member.shape).width for name, member in component.signature.members.items()}
    for interface in find_interfaces(widths):
        for number, (logical, pin) in enumerate(interface.pins.items()):
            attributes = {"X_INTERFACE_INFO": f"{interface.type} {interface.name} {logical}"}
            if number == 0:
                values = [f"{name} {value}" for name, value in interface.parameters.items()]
                attributes["X_INTERFACE_PARAMETER"] = ", ".join([f"XIL_INTERFACENAME {interface.name}", *values])
            getattr(component, pin).attrs.update(attributes)
