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

`tlast` of the inputs is ignored: the job says how many transfers a vector has.

Registers: see `REGISTERS`. To run a job, write N_IN, N_OUT and TOKENS, then 1 to START; the job waits (pending) until
the engine takes it, which may be while the engine still works on the last one, and the registers are free for the next
job at once. Data may be sent before or after. STATUS.done comes up two cycles after a job's last result has left.
"""

import dataclasses
import json
import zlib
from typing import Any

from amaranth.hdl import Cat, ClockDomain, Module, Mux, Signal, Value
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Member, Out

from hw.bus.axi_lite import AxiLiteRegisters, Register, axi_lite_members
from hw.engines.contract import TOKENS_MAX, EngineConfig

__all__ = ["REGISTERS", "AxiEngine", "axi_stream_members", "config_hash"]

MAGIC = int.from_bytes(b"NOML", "big")
VERSION = 1

REGISTERS = (
    Register("ID", 0x00, "r", f"0x{MAGIC:08x}, 'NOML'"),
    Register("VERSION", 0x04, "r", "version of this register map"),
    Register("ENGINE", 0x08, "r", "number of the engine, given when it was generated"),
    Register("CONFIG", 0x0C, "r", "hash of the engine's configuration, `config_hash`"),
    Register("N_IN", 0x10, "rw", "length of the activation vectors of the next job"),
    Register("N_OUT", 0x14, "rw", "length of the result vectors of the next job"),
    Register("TOKENS", 0x18, "rw", "activation vectors of the next job"),
    Register("START", 0x1C, "w", "starts the next job", ("start: give the job of N_IN, N_OUT and TOKENS",)),
    Register(
        "STATUS",
        0x20,
        "rw",
        "state; write 1 to clear done, fault and refused",
        (
            "busy: a job is pending or some of its results have not left",
            "pending: the engine has not taken the last job yet",
            "done: the last result of a job has left",
            "fault: the engine refused a job whose lengths are zero or too large",
            "refused: START was written while a job was pending, and did nothing",
        ),
    ),
    Register(
        "CONTROL",
        0x24,
        "rw",
        "interrupts",
        ("done_irq: irq is up while STATUS.done is", "fault_irq: irq is up while STATUS.fault is"),
    ),
    Register(
        "CYCLES",
        0x28,
        "r",
        "cycles from the engine's taking of a job while idle to the latest last result of a token, both counted",
    ),
    Register("RESULTS", 0x2C, "r", "tokens finished since reset, modulo 2**32"),
    Register("MODE", 0x30, "rw", "mode of the next job; without meaning to an engine of one mode"),
)
"""The register map, in order of addresses."""

_NUMBER = {register.name: number for number, register in enumerate(REGISTERS)}
_STATUS = REGISTERS[_NUMBER["STATUS"]]


def config_hash(config: Any) -> int:
    """Return the CRC-32 of a configuration's fields, by which a driver knows the hardware that it was built for."""
    fields = {"class": type(config).__name__} | dataclasses.asdict(config)
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def axi_stream_members(prefix: str, width: int, *, master: bool) -> dict[str, Member]:
    """Return the pins of an AXI4-Stream port of `width` data bits."""
    forward, backward = (Out, In) if master else (In, Out)
    pins = {"tdata": forward(width), "tvalid": forward(1), "tready": backward(1), "tlast": forward(1)}
    return {f"{prefix}_{name}": member for name, member in pins.items()}


