"""The two state machines of a TLMM engine: one fills tables, one walks the weights over the filled tables.

They meet at the banks of the tables. A bank is free, then full (filled, with a note of what it holds), then in use
(being looked up), then free again. With two banks the next tables are filled while the last are looked up, also across
tokens and jobs.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from hw.engines.contract import job_layout

__all__ = ["FillSchedule", "LookupSchedule", "Note"]

Note = data.StructLayout({"first": 1, "last": 1})
"""What a full bank holds: a token's first step, its last step, or both."""


def _chosen(values: Value, bank: Value) -> Value:
    """Return the bit of a bank; with one bank there is nothing to choose."""
    return values.bit_select(bank, 1) if len(values) > 1 else values[0]


class _Remainder:
    """Counts a length up in strides from its negation; `done` once the strides cover it.

    The register loads and adds in one subtractor, whose second operand is chosen at no cost.
    """

    def __init__(self, m: Module, length: Value, stride: int, ahead: int, *, start: Value, step: Value) -> None:
        self.value = Signal(signed(max(len(length), stride.bit_length()) + 1))
        self.done = Signal()
        m.d.comb += self.done.eq(self.value >= 0)
        with m.If(start | step):
            m.d.sync += self.value.eq(
                Mux(start, ahead, stride - 1) - Mux(start, Cat(length, Const(0, 1)).as_signed(), ~self.value)
            )


