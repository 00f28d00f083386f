"""The registers by which a host gives jobs to a core, and hears of their end.

The register map is the same for all but in the names of a job's fields, four at most, which lie at 0x10, 0x14, 0x18
and, for want of room there, 0x34, and in MODE, which only cores with modes have. To run a job, write its fields, then
1 to START; it waits (pending) until it is taken, which may be while the last one is still worked on, and the registers
are free for the next job at once. STATUS.done comes up two cycles after a job's last result has left.
"""

import dataclasses
import json
import zlib
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from nomul.bus.axi_lite import AxiLiteRegisters, Register, axi_lite_members
from nomul.contract import CoreConfig, job_layout

__all__ = ["JobRegisters", "config_hash", "job_registers"]

MAGIC = int.from_bytes(b"NOML", "big")
VERSION = 1
FIELDS = (0x10, 0x14, 0x18, 0x34)
"""Where the fields of a job lie."""


def job_registers(config: CoreConfig) -> tuple[Register, ...]:
    """Return the registers of a core in order of addresses; `ValueError` if a job has too many fields."""
    limits = config.job_limits
    if len(limits) > len(FIELDS):
        raise ValueError(f"a job has {len(limits)} fields; allowed: {len(FIELDS)} at most")
    own = [
        Register(name.upper(), offset, "rw", f"{name} of the next job, 1 to {limit}")
        for offset, (name, limit) in zip(FIELDS, limits.items(), strict=False)
    ]
    modes = ", ".join(f"{number} {mode.name}" for number, mode in enumerate(config.modes))
    return (
        Register("ID", 0x00, "r", f"0x{MAGIC:08x}, 'NOML'"),
        Register("VERSION", 0x04, "r", "version of this register map"),
        Register("ENGINE", 0x08, "r", "number of the core, given when it was generated"),
        Register("CONFIG", 0x0C, "r", "hash of the core's configuration, `config_hash`"),
        *own[:3],
        Register("START", 0x1C, "w", "starts the next job", (f"start: give the job of {_words(list(limits))}",)),
        Register(
            "STATUS",
            0x20,
            "rw",
            "state; write 1 to clear done, fault and refused",
            (
                "busy: a job is pending or some of its results have not left",
                "pending: the core has not taken the last job yet",
                "done: the last result of a job has left",
                "fault: the core refused a job with a field that is zero or too large",
                "refused: START was written while a job was pending, and did nothing",
            ),
            ("done", "fault", "refused"),
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
            "cycles from taking a job while idle to the end of the latest result vector, both counted",
        ),
        Register("RESULTS", 0x2C, "r", "result vectors finished since reset, modulo 2**32"),
        *([Register("MODE", 0x30, "rw", f"mode of the next job: {modes}")] if modes else []),
        *own[3:],
    )


def _words(names: list[str]) -> str:
    *some, last = [name.upper() for name in names]
    return f"{', '.join(some)} and {last}" if some else last


def config_hash(config: Any) -> int:
    """Return the CRC-32 of a configuration's fields, by which a driver knows the hardware that it was built for."""
    fields = {"class": type(config).__name__} | dataclasses.asdict(config)
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


