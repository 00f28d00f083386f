"""A machine on standard buses: AXI4-Lite registers, one interrupt, AXI4 masters for its memory if that is DRAM.

Made for a vendor's block design, as `nomul.bus.axi` is. The registers, and how they are used, are those of
`nomul.accelerators.registers`; a manifest lists them with the machine's memory map.

A job that is none is refused and changes nothing. A job that was taken ends: with its last token, with a fault, or with
an error of the memory. It waits for nothing but the memory and the host's taking of tokens. STOP ends it between two
passes, when the cache is whole, and RESET at any time: what is on the memory's buses then is finished there
(`nomul.memory.striped`), as only `aresetn` resets them too.
"""

from amaranth.hdl import Cat, ClockDomain, Const, Module, Mux, ResetInserter, Signal, Value, signed
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.machine import Machine
from nomul.accelerators.memory_map import digest
from nomul.accelerators.registers import (
    COUNTERS,
    LANE_BITS,
    MAGIC,
    RESULT_LAST,
    VERSION,
    has_logits,
    machine_registers,
)
from nomul.accelerators.sequencer import BETWEEN
from nomul.accelerators.weights import ADDRESS_BITS
from nomul.bus.axi4 import BOUNDARY, axi4_members, pass_pins
from nomul.bus.axi_lite import AxiLiteRegisters, axi_lite_members
from nomul.bus.interfaces import mark_pins
from nomul.bus.register_file import RegisterFile
from nomul.shared_module import resettable

__all__ = ["AxiMachine", "axi_machine_members"]

COUNTER_BITS = 48
RESULTS = 512
"""Tokens that wait for the host at most; fewer if the context is shorter."""

FIELDS = ("PROMPT_LENGTH", "TOKENS", "POSITION")


def _memory_members(config: AcceleratorConfig) -> dict[str, Member]:
    """Return the pins of the memory's masters, if the memory is DRAM."""
    ports = config.ports if config.memory == "axi" else 0
    return axi4_members("m_axi", ports, ADDRESS_BITS, config.port_bits)


def axi_machine_members(config: AcceleratorConfig) -> dict[str, Member]:
    """Return the pins of an `AxiMachine`."""
    own = {"aclk": In(1), "aresetn": In(1), "irq": Out(1)}
    return own | axi_lite_members("s_axi") | _memory_members(config)