class FillSchedule(Component):
    """Takes jobs and activations, and fills bank after bank.

    Cycle schedule: a job taken at cycle t starts at t + 1. A beat of activations loaded at cycle t is written as
    entries at t + 1 ... t + entries; the next beat of the same step may load at t + entries, that of the next step a
    cycle later.

    Parameters
    ----------
    n_in_max, n_out_max : int
        Largest lengths of a job.
    lanes : int
        Activations in a beat.
    beats : int
        Beats in a step, which fill all tables of a bank.
    entries : int
        Entries written for a beat.
    banks : int
        1 or 2.

    Members
    -------
    jobs : In(stream)
    valid : In(1)
        Whether the stream of activations has a beat.
    ready : Out(1)
        Take it: the cycle after `load`, for a stream keeps what it offers until it is taken.
    fault : Out(1)
        The last job was illegal.
    load : Out(1)
        A beat is loaded.
    take : Out(1)
        The cycle after: fillers take activations; anything, beyond the end of the vector.
    writing : Out(1)
    beat, entry : Out
        Which tables are being written, and which entry.
    bank : Out(1)
        The bank being filled.
    free : In(banks)
    waiting : In(1)
        A full bank has not been taken up yet. No new job is taken meanwhile, so that `n_out` stays that of the bank.
    posted : Out(1)
        `bank` has become full, with `note`.
    note : Out(Note)
    n_out : Out
        Outputs of the job.
    """

    def __init__(self, n_in_max: int, n_out_max: int, lanes: int, beats: int, entries: int, banks: int) -> None:
        self.n_in_max, self.n_out_max = n_in_max, n_out_max
        self.lanes, self.beats, self.entries, self.banks = lanes, beats, entries, banks
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(n_in_max, n_out_max))),
                "valid": In(1),
                "ready": Out(1),
                "fault": Out(1),
                "load": Out(1),
                "take": Out(1),
                "writing": Out(1),
                "beat": Out(range(beats)),
                "entry": Out(range(entries)),
                "bank": Out(1),
                "free": In(banks),
                "waiting": In(1),
                "posted": Out(1),
                "note": Out(Note),
                "n_out": Out(n_out_max.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        offered = self.jobs.payload
        n_in, tokens = Signal.like(offered.n_in), Signal.like(offered.tokens)
        taken, active, first = Signal(), Signal(), Signal()
        next_beat = Signal(range(self.beats + 1))

        legal = (
            (offered.n_in != 0) & (offered.n_in <= self.n_in_max) & (offered.n_out != 0)
            & (offered.n_out <= self.n_out_max) & (offered.tokens != 0)
        )  # fmt: skip
        m.d.comb += self.jobs.ready.eq(~(taken | active | self.waiting))
        accept = self.jobs.valid & self.jobs.ready
        m.d.sync += taken.eq(accept & legal)
        with m.If(accept):
            m.d.sync += [n_in.eq(offered.n_in), self.n_out.eq(offered.n_out), self.fault.eq(~legal)]
        with m.If(taken):
            m.d.sync += [active.eq(1), first.eq(1)]

        last_entry = Signal()  # in a register of its own: everything waits for it
        step_loaded = next_beat == self.beats
        token_ends = Signal()
        left = _Remainder(m, n_in, self.lanes, 0, start=taken | token_ends, step=self.load)
        wanted = active & ~step_loaded & Mux(self.writing, last_entry, _chosen(self.free, self.bank))
        m.d.comb += self.load.eq(wanted & (left.done | self.valid))
        m.d.sync += [self.take.eq(self.load), self.ready.eq(self.load & ~left.done)]
        with m.If(self.load):
            m.d.sync += [self.writing.eq(1), self.entry.eq(0), self.beat.eq(next_beat), next_beat.eq(next_beat + 1)]
        with m.Elif(self.writing):
            m.d.sync += [self.entry.eq(self.entry + 1), self.writing.eq(~last_entry)]
        m.d.sync += last_entry.eq(self.writing & ~last_entry & (self.entry == self.entries - 2))

        m.d.comb += [
            self.posted.eq(self.writing & last_entry & step_loaded),
            self.note.first.eq(first),
            self.note.last.eq(left.done),
            token_ends.eq(self.posted & left.done),
        ]
        with m.If(self.posted):
            m.d.sync += [first.eq(left.done), next_beat.eq(0)]
            if self.banks == 2:
                m.d.sync += self.bank.eq(~self.bank)
        with m.If(accept | token_ends):
            m.d.sync += tokens.eq(Mux(accept, 0, -1) + Mux(accept, offered.tokens, tokens))
        with m.If(token_ends & (tokens == 1)):
            m.d.sync += active.eq(0)
        return m


class LookupSchedule(Component):
    """Issues one beat of weights a cycle over a full bank: block 0, 1, ... of `rows` outputs each.

    Cycle schedule: a bank posted at t is armed at t + 1 at the earliest and its first block issued at t + 2. Two issues
    of the same block are `GAP` cycles apart or more, also when the stream stalls, so that a block's accumulators are
    written before they are read again.

    Parameters
    ----------
    n_out_max, rows, banks : int
        Longest output vector, outputs of a block, banks of the tables.
    release : int
        Cycles from the last issue over a bank to its being free.

    Members
    -------
    posted, posted_bank, note, n_out : In
        From `FillSchedule`.
    free : Out(banks)
    waiting : Out(1)
        Some bank is full and not armed.
    valid : In(1)
        Whether the stream of weights has a beat.
    ready : Out(1)
        Take it.
    room : In(1)
        Whether the result of one more block of a token's last step can be stored.
    issue : Out(1)
        A beat is taken in this cycle, with the following meaning.
    bank : Out(1)
    block : Out
    first, last : Out(1)
        The token's first and last step.
    final : Out(1)
        The last block.
    """

    GAP = 5
    """Least cycles between two issues of the same block."""

    def __init__(self, n_out_max: int, rows: int, banks: int, release: int) -> None:
        self.n_out_max, self.rows, self.banks, self.release = n_out_max, rows, banks, release
        super().__init__(
            {
                "posted": In(1),
                "posted_bank": In(1),
                "note": In(Note),
                "n_out": In(n_out_max.bit_length()),
                "free": Out(banks),
                "waiting": Out(1),
                "valid": In(1),
                "ready": Out(1),
                "room": In(1),
                "issue": Out(1),
                "bank": Out(1),
                "block": Out(range(-(-n_out_max // rows))),
                "first": Out(1),
                "last": Out(1),
                "final": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        full, used, firsts, lasts = (Signal(self.banks, name=name) for name in ("full", "used", "firsts", "lasts"))
        running, next_bank, arm = Signal(), Signal(), Signal()
        gap = Signal(range(self.GAP))

        ends = self.issue & self.final
        m.d.comb += [
            self.free.eq(~(full | used)),
            self.waiting.eq(full.any()),
            self.ready.eq(running & (~self.last | self.room)),
            self.issue.eq(self.ready & self.valid),
            arm.eq(Mux(running, ends & (self.block >= self.GAP - 1), gap == 0) & _chosen(full, next_bank)),
        ]
        left = _Remainder(m, self.n_out, self.rows, self.rows, start=arm, step=self.issue)
        m.d.comb += self.final.eq(left.done)

        with m.If(ends):
            m.d.sync += [running.eq(0), gap.eq(Mux(self.block >= self.GAP - 1, 0, self.GAP - 2 - self.block))]
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(self.issue):
            m.d.sync += self.block.eq(self.block + 1)
        with m.If(arm):
            m.d.sync += [
                running.eq(1),
                self.block.eq(0),
                self.first.eq(_chosen(firsts, next_bank)),
                self.last.eq(_chosen(lasts, next_bank)),
                self.bank.eq(next_bank),
            ]
            if self.banks == 2:
                m.d.sync += next_bank.eq(~next_bank)

        # A bank is free once the latest look-up of its last block is done.
        released = Cat(ends & (self.bank == bank) for bank in range(self.banks))
        for stage in range(self.release):
            register = Signal(self.banks, name=f"release{stage}")
            m.d.sync += register.eq(released)
            released = register
        for bank in range(self.banks):
            arms = arm & (next_bank == bank)
            with m.If(self.posted & (self.posted_bank == bank)):
                m.d.sync += [full[bank].eq(1), firsts[bank].eq(self.note.first), lasts[bank].eq(self.note.last)]
            with m.Elif(arms):
                m.d.sync += full[bank].eq(0)
            with m.If(arms):
                m.d.sync += used[bank].eq(1)
            with m.Elif(released[bank]):
                m.d.sync += used[bank].eq(0)
        return m