class JobRegisters(Component):
    """The registers, and the state of jobs behind them.

    Parameters
    ----------
    config : CoreConfig
        Of the core whose jobs they give, a dataclass.
    number : int
        What the register ENGINE says.

    Members
    -------
    s_axi_* : AXI4-Lite slave
    irq : Out(1)
    jobs : Out(stream)
    ends : In(1)
        The last transfer of a result vector leaves in this cycle.

    """

    JOBS = 4
    """Jobs that may be worked on at a time; one more waits."""

    def __init__(self, config: CoreConfig, number: int) -> None:
        self.limits, self.modes, self.registers = config.job_limits, len(config.modes), job_registers(config)
        self.number, self.config = number, config
        jobs = job_layout(self.limits, self.modes)
        super().__init__(
            axi_lite_members("s_axi") | {"irq": Out(1), "jobs": Out(stream.Signature(jobs)), "ends": In(1)}
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the registers, and give jobs."""
        m = Module()
        places = {register.name: place for place, register in enumerate(self.registers)}
        m.submodules.registers = registers = AxiLiteRegisters(self.registers)
        for name, member in axi_lite_members("s_axi").items():
            outer, inner = getattr(self, name), getattr(registers, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        writes = {name: registers.written[place] for name, place in places.items()}
        given = registers.data & registers.mask
        start, pending = Signal(), Signal()
        job, taken, legal = Signal.like(self.jobs.payload), Signal(), Signal()

        # A length beyond its field becomes zero, which is as illegal.
        names = [*self.limits, *(["mode"] if "MODE" in places else [])]
        lengths = {name: Signal(32, name=name) for name in names}
        for name, length in lengths.items():
            with m.If(writes[name.upper()]):
                m.d.sync += length.eq((length & ~registers.mask) | given)
        m.d.comb += start.eq(writes["START"] & given[0])
        with m.If(start & ~pending):
            m.d.sync += pending.eq(1)
            for name in self.limits:
                field, length = job[name], lengths[name]
                m.d.sync += field.eq(Mux(length[len(field) :].any(), 0, length))
            if self.modes > 1:
                # A mode that does not exist may not fit its field: it leaves the job without a length.
                m.d.sync += job.mode.eq(lengths["mode"])
                with m.If(lengths["mode"] >= self.modes):
                    m.d.sync += job[next(iter(self.limits))].eq(0)
        with m.Elif(taken):
            m.d.sync += pending.eq(0)

        fits: list[Value] = []
        for name, limit in self.limits.items():
            field = job[name]
            fits.append((field != 0) & (field <= limit))
        m.d.comb += legal.eq(Cat(fits).all())
        vectors: Value | int = job[self.config.repeats] if self.config.repeats else 1
        room, working, done, finished, cycles = self._progress(m, taken & legal, vectors)
        m.d.comb += [
            self.jobs.payload.eq(job),
            self.jobs.valid.eq(pending & room),
            taken.eq(self.jobs.valid & self.jobs.ready),
        ]

        bits = self.registers[places["STATUS"]].bit_names
        status = {"busy": pending | working, "pending": pending}
        for name, event in {"done": done, "fault": taken & ~legal, "refused": start & pending}.items():
            status[name] = flag = Signal(name=name)
            with m.If(event):
                m.d.sync += flag.eq(1)
            with m.Elif(writes["STATUS"] & given[bits.index(name)]):
                m.d.sync += flag.eq(0)
        done_irq, fault_irq = control = Signal(2)
        with m.If(writes["CONTROL"]):
            m.d.sync += control.eq((control & ~registers.mask) | given)
        m.d.sync += self.irq.eq((status["done"] & done_irq) | (status["fault"] & fault_irq))

        for name, value in {
            "ID": MAGIC, "VERSION": VERSION, "ENGINE": self.number, "CONFIG": config_hash(self.config),
            **{name.upper(): length for name, length in lengths.items()},
            "STATUS": Cat(status[name] for name in bits), "CONTROL": control, "CYCLES": cycles, "RESULTS": finished,
        }.items():  # fmt: skip
            m.d.comb += registers.values[places[name]].eq(value)
        return m

    def _progress(self, m: Module, begins: Value, vectors: Value | int) -> tuple[Value, Value, Value, Value, Value]:
        """Follow jobs until their last results have left.

        Returns whether another job may begin, whether any is under way, whether one is done in this cycle, the vectors
        finished, and the cycles that it took.
        """
        # A job's end is the number of vectors finished by then, counted from reset.
        m.submodules.ends = ends = SyncFIFO(width=32, depth=self.JOBS)
        total, finished, done = Signal(32), Signal(32), Signal()
        m.d.comb += [
            ends.w_en.eq(begins),
            ends.w_data.eq(total + vectors),
            done.eq(ends.r_rdy & (ends.r_data == finished)),
            ends.r_en.eq(done),
        ]
        m.d.sync += finished.eq(finished + self.ends)
        with m.If(begins):
            m.d.sync += total.eq(ends.w_data)

        clock, cycles = Signal(32), Signal(32)
        m.d.sync += clock.eq(clock + 1)
        with m.If(begins & ~ends.r_rdy):
            m.d.sync += [clock.eq(2), cycles.eq(0)]
        with m.If(self.ends):
            m.d.sync += cycles.eq(clock)
        return ends.w_rdy, ends.r_rdy, done, finished, cycles
