"""A machine behind its registers, with its DRAM, in a simulator."""

from typing import Any

from amaranth.hdl import ClockDomain, DomainRenamer, Module
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.axi_top import AxiMachine
from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.weights import ADDRESS_BITS
from nomul.bus.axi4 import pass_pins
from nomul.bus.axi_lite import axi_lite_members
from nomul.export.rtlil import verilog
from nomul.sim.accelerator import stripe_bytes
from nomul.sim.dram import Dram, DramConfig, attach, verilog_with_dram
from nomul.sim.runner import Simulator, build

__all__ = ["AxiMachineWithDram", "build_axi_machine"]

TOP = "machine_axi"


class AxiMachineWithDram(Component):
    """A machine with AXI pins, and its DRAM behind them, which `aresetn` resets too.

    Further members
    ---------------
    stall, error_low, error_high : In
        As of `nomul.sim.dram.Dram`.
    violation : Out(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        size = config.ports * stripe_bytes(config)
        self.top = AxiMachine(config)
        self.dram = Dram(DramConfig(ports=config.ports, port_bits=config.port_bits, size=size))
        super().__init__(
            {"aclk": In(1), "aresetn": In(1), "irq": Out(1)}
            | axi_lite_members("s_axi")
            | {"stall": In(8), "error_low": In(ADDRESS_BITS), "error_high": In(ADDRESS_BITS), "violation": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        """Connect them."""
        m = Module()
        m.domains.outside = outside = ClockDomain(local=True)
        top, dram = self.top, self.dram
        m.submodules.top, m.submodules.dram = top, DomainRenamer("outside")(dram)
        attach(m, dram, top)
        pins: dict[str, Any] = {"aclk": In(1), "aresetn": In(1), "irq": Out(1)} | axi_lite_members("s_axi")
        m.d.comb += [
            outside.clk.eq(self.aclk),
            outside.rst.eq(~self.aresetn),
            dram.bus_reset.eq(~self.aresetn),
            dram.stall.eq(self.stall),
            dram.error_low.eq(self.error_low),
            dram.error_high.eq(self.error_high),
            self.violation.eq(dram.violation),
            *pass_pins(self, top, pins),
        ]
        return m


def build_axi_machine(config: AcceleratorConfig) -> Simulator:
    """Generate a machine behind its registers, with DRAM if that is its memory, and build a simulator of it."""
    target = config.engine_config.target
    if config.memory == "block":
        return build(verilog(AxiMachine(config), TOP), TOP, target=target)
    return build(verilog_with_dram(AxiMachineWithDram(config), TOP), TOP, target=target)
