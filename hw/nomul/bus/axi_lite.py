"""AXI4-Lite registers: a slave that answers for a declared list of 32-bit registers.

The protocol is Arm IHI 0022 (AXI and ACE protocol specification), chapter B1. No output depends on an input in the same
cycle, so that interconnect of any kind can be put before it.

Cycle schedule: the address and the data of a write are held from the cycles in which they come, in any order; the
register is written in the cycle after both are held and the last response has left, and its response is offered in the
next. A read's data is offered in the cycle after its address is taken. One write and one read are under way at a time.
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Member, Out

__all__ = ["ADDRESS_BITS", "AxiLiteRegisters", "Register", "axi_lite_members"]

ADDRESS_BITS = 8
"""Width of a byte address: the slave covers 256 bytes."""

OKAY, SLVERR = 0b00, 0b10


@dataclasses.dataclass(frozen=True)
class Register:
    """One register of 32 bits.

    Raises
    ------
    ValueError
        If the offset is not that of a word within the slave, or there is no such access or bit.
    """

    name: str
    """Name, in capitals."""

    offset: int
    """Byte address, a multiple of 4."""

    access: str
    """'r' can be read, 'w' can be written and reads as zero, 'rw' both; another access is answered with SLVERR."""

    meaning: str
    """What it holds or does, with units."""

    bits: tuple[str, ...] = ()
    """Names of its single bits from bit 0, each with its meaning after a colon; the bits above are zero."""

    cleared: tuple[str, ...] = ()
    """Names of those that writing 1 clears; if there are any, the others can only be read."""

    def __post_init__(self) -> None:
        """Check the offset and the access."""
        if self.offset not in range(0, 1 << ADDRESS_BITS, 4):
            raise ValueError(
                f"register {self.name} has offset {self.offset}; allowed: multiples of 4 below {1 << ADDRESS_BITS}"
            )
        if self.access not in ("r", "w", "rw"):
            raise ValueError(f"register {self.name} has access {self.access!r}; allowed: r, w, rw")
        if not set(self.cleared) <= set(self.bit_names):
            raise ValueError(
                f"register {self.name} has cleared {self.cleared}; allowed: its bits, {', '.join(self.bit_names)}"
            )

    @property
    def bit_names(self) -> list[str]:
        """The names alone of its single bits, from bit 0."""
        return [bit.partition(":")[0] for bit in self.bits]


def axi_lite_members(prefix: str) -> dict[str, Member]:
    """Return the pins of an AXI4-Lite slave with 32 data bits, by their conventional names."""
    pins = {
        "awaddr": In(ADDRESS_BITS), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(ADDRESS_BITS), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
    }  # fmt: skip
    return {f"{prefix}_{name}": member for name, member in pins.items()}


class AxiLiteRegisters(Component):
    """The bus side of a register file; what the registers hold is kept by whoever instantiates it.

    The two low bits of an address are ignored, and so is the kind of protection. An access to an address without a
    register, or one that the register does not allow, does nothing and is answered with SLVERR; such a read gives zero.

    Parameters
    ----------
    registers : sequence of Register

    Members
    -------
    s_axi_* : pins of the bus
    values : In([32] for each register)
        What a read returns, sampled in the cycle in which the address is taken.
    written : Out(1 for each register)
        The register is written in this cycle.
    data, mask : Out(32)
        What is written, and which bits of it (`wstrb` for every bit): the others keep their value.

    Raises
    ------
    ValueError
        If two registers have the same offset.
    """

    def __init__(self, registers: Sequence[Register]) -> None:
        self.registers = tuple(registers)
        offsets = [register.offset for register in registers]
        if len(set(offsets)) != len(offsets):
            raise ValueError(f"two registers have the same offset; the offsets are {offsets}")
        super().__init__(
            axi_lite_members("s_axi")
            | {
                "values": In(data.ArrayLayout(32, len(registers))),
                "written": Out(len(registers)),
                "data": Out(32),
                "mask": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the five channels."""
        m = Module()
        self._writes(m)
        self._reads(m)
        return m

    def _selected(self, address: Signal, access: str) -> list[Signal]:
        """Return for each register whether it is at a word address and allows the access."""
        return [(address == register.offset >> 2) & (access in register.access) for register in self.registers]

    def _writes(self, m: Module) -> None:
        address, strobe = Signal(ADDRESS_BITS - 2), Signal(4)
        addressed, supplied, execute = Signal(), Signal(), Signal()
        m.d.comb += [self.s_axi_awready.eq(~addressed), self.s_axi_wready.eq(~supplied)]
        with m.If(self.s_axi_awvalid & ~addressed):
            m.d.sync += [addressed.eq(1), address.eq(self.s_axi_awaddr[2:])]
        with m.If(self.s_axi_wvalid & ~supplied):
            m.d.sync += [supplied.eq(1), self.data.eq(self.s_axi_wdata), strobe.eq(self.s_axi_wstrb)]

        selected = Cat(self._selected(address, "w"))
        m.d.comb += [
            execute.eq(addressed & supplied & ~self.s_axi_bvalid),
            self.mask.eq(Cat(bit.replicate(8) for bit in strobe)),
            self.written.eq(Mux(execute, selected, 0)),
        ]
        with m.If(execute):
            m.d.sync += [
                addressed.eq(0),
                supplied.eq(0),
                self.s_axi_bvalid.eq(1),
                self.s_axi_bresp.eq(Mux(selected.any(), OKAY, SLVERR)),
            ]
        with m.Elif(self.s_axi_bready):
            m.d.sync += self.s_axi_bvalid.eq(0)

    def _reads(self, m: Module) -> None:
        selected = self._selected(self.s_axi_araddr[2:], "r")
        word = Signal(32)
        m.d.comb += self.s_axi_arready.eq(~self.s_axi_rvalid)
        for number, chosen in enumerate(selected):
            with m.If(chosen):
                m.d.comb += word.eq(self.values[number])
        with m.If(self.s_axi_arvalid & ~self.s_axi_rvalid):
            m.d.sync += [
                self.s_axi_rvalid.eq(1),
                self.s_axi_rdata.eq(word),
                self.s_axi_rresp.eq(Mux(Cat(selected).any(), OKAY, SLVERR)),
            ]
        with m.Elif(self.s_axi_rready):
            m.d.sync += self.s_axi_rvalid.eq(0)
