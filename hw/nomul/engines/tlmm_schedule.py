"""The two state machines of a TLMM engine: one fills tables, one walks the weights over the filled tables.

They meet at the banks of the tables. A bank is free, then claimed and filled, then full (with a note of what it holds),
then in use (being looked up), then released. Banks take turns, so that one count of the claimed ones says it all. With
two banks the next tables are filled while the last are looked up, also across tokens and jobs.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.contract import job_layout
from nomul.engines.matmul import TOKENS_MAX

__all__ = ["FillSchedule", "LookupSchedule", "Note"]

Note = data.StructLayout({"first": 1, "last": 1})
"""What a full bank holds: a token's first step, its last step, or both."""


class _Remainder:
    """Counts a length up in strides from its negation; `done` once the strides cover it.

    `start` takes a value that a register made of the length, and no adder, because it comes late in its cycle. After
    the stride that covers the length `beyond` more may follow before the next start.
    """

    def __init__(
        self, m: Module, length: Value, stride: int, ahead: int, *, start: Value, advance: Value, beyond: int = 0
    ) -> None:
        width = max(len(length), (stride * (1 + beyond)).bit_length()) + 1
        self.value, self.opening = Signal(signed(width)), Signal(signed(width))
        self.done = Signal()
        m.d.comb += self.done.eq(self.value >= 0)
        m.d.sync += self.opening.eq(ahead - length)
        with m.If(advance):
            m.d.sync += self.value.eq(Mux(start, self.opening, self.value + stride))


