"""AMD Kria KV260: an UltraScale+ XCK26 beside four ARM cores and their DDR4, for which Vivado makes the bitstream.

The folder that is made for it holds what Vivado needs, and what runs on the board under PYNQ. Facts: AMD UG1085
(Zynq UltraScale+ TRM: four HP ports of up to 128 bits, HPM0 at 0xA0000000), DS987 (XCK26).
"""

import dataclasses
from pathlib import Path

__all__ = ["BITSTREAM", "CELL", "CLOCK_MHZ", "CONSTRAINTS", "SCRIPT", "Settings"]

BITSTREAM = "nomul.bit"
"""What the script leaves, beside a file of the same name that ends in .hwh."""

CELL = "machine"
"""Name of the machine in the block design."""

CLOCK_MHZ = 250.0

SCRIPT = Path(__file__).with_suffix(".tcl")
CONSTRAINTS = Path(__file__).with_suffix(".xdc")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the script of the block design is told of a machine.

    Raises
    ------
    ValueError
        If the chip cannot do it.
    """

    top: str
    """The machine's module."""
    ports: int
    """AXI4 masters; 0 for a machine whose weights are on the chip."""
    port_bits: int
    clock_mhz: float = CLOCK_MHZ

    def __post_init__(self) -> None:
        """Check against the chip."""
        if not 0 <= self.ports <= 4:
            raise ValueError(f"ports is {self.ports}; a KV260 has 4 HP ports")
        if self.ports and self.port_bits not in (32, 64, 128):
            raise ValueError(f"port_bits is {self.port_bits}; an HP port of a KV260 has 32, 64 or 128")
        if not 10 <= self.clock_mhz <= 333:
            raise ValueError(f"clock_mhz is {self.clock_mhz:g}; allowed on a KV260: 10 to 333")

    @property
    def tcl(self) -> str:
        """Return the settings as the script reads them."""
        values = {
            "part": "xck26-sfvc784-2LV-c",
            "board": "kv260_som",
            "top": self.top,
            "clock_mhz": f"{self.clock_mhz:g}",
            "ports": self.ports,
            "port_bits": self.port_bits,
        }
        return "".join(f"set {name} {value}\n" for name, value in values.items())
