"""Any unit on standard buses: one AXI4-Stream for each of its streams, AXI4-Lite for its jobs, one interrupt.

The form, the register map and the attributes are those of `nomul.bus.axi`. The fields of a job are the registers that
`nomul.bus.job_registers` keeps for them, in their order, named as they are.

    s_axis_NAME   lane i in container i, of 8, 16, 32 or 64 bits, the least that holds a value; bits above are ignored,
                  and so is `tlast`
    m_axis_NAME   the same, sign-extended, or zero-extended where values are unsigned; `tlast` ends a vector
"""

from amaranth.hdl import ClockDomain, Module
from amaranth.lib.wiring import Component, In, Out

from nomul.bus.axi import axi_stream_members
from nomul.bus.axi_lite import Register, axi_lite_members
from nomul.bus.interfaces import mark_pins
from nomul.bus.job_registers import JobRegisters, register_map
from nomul.contract import Port, UnitConfig

__all__ = ["AxiUnit", "container_bits", "unit_registers"]


def container_bits(port: Port) -> int:
    """Return the bits that a value takes on the bus."""
    return next(bits for bits in (8, 16, 32, 64) if bits >= port.shape.width)


def unit_registers(config: UnitConfig) -> tuple[Register, ...]:
    """Return the register map of a unit."""
    return register_map({name: f"{name} of the next job, 1 to {limit}" for name, limit in config.job_limits.items()})


class AxiUnit(Component):
    """A unit with AXI pins, to be the top module of a design.

    Parameters
    ----------
    unit : Component
        Any unit that keeps `nomul.contract`.
    config : UnitConfig
        The configuration that it was made from, a dataclass.
    number : int
        What the register ENGINE holds, 32 bits.
    padded : bool
        Whether streams are as wide as a power of two of bytes.

    Members
    -------
    aclk, aresetn, irq, s_axi_*
        As of `nomul.bus.axi.AxiEngine`.
    s_axis_NAME_*, m_axis_NAME_* : AXI4-Stream slaves and masters

    Raises
    ------
    ValueError
        If `number` does not fit the register.
    """

    def __init__(self, unit: Component, config: UnitConfig, number: int, *, padded: bool = False) -> None:
        self.unit, self.config = unit, config
        self.jobs = JobRegisters(config.job_limits, config.repeats, unit_registers(config), number, config)
        pins = {"aclk": In(1), "aresetn": In(1), "irq": Out(1)} | axi_lite_members("s_axi")
        for ports, prefix in ((config.inputs, "s_axis"), (config.outputs, "m_axis")):
            for port in ports:
                bus = f"{prefix}_{port.name}"
                width = container_bits(port) * port.lanes
                pins |= axi_stream_members(bus, width, master=prefix == "m_axis", padded=padded)
        super().__init__(pins)
        mark_pins(self)

    def elaborate(self, platform: object) -> Module:
        """Wire the unit to the buses."""
        m = Module()
        m.domains.sync = sync = ClockDomain(local=True)
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        m.submodules.unit = unit = self.unit
        m.submodules.jobs = jobs = self.jobs
        for name, member in ({"irq": Out(1)} | axi_lite_members("s_axi")).items():
            outer, inner = getattr(self, name), getattr(jobs, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        m.d.comb += [
            unit.jobs.payload.eq(jobs.jobs.payload),
            unit.jobs.valid.eq(jobs.jobs.valid),
            jobs.jobs.ready.eq(unit.jobs.ready),
            jobs.ends.eq(unit.results.valid & unit.results.ready & unit.results.payload.last),
        ]
        for port in self.config.inputs:
            stream, bus = getattr(unit, port.name), f"s_axis_{port.name}"
            m.d.comb += [
                stream.valid.eq(getattr(self, f"{bus}_tvalid")),
                getattr(self, f"{bus}_tready").eq(stream.ready),
            ]
            for lane in range(port.lanes):
                container = getattr(self, f"{bus}_tdata").word_select(lane, container_bits(port))
                m.d.comb += stream.payload[lane].eq(container)
        for port in self.config.outputs:
            stream, bus = getattr(unit, port.name), f"m_axis_{port.name}"
            m.d.comb += [
                getattr(self, f"{bus}_tvalid").eq(stream.valid),
                getattr(self, f"{bus}_tlast").eq(stream.payload.last),
                stream.ready.eq(getattr(self, f"{bus}_tready")),
            ]
            for lane in range(port.lanes):
                container = getattr(self, f"{bus}_tdata").word_select(lane, container_bits(port))
                m.d.comb += container.eq(stream.payload["values"][lane])
        return m