class AxiEngine(Component):
    """An engine with AXI pins, to be the top module of a design; the module's docstring says how it is used.

    Parameters
    ----------
    engine : Component
        Any engine that keeps `hw.engines.contract`.
    config : EngineConfig
        The configuration that it was made from, a dataclass.
    number : int
        What the register ENGINE holds, 32 bits.

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

    JOBS = 4
    """Jobs that the engine may work on at a time; one more waits."""

    def __init__(self, engine: Component, config: EngineConfig, number: int) -> None:
        if number not in range(1 << 32):
            raise ValueError(f"engine number {number!r} is not one of 0 to {(1 << 32) - 1}")
        self.engine, self.config, self.number = engine, config, number
        self.activation_bits = 8 if config.act_bits <= 8 else 16
        self.result_bits = 32 if config.total_width <= 32 else 64
        lanes = self.activation_bits * config.activation_lanes
        super().__init__(
            {"aclk": In(1), "aresetn": In(1), "irq": Out(1)}
            | axi_lite_members("s_axi")
            | axi_stream_members("s_axis_activations", lanes, master=False)
            | axi_stream_members("s_axis_weights", -(-config.weight_width // 8) * 8, master=False)
            | axi_stream_members("m_axis_results", self.result_bits * config.rows, master=True)
        )
        buses = "s_axi:s_axis_activations:s_axis_weights:m_axis_results"
        for pin, info, value in (
            ("aclk", "clock:1.0 aclk CLK", f"ASSOCIATED_BUSIF {buses}, ASSOCIATED_RESET aresetn"),
            ("aresetn", "reset:1.0 aresetn RST", "POLARITY ACTIVE_LOW"),
            ("irq", "interrupt:1.0 irq INTERRUPT", "SENSITIVITY LEVEL_HIGH"),
        ):
            getattr(self, pin).attrs.update(
                X_INTERFACE_INFO=f"xilinx.com:signal:{info}", X_INTERFACE_PARAMETER=f"XIL_INTERFACENAME {pin}, {value}"
            )

    def elaborate(self, platform: object) -> Module:
        """Wire the engine to the buses and keep the registers."""
        m = Module()
        m.domains.sync = sync = ClockDomain(local=True)
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        m.submodules.engine = self.engine
        self._streams(m)
        m.submodules.registers = registers = AxiLiteRegisters(REGISTERS)
        for name, member in axi_lite_members("s_axi").items():
            outer, inner = getattr(self, name), getattr(registers, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        self._jobs(m, registers)
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

    def _jobs(self, m: Module, registers: AxiLiteRegisters) -> None:
        """Keep the registers, and give jobs to the engine."""
        writes = {name: registers.written[number] for name, number in _NUMBER.items()}
        given = registers.data & registers.mask
        jobs, start, pending = self.engine.jobs, Signal(), Signal()
        job, mode, taken, legal = Signal.like(jobs.payload), Signal(32), Signal(), Signal()

        # A length beyond its field becomes zero, which is as illegal.
        lengths = {name: Signal(32, name=name.lower()) for name in ("N_IN", "N_OUT", "TOKENS", "MODE")}
        for name, length in lengths.items():
            with m.If(writes[name]):
                m.d.sync += length.eq((length & ~registers.mask) | given)
        m.d.comb += start.eq(writes["START"] & given[0])
        with m.If(start & ~pending):
            m.d.sync += pending.eq(1)
            for name in ("N_IN", "N_OUT", "TOKENS"):
                field, length = job[name.lower()], lengths[name]
                m.d.sync += field.eq(Mux(length[len(field) :].any(), 0, length))
            if len(self.config.modes) > 1:
                m.d.sync += mode.eq(lengths["MODE"])
        with m.Elif(taken):
            m.d.sync += pending.eq(0)

        limits = {"n_in": self.config.n_in_max, "n_out": self.config.n_out_max, "tokens": TOKENS_MAX}
        lengths_legal = Cat((job[field] != 0) & (job[field] <= limit) for field, limit in limits.items()).all()
        m.d.comb += legal.eq(lengths_legal & (mode < len(self.config.modes)))
        room, working, done, finished, cycles = self._progress(m, taken & legal, job.tokens)
        m.d.comb += [jobs.payload.eq(job), jobs.valid.eq(pending & room), taken.eq(jobs.valid & jobs.ready)]
        if len(self.config.modes) > 1:
            # A mode that does not exist may not fit its field: a length of zero is as illegal.
            m.d.comb += jobs.payload.mode.eq(mode)
            with m.If(mode >= len(self.config.modes)):
                m.d.comb += jobs.payload.n_in.eq(0)

        status = {"busy": pending | working, "pending": pending}
        for name, event in {"done": done, "fault": taken & ~legal, "refused": start & pending}.items():
            status[name] = flag = Signal(name=name)
            with m.If(event):
                m.d.sync += flag.eq(1)
            with m.Elif(writes["STATUS"] & given[_STATUS.bit_names.index(name)]):
                m.d.sync += flag.eq(0)
        done_irq, fault_irq = control = Signal(2)
        with m.If(writes["CONTROL"]):
            m.d.sync += control.eq((control & ~registers.mask) | given)
        m.d.sync += self.irq.eq((status["done"] & done_irq) | (status["fault"] & fault_irq))

        for name, value in {
            "ID": MAGIC, "VERSION": VERSION, "ENGINE": self.number, "CONFIG": config_hash(self.config), **lengths,
            "STATUS": Cat(status[name] for name in _STATUS.bit_names), "CONTROL": control,
            "CYCLES": cycles, "RESULTS": finished,
        }.items():  # fmt: skip
            m.d.comb += registers.values[_NUMBER[name]].eq(value)

    def _progress(self, m: Module, begins: Value, tokens: Value) -> tuple[Value, Value, Value, Value, Value]:
        """Follow jobs until their last results have left.

        Returns whether another job may begin, whether any is under way, whether one is done in this cycle, the tokens
        finished, and the cycles that it took.
        """
        results = self.engine.results
        # A job's end is the number of tokens finished by then, counted from reset.
        m.submodules.ends = ends = SyncFIFO(width=32, depth=self.JOBS)
        total, finished, token_ends, done = Signal(32), Signal(32), Signal(), Signal()
        m.d.comb += [
            token_ends.eq(results.valid & results.ready & results.payload.last),
            ends.w_en.eq(begins),
            ends.w_data.eq(total + tokens),
            done.eq(ends.r_rdy & (ends.r_data == finished)),
            ends.r_en.eq(done),
        ]
        m.d.sync += finished.eq(finished + token_ends)
        with m.If(begins):
            m.d.sync += total.eq(ends.w_data)

        clock, cycles = Signal(32), Signal(32)
        m.d.sync += clock.eq(clock + 1)
        with m.If(begins & ~ends.r_rdy):
            m.d.sync += [clock.eq(2), cycles.eq(0)]
        with m.If(token_ends):
            m.d.sync += cycles.eq(clock)
        return ends.w_rdy, ends.r_rdy, done, finished, cycles
