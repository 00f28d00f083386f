"""Any engine on standard buses: AXI4-Stream for its data, AXI4-Lite for its jobs, one interrupt.

Made for a vendor's block design: the pins have the conventional names, and carry the attributes by which Vivado groups
them. The protocols are Arm IHI 0022 (AXI4-Lite) and IHI 0051 (AXI4-Stream). Streams pass through without a register, so
that an engine behind AXI takes exactly the cycles of its model; put register slices before it where timing asks.

Streams, a transfer of the engine in each transfer of the bus:

    s_axis_activations  lane i in container i, of 8 bits (16 for activations wider than 8); bits above `act_bits` are
                        ignored
    s_axis_weights      the engine's transfer from bit 0, padded to whole bytes; padding is ignored
    m_axis_results      row r in container r, of 32 bits (64 for results wider than 32), sign-extended; `tlast` on the
                        last transfer of a token

`tlast` of the inputs is ignored: the job says how many transfers a vector has. With `padded`, each stream is as wide as
the next power of two of bytes, as DMA engines and width converters want it; the bytes above are ignored, or zero.

Registers: see `REGISTERS`; `nomul.bus.job_registers` says how a job is run. Its data may be sent before or after START.
"""

from amaranth.hdl import ClockDomain, Module, Value
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.bus.axi_lite import axi_lite_members
from nomul.bus.interfaces import mark_pins
from nomul.bus.job_registers import JobRegisters, config_hash, register_map
from nomul.engines.matmul import TOKENS_MAX, EngineConfig

__all__ = ["REGISTERS", "AxiEngine", "axi_stream_members", "config_hash"]

REGISTERS = register_map(
    {
        "n_in": "length of the activation vectors of the next job",
        "n_out": "length of the result vectors of the next job",
        "tokens": "activation vectors of the next job",
    },
    "mode of the next job; without meaning to an engine of one mode",
)
"""The register map, in order of addresses."""


def axi_stream_members(prefix: str, width: int, *, master: bool, padded: bool = False) -> dict[str, Member]:
    """Return the pins of an AXI4-Stream port of `width` data bits in whole bytes, or in a power of two of bytes."""
    width = -(-width // 8) * 8
    if padded:
        width = 1 << (width - 1).bit_length()
    forward, backward = (Out, In) if master else (In, Out)
    pins = {"tdata": forward(width), "tvalid": forward(1), "tready": backward(1), "tlast": forward(1)}
    return {f"{prefix}_{name}": member for name, member in pins.items()}


class AxiEngine(Component):
    """An engine with AXI pins, to be the top module of a design; the module's docstring says how it is used.

    Parameters
    ----------
    engine : Component
        Any engine that keeps `nomul.engines.matmul`.
    config : EngineConfig
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
    s_axis_activations_*, s_axis_weights_* : AXI4-Stream slaves
    m_axis_results_* : AXI4-Stream master

    Raises
    ------
    ValueError
        If `number` does not fit the register.
    """

    def __init__(self, engine: Component, config: EngineConfig, number: int, *, padded: bool = False) -> None:
        self.engine, self.config = engine, config
        limits = {"n_in": config.n_in_max, "n_out": config.n_out_max, "tokens": TOKENS_MAX}
        self.jobs = JobRegisters(limits, "tokens", REGISTERS, number, config, len(config.modes))
        self.activation_bits = 8 if config.act_bits <= 8 else 16
        self.result_bits = 32 if config.total_width <= 32 else 64
        lanes = self.activation_bits * config.activation_lanes
        super().__init__(
            {"aclk": In(1), "aresetn": In(1), "irq": Out(1)}
            | axi_lite_members("s_axi")
            | axi_stream_members("s_axis_activations", lanes, master=False, padded=padded)
            | axi_stream_members("s_axis_weights", config.weight_width, master=False, padded=padded)
            | axi_stream_members("m_axis_results", self.result_bits * config.rows, master=True, padded=padded)
        )
        mark_pins(self)

    def elaborate(self, platform: object) -> Module:
        """Wire the engine to the buses and keep the registers."""
        m = Module()
        m.domains.sync = sync = ClockDomain(local=True)
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        m.submodules.engine = self.engine
        self._streams(m)
        m.submodules.jobs = jobs = self.jobs
        for name, member in ({"irq": Out(1)} | axi_lite_members("s_axi")).items():
            outer, inner = getattr(self, name), getattr(jobs, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        results = self.engine.results
        m.d.comb += [
            self.engine.jobs.payload.eq(jobs.jobs.payload),
            self.engine.jobs.valid.eq(jobs.jobs.valid),
            jobs.jobs.ready.eq(self.engine.jobs.ready),
            jobs.ends.eq(results.valid & results.ready & results.payload.last),
        ]
        return m

    def _streams(self, m: Module) -> None:
        """Connect the data streams, lane by lane."""
        activations, weights, results = self.engine.activations, self.engine.weights, self.engine.results
        m.d.comb += [
            activations.valid.eq(self.s_axis_activations_tvalid),
            self.s_axis_activations_tready.eq(activations.ready),
            Value.cast(weights.payload).eq(self.s_axis_weights_tdata),
            weights.valid.eq(self.s_axis_weights_tvalid),
            self.s_axis_weights_tready.eq(weights.ready),
            self.m_axis_results_tvalid.eq(results.valid),
            self.m_axis_results_tlast.eq(results.payload.last),
            results.ready.eq(self.m_axis_results_tready),
        ]
        for lane in range(self.config.activation_lanes):
            container = self.s_axis_activations_tdata.word_select(lane, self.activation_bits)
            m.d.comb += activations.payload[lane].eq(container)
        for row in range(self.config.rows):
            container = self.m_axis_results_tdata.word_select(row, self.result_bits)
            m.d.comb += container.eq(results.payload.values[row])