class AxiMachine(Component):
    """A machine with AXI pins, to be the top module of a design.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    aclk, aresetn : In(1)
        Clock, and synchronous reset, active low, of the machine and of the buses. They make a clock domain.
    irq : Out(1)
        Interrupt, active high, by level.
    s_axi_* : AXI4-Lite slave
    m_axi0_*, m_axi1_* ... : AXI4 masters, if the memory is DRAM
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self._memory_pins = _memory_members(config)
        super().__init__(axi_machine_members(config))
        mark_pins(self)

    def elaborate(self, platform: object) -> Module:
        """Build the registers, and the state of the job behind them."""
        m = Module()
        config = self.config
        # Made here, as a component that only lends its pins is not elaborated.
        self._machine = machine = Machine(config)
        m.domains.sync = sync = ClockDomain(local=True)
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        m.submodules.registers = bus = AxiLiteRegisters(machine_registers(config))
        m.d.comb += pass_pins(self, bus, axi_lite_members("s_axi"))
        file = RegisterFile(m, bus)
        for name, constant in {
            "ID": MAGIC,
            "VERSION": VERSION,
            "ENGINE": config.engine.number,
            "DIGEST_LOW": digest(config) & 0xFFFFFFFF,
            "DIGEST_HIGH": digest(config) >> 32,
            "VOCABULARY": config.shape.vocabulary,
            "CONTEXT": config.shape.context,
        }.items():
            file.show(name, constant)
        reset = file.keep("RESET", 1, init=config.memory == "axi")
        halt = Signal()
        m.submodules.machine = resettable(reset | halt, machine)
        error = Signal(2)
        refused: Value = Value.cast(0)
        if config.memory == "axi":
            m.d.comb += error.eq(Cat(machine.mismatch, machine.memory_error))
            refused = self._memory(m, file, reset)
        self._job(m, file, reset, halt, error, refused)
        if has_logits(config):
            self._logits(m, file, reset)
        return m

    def _memory(self, m: Module, file: RegisterFile, reset: Value) -> Value:
        """Connect the masters and the base addresses; return whether one is written while it is in use."""
        machine = self._machine
        m.d.comb += [*pass_pins(self, machine, self._memory_pins), machine.bus_reset.eq(~self.aresetn)]
        written = []
        for port in range(self.config.ports):
            name = f"BASE{port}"
            base = file.keep(name, ADDRESS_BITS, writable=(1 << ADDRESS_BITS) - BOUNDARY, enable=reset)
            m.d.comb += machine.bases[port].eq(base)
            written.append(file.written(name))
        return Cat(written).any() & ~reset

    def _job(
        self, m: Module, file: RegisterFile, reset: Signal, halt: Signal, error: Signal, base_refused: Value
    ) -> None:
        """Give jobs, follow them to their ends or halt the machine, and keep their tokens."""
        config, machine = self.config, self._machine
        context = config.shape.context
        token = len(machine.prompt.payload)
        length, tokens, position = (file.keep(name) for name in FIELDS)
        emptied, dropped = Signal(), Signal()
        m.submodules.prompts = prompts = ResetInserter(emptied)(SyncFIFOBuffered(width=token, depth=context))
        m.submodules.results = results = ResetInserter(reset | dropped)(
            SyncFIFOBuffered(width=token + 1, depth=min(context, RESULTS))
        )
        working, start, free, taken = Signal(), Signal(), Signal(), Signal()
        offered, lost = Signal(), Signal()
        m.d.comb += [
            offered.eq(file.written("PROMPT")),
            # What is in PROMPT while a job is in work is the rest of that job's prompt.
            prompts.w_en.eq(offered & free & (file.given < config.shape.vocabulary)),
            prompts.w_data.eq(file.given),
            lost.eq(offered & ~(prompts.w_en & prompts.w_rdy)),
            machine.prompt.valid.eq(prompts.r_rdy),
            machine.prompt.payload.eq(prompts.r_data),
            prompts.r_en.eq(machine.prompt.ready),
            results.w_en.eq(machine.results.valid),
            results.w_data.eq(Value.cast(machine.results.payload)),
            machine.results.ready.eq(results.w_rdy),
            results.r_en.eq(file.written("RESULT")),
        ]

        # What START finds is known by then: a write comes two cycles after another at the earliest.
        bits = (4 * context).bit_length()
        fields = (length, tokens, position)
        legal, sized, fits, filled = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            sized.eq((length != 0) & (tokens != 0) & Cat(field <= context for field in fields).all()),
            fits.eq(sum((field[:bits] for field in fields[1:]), length[:bits]) <= context + 1),
            filled.eq(prompts.level == length),
        ]
        stopping = Signal()
        with m.If(file.written("STOP") & file.given[0]):
            m.d.sync += stopping.eq(1)
        with m.Elif(dropped):
            m.d.sync += stopping.eq(0)
        m.d.comb += [
            halt.eq(stopping & working & (machine.step == BETWEEN)),
            dropped.eq(stopping & ~working),
            legal.eq(sized & fits & filled),
            start.eq(file.written("START") & file.given[0]),
            free.eq(machine.jobs.ready & ~working & ~stopping & ~reset & ~error.any()),
            taken.eq(start & free & legal),
            emptied.eq(reset | dropped | (start & free & ~legal)),
            machine.jobs.valid.eq(taken),
            machine.jobs.payload.prompt.eq(length),
            machine.jobs.payload.tokens.eq(tokens),
            machine.jobs.payload.position.eq(position),
        ]
        with m.If(taken):
            m.d.sync += working.eq(1)
        with m.Elif(~machine.busy | reset | halt):
            m.d.sync += working.eq(0)

        came, last = results.w_en & results.w_rdy, machine.results.payload.last
        fault_before = Signal()
        m.d.sync += fault_before.eq(machine.fault)
        flags = {
            "done": came & last,
            "fault": machine.fault & ~fault_before,
            "illegal": start & free & ~legal,
            "refused": (start & ~free) | base_refused,
            "lost": lost,
        }
        levels = {
            "busy": working,
            "ready": free,
            "mismatch": error[0],
            "memory_error": error[1],
            "token": results.r_rdy,
        }
        status = file.flags("STATUS", flags, levels)
        interrupt = file.keep("INTERRUPT", 4)
        causes = Cat(status["done"], status["fault"] | status["illegal"], error.any(), results.r_rdy)
        m.d.sync += self.irq.eq((interrupt & causes).any())

        generated = Signal(32)
        with m.If(taken):
            m.d.sync += generated.eq(0)
        with m.Elif(came):
            m.d.sync += generated.eq(generated + 1)
        result = Cat(results.r_data[:token], Const(0, RESULT_LAST - token), results.r_data[token], 1)
        for name, value in {
            "PROMPT_COUNT": prompts.level,
            "RESULT": Mux(results.r_rdy, result, 0),
            "RESULT_COUNT": results.level,
            "GENERATED": generated,
        }.items():
            file.show(name, value)
        self._count(m, file, taken, working, came & (generated == 0))

    def _count(self, m: Module, file: RegisterFile, taken: Value, working: Value, first: Value) -> None:
        """Count cycles: of the steps in a small memory, of which a place that is not `used` is zero."""
        machine = self._machine
        steps = COUNTERS.index("TOTAL")
        m.submodules.counts = counts = Memory(shape=COUNTER_BITS, depth=16, init=[])
        write, step, shown = counts.write_port(), counts.read_port(domain="comb"), counts.read_port(domain="comb")
        used, total, until = Signal(16), Signal(COUNTER_BITS), Signal(COUNTER_BITS)
        kept, at = Signal(COUNTER_BITS), Signal(4)
        file.keep("COUNTER")
        m.d.comb += [
            at.eq(machine.step),
            step.addr.eq(at),
            write.addr.eq(at),
            write.data.eq(Mux(used.bit_select(at, 1), step.data, 0) + 1),
            write.en.eq(working),
            shown.addr.eq(file.given),
        ]
        with m.If(taken):
            m.d.sync += [used.eq(0), total.eq(0), until.eq(0)]
        with m.Elif(working):
            m.d.sync += [used.bit_select(at, 1).eq(1), total.eq(total + 1)]
        with m.If(first):
            m.d.sync += until.eq(total + 1)
        with m.If(file.written("COUNTER")):
            m.d.sync += kept.eq(0)
            with m.If(file.given < steps):
                m.d.sync += kept.eq(Mux(used.bit_select(file.given[:4], 1), shown.data, 0))
            for name, counter in (("TOTAL", total), ("FIRST_TOKEN", until)):
                with m.If(file.given == COUNTERS.index(name)):
                    m.d.sync += kept.eq(counter)
        file.show("COUNTER_LOW", kept[:32])
        file.show("COUNTER_HIGH", kept[32:])

    def _logits(self, m: Module, file: RegisterFile, reset: Value) -> None:
        """Keep the logits of the last token."""
        config, machine = self.config, self._machine
        blocks = config.head_blocks
        m.submodules.logits = memory = Memory(
            shape=machine.logits.shape(), depth=blocks, init=[], attrs={"no_rw_check": 1}
        )
        write, read = memory.write_port(), memory.read_port(domain="comb")
        index = file.keep("LOGIT_INDEX")
        lane, place = index[:LANE_BITS], index[LANE_BITS:]
        block, logits, logit = Signal(range(blocks)), Signal.like(machine.logits), Signal(signed(32))
        m.d.comb += [
            write.addr.eq(block),
            write.data.eq(machine.logits),
            write.en.eq(machine.logits_valid),
            read.addr.eq(place),
        ]
        m.d.sync += logits.eq(read.data)
        exists = (place < blocks) & (lane < config.lanes)
        m.d.sync += logit.eq(Mux(exists, logits[lane[: (config.lanes - 1).bit_length()]], 0))
        with m.If(reset):
            m.d.sync += block.eq(0)
        with m.Elif(machine.logits_valid):
            m.d.sync += block.eq(Mux(block == blocks - 1, 0, block + 1))
        file.show("LOGIT", logit)
