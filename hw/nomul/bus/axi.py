"""Any core on standard buses: AXI4-Stream for its data, AXI4-Lite for its jobs, one interrupt.

Made for a vendor's block design: the pins have the conventional names, and carry the attributes by which Vivado groups
them. The protocols are Arm IHI 0022 (AXI4-Lite) and IHI 0051 (AXI4-Stream). Streams pass through without a register, so
that a core behind AXI takes exactly the cycles of its model; put register slices before it where timing asks.

Streams, a transfer of the core in each transfer of the bus; `nomul.contract.Port.container` says the bits of a
container:

    s_axis_NAME   lane i in container i; bits above a value are ignored, and so is `tlast`
    m_axis_NAME   the same, sign-extended, or zero-extended where values are unsigned; `tlast` ends a vector

The job says how many transfers a vector has. With `padded`, each stream is as wide as the next power of two of bytes,
as DMA engines and width converters want it; the bytes above are ignored, or zero.

Registers: `nomul.bus.job_registers` says which, and how a job is run. Its data may be sent before or after START.
"""

from amaranth.hdl import ClockDomain, Module, Value
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.bus.axi_lite import axi_lite_members
from nomul.bus.interfaces import mark_pins
from nomul.bus.job_registers import JobRegisters
from nomul.contract import CoreConfig

__all__ = ["AxiCore", "axi_stream_members"]


def axi_stream_members(prefix: str, width: int, *, master: bool, padded: bool = False) -> dict[str, Member]:
    """Return the pins of an AXI4-Stream port of `width` data bits in whole bytes, or in a power of two of bytes."""
    width = -(-width // 8) * 8
    if padded:
        width = 1 << (width - 1).bit_length()
    forward, backward = (Out, In) if master else (In, Out)
    pins = {"tdata": forward(width), "tvalid": forward(1), "tready": backward(1), "tlast": forward(1)}
    return {f"{prefix}_{name}": member for name, member in pins.items()}


class AxiCore(Component):
    """A core with AXI pins, to be the top module of a design; the module's docstring says how it is used.

    Parameters
    ----------
    core : Component
        Any core that keeps `nomul.contract`.
    config : CoreConfig
        The configuration that it was made from, a dataclass.
    number : int
        What the register ENGINE holds, 32 bits.
    padded : bool
        Whether streams are as wide as a power of two of bytes.

    Members
    -------
    aclk, aresetn : In(1)
        Clock, and synchronous reset, active low. They make a clock domain of their own.
    irq : Out(1)
        Interrupt, active high, by level.
    s_axi_* : AXI4-Lite slave
    s_axis_NAME_*, m_axis_NAME_* : AXI4-Stream slaves and masters

    Raises
    ------
    ValueError
        If `number` does not fit the register.
    """

    def __init__(self, core: Component, config: CoreConfig, number: int, *, padded: bool = False) -> None:
        if number not in range(1 << 32):
            raise ValueError(f"core number {number!r} is not one of 0 to {(1 << 32) - 1}")
        self.core, self.config, self.number = core, config, number
        pins = {"aclk": In(1), "aresetn": In(1), "irq": Out(1)} | axi_lite_members("s_axi")
        for ports, prefix in ((config.inputs, "s_axis"), (config.outputs, "m_axis")):
            for port in ports:
                width, master = port.container * port.lanes, prefix == "m_axis"
                pins |= axi_stream_members(f"{prefix}_{port.name}", width, master=master, padded=padded)
        super().__init__(pins)
        mark_pins(self)

    def elaborate(self, platform: object) -> Module:
        """Wire the core to the buses, lane by lane, and keep the registers."""
        m = Module()
        m.domains.sync = sync = ClockDomain(local=True)
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        m.submodules.core = core = self.core
        m.submodules.jobs = jobs = JobRegisters(self.config, self.number)
        for name, member in ({"irq": Out(1)} | axi_lite_members("s_axi")).items():
            outer, inner = getattr(self, name), getattr(jobs, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        m.d.comb += [
            core.jobs.payload.eq(jobs.jobs.payload),
            core.jobs.valid.eq(jobs.jobs.valid),
            jobs.jobs.ready.eq(core.jobs.ready),
            jobs.ends.eq(core.results.valid & core.results.ready & core.results.payload.last),
        ]
        for port in self.config.inputs:
            stream, bus = getattr(core, port.name), f"s_axis_{port.name}"
            data, lanes = getattr(self, f"{bus}_tdata"), Value.cast(stream.payload)
            m.d.comb += [
                stream.valid.eq(getattr(self, f"{bus}_tvalid")),
                getattr(self, f"{bus}_tready").eq(stream.ready),
            ]
            for lane in range(port.lanes):
                m.d.comb += lanes.word_select(lane, port.shape.width).eq(data.word_select(lane, port.container))
        for port in self.config.outputs:
            stream, bus = getattr(core, port.name), f"m_axis_{port.name}"
            data = getattr(self, f"{bus}_tdata")
            m.d.comb += [
                getattr(self, f"{bus}_tvalid").eq(stream.valid),
                getattr(self, f"{bus}_tlast").eq(stream.payload.last),
                stream.ready.eq(getattr(self, f"{bus}_tready")),
            ]
            for lane in range(port.lanes):
                m.d.comb += data.word_select(lane, port.container).eq(stream.payload["values"][lane])
        return m
