"""The two state machines of a TLMM engine: one fills tables, one walks the weights over the filled tables.

They meet at the banks of the tables. A bank is free, then full (filled, with a note of what it holds), then in use
(being looked up), then free again. With two banks the next tables are filled while the last are looked up, also across
tokens and jobs.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from hw.engines.contract import job_layout

__all__ = ["FillSchedule", "LookupSchedule", "note_layout"]


def note_layout(n_out_max: int) -> data.StructLayout:
    """Return the note on a full bank: whether it is a token's first and last, and how many outputs there are."""
    return data.StructLayout({"first": 1, "last": 1, "n_out": n_out_max.bit_length()})


class FillSchedule(Component):
    """Takes jobs and activations, and fills bank after bank.

    Cycle schedule: a beat of activations loaded at cycle t is written as entries at t + 1 ... t + entries; the next
    beat of the same step may load at t + entries, that of the next step a cycle later.

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
        Take it.
    fault : Out(1)
        The last job was illegal.
    load : Out(1)
        Fillers take activations, or zeros' worth of anything beyond the end of the vector.
    writing : Out(1)
    beat, entry : Out
        Which tables are being written, and which entry.
    bank : Out(1)
        The bank being filled.
    free : In(1).array(banks)
    posted : Out(1)
        `bank` has become full, with `note`.
    note : Out
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
                "writing": Out(1),
                "beat": Out(range(beats)),
                "entry": Out(range(entries)),
                "bank": Out(1),
                "free": In(banks),
                "posted": Out(1),
                "note": Out(note_layout(n_out_max)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        job = Signal(job_layout(self.n_in_max, self.n_out_max))
        offered = self.jobs.payload
        active, first = Signal(), Signal()
        left = Signal(range(self.n_in_max + 1))
        next_beat = Signal(range(self.beats + 1))

        legal = (
            (offered.n_in != 0) & (offered.n_in <= self.n_in_max) & (offered.n_out != 0)
            & (offered.n_out <= self.n_out_max) & (offered.tokens != 0)
        )  # fmt: skip
        m.d.comb += self.jobs.ready.eq(~active)
        with m.If(self.jobs.valid & self.jobs.ready):
            m.d.sync += [job.eq(offered), active.eq(legal), self.fault.eq(~legal)]
            m.d.sync += [left.eq(offered.n_in), first.eq(1), next_beat.eq(0)]

        last_entry = self.entry == self.entries - 1
        step_loaded = next_beat == self.beats
        padding = left == 0
        bank_free = self.free.bit_select(self.bank, 1) if self.banks == 2 else self.free[0]
        wanted = active & ~step_loaded & ((~self.writing & bank_free) | (self.writing & last_entry))
        m.d.comb += [
            self.load.eq(wanted & (padding | self.valid)),
            self.ready.eq(wanted & ~padding),
        ]
        with m.If(self.writing):
            m.d.sync += self.entry.eq(Mux(last_entry, 0, self.entry + 1))
            with m.If(last_entry):
                m.d.sync += self.writing.eq(0)
        with m.If(self.load):
            m.d.sync += [
                self.writing.eq(1),
                self.entry.eq(0),
                self.beat.eq(next_beat),
                next_beat.eq(next_beat + 1),
                left.eq(Mux(left > self.lanes, left - self.lanes, 0)),
            ]

        m.d.comb += [
            self.posted.eq(self.writing & last_entry & step_loaded),
            self.note.first.eq(first),
            self.note.last.eq(padding),
            self.note.n_out.eq(job.n_out),
        ]
        with m.If(self.posted):
            m.d.sync += [first.eq(0), next_beat.eq(0)]
            if self.banks == 2:
                m.d.sync += self.bank.eq(~self.bank)
            with m.If(padding):
                m.d.sync += [job.tokens.eq(job.tokens - 1), left.eq(job.n_in), first.eq(1)]
                with m.If(job.tokens == 1):
                    m.d.sync += active.eq(0)
        return m


class LookupSchedule(Component):
    """Issues one beat of weights a cycle over a full bank: block 0, 1, ... of `rows` outputs each.

    Cycle schedule: a bank posted at t is armed at t + 1 at the earliest and its first block issued at t + 2; two steps
    start `GAP` cycles apart or more, so that a block's accumulators are written before they are read again.

    Parameters
    ----------
    n_out_max, rows, banks : int
        Longest output vector, outputs of a block, banks of the tables.
    release : int
        Cycles from the last issue over a bank to its being free.

    Members
    -------
    posted, posted_bank, note : In
        From `FillSchedule`.
    free : Out(banks)
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

    GAP = 4
    """Least cycles between the starts of two steps."""

    def __init__(self, n_out_max: int, rows: int, banks: int, release: int) -> None:
        self.n_out_max, self.rows, self.banks, self.release = n_out_max, rows, banks, release
        super().__init__(
            {
                "posted": In(1),
                "posted_bank": In(1),
                "note": In(note_layout(n_out_max)),
                "free": Out(banks),
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
        full, used = Signal(self.banks), Signal(self.banks)
        notes = [Signal(note_layout(self.n_out_max), name=f"note{i}") for i in range(self.banks)]
        running, next_bank = Signal(), Signal()
        left = Signal(range(self.n_out_max + 1))
        gap = Signal(range(self.GAP))

        m.d.comb += [
            self.free.eq(~(full | used)),
            self.final.eq(left <= self.rows),
            self.ready.eq(running & (~self.last | self.room)),
            self.issue.eq(self.ready & self.valid),
        ]
        ends = self.issue & self.final
        chosen = Mux(next_bank, notes[-1], notes[0]) if self.banks == 2 else notes[0]
        note = data.View(note_layout(self.n_out_max), chosen.as_value() if hasattr(chosen, "as_value") else chosen)
        arm = Signal()
        full_next = full.bit_select(next_bank, 1) if self.banks == 2 else full[0]
        m.d.comb += arm.eq((~running | ends) & full_next & (gap == 0))

        with m.If(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(self.issue):
            m.d.sync += [self.block.eq(self.block + 1), left.eq(left - self.rows)]
        with m.If(ends):
            m.d.sync += running.eq(0)
        with m.If(arm):
            m.d.sync += [
                running.eq(1),
                gap.eq(self.GAP - 1),
                self.block.eq(0),
                left.eq(note.n_out),
                self.first.eq(note.first),
                self.last.eq(note.last),
                self.bank.eq(next_bank),
            ]
            if self.banks == 2:
                m.d.sync += next_bank.eq(~next_bank)

        # A bank is free once the latest look-up of its last block is done.
        pulse = Cat(*(ends & (self.bank == bank) for bank in range(self.banks)))
        for stage in range(self.release):
            register = Signal(self.banks, name=f"release{stage}")
            m.d.sync += register.eq(pulse)
            pulse = register
        bank_of = [Const(1, 1)] if self.banks == 1 else [~next_bank, next_bank]
        posted_of = [Const(1, 1)] if self.banks == 1 else [~self.posted_bank, self.posted_bank]
        for bank in range(self.banks):
            with m.If(self.posted & posted_of[bank]):
                m.d.sync += [full[bank].eq(1), notes[bank].eq(self.note)]
            with m.Elif(arm & bank_of[bank]):
                m.d.sync += full[bank].eq(0)
            with m.If(arm & bank_of[bank]):
                m.d.sync += used[bank].eq(1)
            with m.Elif(pulse[bank]):
                m.d.sync += used[bank].eq(0)
        return m