class FillSchedule(Component):
    """Takes jobs and activations, and fills bank after bank.

    Cycle schedule: the first beat of a job taken at cycle t is loaded at t + 4. A beat of activations loaded at cycle t
    is written as entries at t + 1 ... t + entries; the next beat of the same step may load at t + entries, that of the
    next step a cycle later, and two cycles or more after its bank was released.

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
    released : In(1)
        The look-ups of a bank are over.
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
        limits = {"n_in": n_in_max, "n_out": n_out_max, "tokens": TOKENS_MAX}
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(limits))),
                "valid": In(1),
                "ready": Out(1),
                "fault": Out(1),
                "load": Out(1),
                "take": Out(1),
                "writing": Out(1),
                "beat": Out(range(beats)),
                "entry": Out(range(entries)),
                "bank": Out(1),
                "released": In(1),
                "waiting": In(1),
                "posted": Out(1),
                "note": Out(Note),
                "n_out": Out(n_out_max.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        n_in, tokens = Signal.like(self.jobs.payload.n_in), Signal.like(self.jobs.payload.tokens)
        accepted, checked, legal, active, last_token = Signal(), Signal(), Signal(), Signal(), Signal()
        taken = checked & legal

        m.d.comb += self.jobs.ready.eq(~(accepted | checked | active | self.waiting))
        accept = self.jobs.valid & self.jobs.ready
        m.d.sync += [
            accepted.eq(accept),
            checked.eq(accepted),
            legal.eq(
                (n_in != 0) & (n_in <= self.n_in_max) & (self.n_out != 0) & (self.n_out <= self.n_out_max)
                & (tokens != 0)
            ),
            last_token.eq(tokens == 1),
        ]  # fmt: skip
        with m.If(accept):
            m.d.sync += [n_in.eq(self.jobs.payload.n_in), self.n_out.eq(self.jobs.payload.n_out)]
        with m.If(checked):
            m.d.sync += self.fault.eq(~legal)

        # Every decision is in a register before it is needed, as the next one is entries cycles away, five or more.
        due, supplied, near, last_entry, step_loaded = Signal(), Signal(), Signal(), Signal(), Signal()
        claiming, token_ends, first = Signal(), Signal(), Signal()
        next_beat = Signal(range(self.beats))
        starts = taken | token_ends
        # A step takes all its beats, also those beyond the end of the vector.
        left = _Remainder(m, n_in, self.lanes, 0, start=starts, advance=starts | self.take, beyond=self.beats - 1)
        m.d.comb += self.load.eq(due & supplied)
        m.d.sync += [
            supplied.eq(self.valid & ~self.ready | left.done & ~starts),
            self.take.eq(self.load),
            self.ready.eq(self.load & ~left.done),
            near.eq(self.writing & (self.entry == self.entries - 3)),
            last_entry.eq(near),
            self.posted.eq(near & step_loaded),
            token_ends.eq(near & step_loaded & left.done),
        ]
        with m.If(self.load):
            m.d.sync += [self.writing.eq(1), self.entry.eq(0), self.beat.eq(next_beat)]
            m.d.sync += [next_beat.eq(next_beat + 1), step_loaded.eq(next_beat == self.beats - 1)]
            with m.If(next_beat == self.beats - 1):
                m.d.sync += next_beat.eq(0)
        with m.Elif(self.writing):
            m.d.sync += [self.entry.eq(self.entry + 1), self.writing.eq(~last_entry)]

        # A step claims its bank before its first beat, as early as in the cycle in which the last step is posted.
        claimed = Signal(range(self.banks + 1))
        claim = claiming & (claimed != self.banks)
        m.d.sync += claimed.eq(claimed + claim - self.released)
        with m.If(taken | near & step_loaded & ~(left.done & last_token)):
            m.d.sync += claiming.eq(1)
        with m.Elif(claim):
            m.d.sync += claiming.eq(0)
        with m.If(claim | near & ~step_loaded):
            m.d.sync += due.eq(1)
        with m.Elif(self.load):
            m.d.sync += due.eq(0)

        m.d.comb += [self.note.first.eq(first), self.note.last.eq(token_ends)]
        with m.If(taken):
            m.d.sync += [active.eq(1), first.eq(1)]
        with m.If(self.posted):
            m.d.sync += first.eq(token_ends)
            if self.banks == 2:
                m.d.sync += self.bank.eq(~self.bank)
        with m.If(accept):
            m.d.sync += tokens.eq(self.jobs.payload.tokens)
        with m.Elif(token_ends):
            m.d.sync += [tokens.eq(tokens - 1), active.eq(~last_token)]
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
        Cycles from the last issue over a bank to `released`.

    Members
    -------
    posted, note, n_out : In
        From `FillSchedule`.
    released : Out(1)
        The look-ups of a bank are over.
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
                "note": In(Note),
                "n_out": In(n_out_max.bit_length()),
                "released": Out(1),
                "waiting": Out(1),
                "valid": In(1),
                "ready": Out(1),
                "room": In(1),
                "issue": Out(1),
                "bank": Out(1, init=self.banks - 1),  # the first arming makes it 0
                "block": Out(range(-(-n_out_max // rows))),
                "first": Out(1),
                "last": Out(1),
                "final": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the state machine."""
        m = Module()
        running, arm = Signal(), Signal()
        issue, ends = self.issue, self.issue & self.final
        m.d.comb += [self.ready.eq(running & (~self.last | self.room)), issue.eq(self.ready & self.valid)]

        # What comes next depends on registers alone; the streams only say when.
        advance = ~running | issue
        resting, spaced, note = Signal(max(self.GAP - 2, 1)), Signal(), Signal(Note)
        m.d.comb += arm.eq(self.waiting & Mux(running, self.final & spaced, ~resting[0]))
        left = _Remainder(m, self.n_out, self.rows, self.rows, start=arm, advance=advance)
        m.d.comb += self.final.eq(left.done)
        with m.If(advance):
            m.d.sync += [
                running.eq(arm | running & ~self.final),
                self.block.eq(Mux(arm, 0, self.block + 1)),
                spaced.eq(~arm & (spaced | (self.block == self.GAP - 2))),
            ]
            with m.If(arm):
                m.d.sync += [self.first.eq(note.first), self.last.eq(note.last)]
                if self.banks == 2:
                    m.d.sync += self.bank.eq(~self.bank)
        m.d.sync += resting.eq(resting >> 1)
        with m.If(ends):
            m.d.sync += resting.eq(Cat(self.block < self.GAP - 2 - i for i in range(self.GAP - 2)))

        # Banks that are full, in order: the next one's note, and with two banks perhaps one behind it.
        behind, behind_note = Signal(), Signal(Note)
        m.d.sync += self.waiting.eq(self.posted | behind | self.waiting & ~(advance & arm))
        with m.If(advance & arm | ~self.waiting):
            m.d.sync += [note.eq(Mux(behind, behind_note, self.note)), behind.eq(0)]
        if self.banks == 2:
            with m.Elif(self.posted):
                m.d.sync += [behind_note.eq(self.note), behind.eq(1)]

        released = ends
        for stage in range(self.release):
            register = Signal(name=f"release{stage}")
            m.d.sync += register.eq(released)
            released = register
        m.d.comb += self.released.eq(released)
        return m
