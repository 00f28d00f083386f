"""The sequencer of every engine that walks a weight matrix block by block over a stored activation vector.

A block is `rows` outputs. For each block the whole vector is read again, a step of `lanes` activations at a time. Two
vectors are stored, so that the next one is taken while the last one is used, also across jobs.

Cycle schedule: a job taken at cycle t takes its first beat of activations at t + 1 at the earliest; a vector whose last
beat was taken at t is armed at t + 1, and its first step offered at t + 3. From then on a step is offered in every
cycle, also from one block or one stored vector to the next.

A step that is offered with its activations has to stand still with them, and so its taker's decision reaches the clock
enable of every activation. With `ahead` it does not: a step is offered at t + 2, of registers of the walk alone, and
its activations come in the cycle after it is taken, whatever happens then.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.thermometer import decoded_halves, thermometer
from nomul.contract import job_layout
from nomul.engines.matmul import MatmulConfig
from nomul.memory.wide import WideMemory

__all__ = ["ZERO_BEYOND", "BlockSchedule", "Strides", "Trim", "mark_layout", "step_layout"]


@dataclasses.dataclass(frozen=True)
class Trim:
    """What becomes of the activations of a beat before they are stored, for arrays whose weights are never zero."""

    change: Callable[[Module, Any, Sequence[Value], Value, Value], tuple[Any, Value]]
    """Of (module, activations, keep, beat, end), returns (activations to be stored, what is to be noted of the vector).

    `keep` says of each lane whether it belongs to the vector; in a cycle with `beat` the activations are stored, and
    `end` is set with a vector's last beat; the note counts in the cycle after it.
    """

    note_bits: int = 0
    """Width of the note."""

    edges: bool = True
    """Whether it has to know which lanes belong to the vector, and the array which rows to an output."""


def _zero_beyond(m: Module, activations: Any, keep: Sequence[Value], beat: Value, end: Value) -> tuple[Any, Value]:
    kept = Signal.like(activations, name="kept")
    for lane, counts in enumerate(keep):
        m.d.comb += kept[lane].eq(Mux(counts, activations[lane], 0))
    return kept, Const(0, 0)


ZERO_BEYOND = Trim(_zero_beyond)
"""Stores zero in the lanes beyond the vector."""


@dataclasses.dataclass(frozen=True)
class Strides:
    """Counts the strides of a length: a power of two costs a decrement, another stride an addition.

    The latter counts down from `length - stride - 1`, so that its sign alone tells the last stride.
    """

    length_max: int
    stride: int

    @property
    def _shift(self) -> int | None:
        return None if self.stride & (self.stride - 1) else self.stride.bit_length() - 1

    @property
    def shape(self) -> Shape:
        """The shape of a count."""
        if self._shift is None:
            return signed(max(self.length_max, self.stride).bit_length() + 1)
        return unsigned(max(1, ((self.length_max - 1) >> self._shift).bit_length()))

    @property
    def counts_down(self) -> bool:
        """Whether a count is what is left of a length, not its strides."""
        return self._shift is None

    def start(self, length: Value) -> Value:
        """Return the count of a whole length."""
        return length - (self.stride + 1) if self._shift is None else (length - 1) >> self._shift

    def last(self, count: Value) -> Value:
        """Tell whether one more stride covers what is left."""
        return count[-1] if self._shift is None else count == 0

    def ends_next(self, count: Value) -> Value:
        """Tell whether one more stride after this covers what is left."""
        return self.next(count)[-1] if self._shift is None else count == 1

    def next(self, count: Value) -> Value:
        """Return the count a stride later."""
        return count - (self.stride if self._shift is None else 1)

    def rest(self, length: Value) -> Value:
        """Return what has to be kept of a length beside its count, to tell where it ends in its last stride."""
        return Const(0, 0) if self._shift is None else (length - 1)[: self._shift]

    def end(self, count: Value, rest: Value) -> Value:
        """Return the last place of a length in its last stride, from 0."""
        return (count + self.stride)[: (self.stride - 1).bit_length()] if self._shift is None else rest


def mark_layout(config: MatmulConfig, passes: Sequence[int] = (1,), trim: Trim | None = None) -> data.StructLayout:
    """Return the payload of `BlockSchedule.steps`.

    `first` and `last` mark the steps of a block, `final` every step of a token's last block, `correct` a step whose
    activations are not of the vector (`BlockSchedule`), and `again` the first step of a block's second pass and later
    ones. `turn` counts a block's passes down to zero. With `trim` there are also `rows`, the last row of a final step
    that belongs to an output, and `note`, what the trim noted of the vector.
    """
    flags = {"first": 1, "last": 1, "final": 1, "correct": 1, "again": 1}
    numbers = {"mode": (len(config.modes) - 1).bit_length(), "turn": (max(passes) - 1).bit_length()}
    if trim is not None:
        numbers |= {"rows": (config.rows - 1).bit_length() if trim.edges else 0, "note": trim.note_bits}
    return data.StructLayout({**flags, **numbers})


def step_layout(config: MatmulConfig, passes: Sequence[int] = (1,), trim: Trim | None = None) -> data.StructLayout:
    """Return a step as an array takes it: `activations`, and above them the marks."""
    lanes = data.ArrayLayout(signed(config.act_bits), config.activation_lanes)
    return data.StructLayout({"activations": lanes, **mark_layout(config, passes, trim).members})


class BlockSchedule(Component):
    """Takes jobs and activations, and offers the steps of each token.

    Parameters
    ----------
    config : MatmulConfig
        Lengths, `rows`, `activation_lanes`, `act_bits` and `modes`.
    chunk : int or None
        With a number, a correction step follows every `chunk` steps of a block and its last step. Its activations are
        any; an array that wants one gives them a meaning of its own.
    preload : bool
        Whether a correction step comes before the steps of each block; it is the block's `first`. Not with `chunk`.
    passes : sequence of int
        For each mode, how often a block walks the vector; one number stands for all modes.
    trim : Trim or None
        Changes the activations before they are stored, and adds to `steps` what `mark_layout` says.
    ahead : bool
        Whether `word` holds the activations of the step that was taken in the cycle before, in place of those of the
        step that is offered.

    Members
    -------
    jobs, activations : In(stream)
        As in `nomul.engines.matmul`.
    fault : Out(1)
    steps : Out(stream of mark_layout)
    word : Out
        The activations of a step.
    """

    def __init__(
        self,
        config: MatmulConfig,
        chunk: int | None = None,
        preload: bool = False,
        passes: Sequence[int] = (1,),
        trim: Trim | None = None,
        ahead: bool = False,
    ) -> None:
        if chunk is not None and (preload or max(passes) > 1):
            raise ValueError(f"chunk = {chunk} goes with neither preload nor more than one pass")
        self.config, self.chunk, self.preload, self.trim, self.ahead = config, chunk, preload, trim, ahead
        self.passes = tuple(passes) * len(config.modes) if len(passes) == 1 else tuple(passes)
        lanes = data.ArrayLayout(signed(config.act_bits), config.activation_lanes)
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(config.job_limits, len(config.modes)))),
                "activations": In(stream.Signature(lanes)),
                "fault": Out(1),
                "steps": Out(stream.Signature(mark_layout(config, self.passes, trim))),
                "word": Out(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the two state machines and the memory between them."""
        m = Module()
        config = self.config
        n_in, n_out = Strides(config.n_in_max, config.activation_lanes), Strides(config.n_out_max, config.rows)
        depth = -(-config.n_in_max // config.activation_lanes)
        held = Signal(2)  # a bank has a whole vector that is still wanted
        bank, running = Signal(), Signal()  # of the walk
        waiting = Signal()
        m.d.comb += waiting.eq(Mux(running, held.bit_select(~bank, 1), held.bit_select(bank, 1)))

        job = self._load(m, n_in, n_out, depth, held, waiting)
        self._walk(m, n_out, depth, held, waiting, bank, running, job)
        return m

    def _load(
        self, m: Module, n_in: Strides, n_out: Strides, depth: int, held: Signal, waiting: Value
    ) -> dict[str, Any]:
        """Build the side that takes jobs and stores vectors; return what the walk needs of it."""
        config, offered = self.config, self.jobs.payload
        length, left, blocks = Signal(n_in.shape), Signal(n_in.shape), Signal(n_out.shape)
        tokens, active, bank = Signal.like(offered.tokens), Signal(), Signal()
        address, end = Signal(range(depth)), Signal(range(depth))
        mode = Signal((len(config.modes) - 1).bit_length())

        closing = Signal()  # the next beat is a vector's last

        legal = (
            (offered.n_in != 0) & (offered.n_in < config.n_in_max + 1) & (offered.n_out != 0)
            & (offered.n_out < config.n_out_max + 1) & (offered.tokens != 0)
        )  # fmt: skip
        if len(config.modes) > 1:
            legal &= offered.mode < len(config.modes)
        m.d.comb += self.jobs.ready.eq(~(active | waiting))
        accept, ends = self.jobs.valid & self.jobs.ready, Signal()
        beat = self.activations.valid & self.activations.ready
        m.d.comb += [
            self.activations.ready.eq(active & ~held.bit_select(bank, 1)),
            ends.eq(beat & closing),
        ]
        if self.trim is None and not self.ahead:
            m.d.comb += closing.eq(n_in.last(left))
        else:
            # In a register: with a trim the path from here goes through all lanes. It follows what is offered until a
            # job is taken, so that it does not wait for that decision.
            only = Signal()  # a vector is one beat
            with m.If(~active):
                m.d.sync += closing.eq(n_in.last(n_in.start(offered.n_in)))
            with m.Elif(beat):
                m.d.sync += closing.eq(Mux(closing, only, n_in.ends_next(left)))
            with m.If(accept):
                m.d.sync += only.eq(n_in.last(n_in.start(offered.n_in)))
        with m.If(accept):
            m.d.sync += [
                self.fault.eq(~legal),
                active.eq(legal),
                length.eq(n_in.start(offered.n_in)),
                blocks.eq(n_out.start(offered.n_out)),
            ]
            if len(config.modes) > 1:
                m.d.sync += mode.eq(offered.mode)
        # What a beat leaves behind depends on registers alone; the beat itself only enables it.
        with m.If(~active):
            m.d.sync += [left.eq(n_in.start(offered.n_in)), tokens.eq(offered.tokens)]
        with m.Elif(beat):
            m.d.sync += [left.eq(n_in.next(left)), address.eq(address + 1)]
            with m.If(closing):
                m.d.sync += [
                    left.eq(length),
                    address.eq(0),
                    tokens.eq(tokens - 1),
                    bank.eq(~bank),
                    end.eq(address),
                ]
                with m.If(tokens == 1):
                    m.d.sync += active.eq(0)
        # A bank that is held already stays so, and its release, which comes later here, wins.
        with m.If(active & self.activations.valid & closing):
            m.d.sync += held.bit_select(bank, 1).eq(1)
        stored: Any = self.activations.payload
        # With a stride of a power of two a length is its last address; it stays while a vector waits.
        last = end if n_in.counts_down else length[: len(end)]
        job = {"write": Cat(address, bank), "beat": beat, "end": last, "blocks": blocks, "mode": mode}
        if self.trim is not None:
            rows = Signal.like(n_out.rest(offered.n_out))
            with m.If(accept):
                m.d.sync += rows.eq(n_out.rest(offered.n_out))
            keep = [Const(1, 1)] * config.activation_lanes
            if self.trim.edges:
                exists = self._exists(m, n_in, accept, left)
                keep = [exists[0], *(~closing | lane for lane in exists[1:])]
            stored, note = self.trim.change(m, stored, keep, beat, ends)
            notes = [Signal(self.trim.note_bits, name=f"note{number}") for number in range(2)]
            ended = Signal()
            m.d.sync += ended.eq(ends)
            for number, kept in enumerate(notes):
                with m.If(ended & (bank != number)):
                    m.d.sync += kept.eq(note)
            job |= {"rows": rows, "notes": notes}
        if self.ahead:
            # A word is read two cycles after its beat at the earliest, so it may be written a cycle late.
            late = {name: Signal.like(Value.cast(job[name]), name=f"late_{name}") for name in ("write", "beat")}
            m.d.sync += [signal.eq(job[name]) for name, signal in late.items()]
            later = Signal(len(Value.cast(stored)), name="later", reset_less=True)
            m.d.sync += later.eq(stored)
            job, stored = job | late, later
        return job | {"stored": stored}

    def _exists(self, m: Module, n_in: Strides, accept: Value, left: Value) -> list[Value]:
        """Return, for each lane, whether a vector's last beat has it."""
        lanes, offered = self.config.activation_lanes, self.jobs.payload.n_in
        rest = Signal.like(n_in.rest(offered))
        bits = len(n_in.end(left, rest))
        if self.ahead and not n_in.counts_down:
            code = decoded_halves(m, "end", n_in.rest(offered))
            halves = Signal(len(code), name="halves")
            with m.If(accept):
                m.d.sync += halves.eq(code)
            return thermometer(halves, bits, lanes)
        with m.If(accept):
            m.d.sync += rest.eq(n_in.rest(offered))
        return thermometer(decoded_halves(m, "end", n_in.end(left, rest)), bits, lanes)

    def _walk(
        self,
        m: Module,
        n_out: Strides,
        depth: int,
        held: Signal,
        waiting: Value,
        bank: Signal,
        running: Signal,
        job: dict[str, Any],
    ) -> None:
        """Build the memory, and the side that offers its words block by block."""
        address, mark, left = Signal(range(depth)), Signal(range(depth)), Signal(n_out.shape)
        mode, first = Signal.like(job["mode"]), Signal()
        fetch, advance, moves, finish, starts = (Signal() for _ in range(5))
        step = self.steps.payload

        rows = 2 << (depth - 1).bit_length() if depth > 1 else 2
        shape = data.ArrayLayout(signed(self.config.act_bits), self.config.activation_lanes)
        # A word is read only after its vector is whole, so the read never meets a write of the same word. The array's
        # register is the second behind the memory.
        m.submodules.vectors = memory = WideMemory(shape, rows, self.config.target)
        word = Signal(shape, reset_less=True)
        place = len(address) if depth > 1 else 0
        m.d.comb += [
            memory.write_address.eq(job["write"] if place else job["write"][-1]),
            Value.cast(memory.write_data).eq(job["stored"]),
            memory.write.eq(job["beat"]),
            memory.read_address.eq(Cat(address, bank) if place else bank),
            self.word.eq(word),
        ]

        # Kept beside the address, to keep the comparison off the path from the streams. `mark` is a vector's last
        # address, or with `ahead` the one before it, so that no addition comes before the comparison.
        at_end, final = Signal(), Signal()
        reached = address == mark if self.ahead else address + 1 == mark
        alone = mark.all() if self.ahead and depth > 1 else mark == 0
        last: Value = at_end
        turn, final_turn, again = Signal.like(step.turn), Signal(), Signal()
        turns = Array(count - 1 for count in self.passes)
        if self.preload:
            correcting = Signal(init=1)
            last = at_end & ~correcting
        if max(self.passes) > 1:
            ends = fetch & last
            last = last & final_turn
            with m.If(ends):
                m.d.sync += [
                    turn.eq(Mux(final_turn, turns[mode], turn - 1)),
                    final_turn.eq(Mux(final_turn, turns[mode] == 0, turn == 1)),
                    again.eq(~final_turn),
                ]
            with m.Elif(fetch):
                m.d.sync += again.eq(0)
        marks = {"first": first, "final": final, "again": again, "turn": turn, "mode": mode}
        if self.preload:
            m.d.comb += advance.eq(fetch & ~correcting)
            marks["correct"] = correcting
            with m.If(fetch):
                m.d.sync += correcting.eq(last)
        elif self.chunk is None:
            m.d.comb += advance.eq(fetch)
        else:
            correcting, over, count = Signal(), Signal(), Signal(range(self.chunk))
            last = correcting & over
            m.d.comb += advance.eq(fetch & ~correcting)
            marks["correct"] = correcting
            with m.If(fetch):
                m.d.sync += correcting.eq(0)
                with m.If(correcting):
                    m.d.sync += count.eq(0)
                with m.Else():
                    m.d.sync += [over.eq(at_end), count.eq(count + 1)]
                    with m.If(at_end | (count == self.chunk - 1)):
                        m.d.sync += correcting.eq(1)

        with m.If(advance):
            m.d.sync += [
                address.eq(Mux(at_end, 0, address + 1)),
                at_end.eq(Mux(at_end, alone, reached)),
            ]
        marks["last"] = last
        if self.trim is not None:
            rows = Signal.like(job["rows"])
            marks |= {"rows": n_out.end(left, rows), "note": Mux(bank, *reversed(job["notes"]))}
            with m.If(moves & starts):
                m.d.sync += rows.eq(job["rows"])
        if self.ahead:
            m.d.comb += [self.steps.valid.eq(running), fetch.eq(running & self.steps.ready)]
            m.d.comb += [step[name].eq(value) for name, value in marks.items()]
            m.d.sync += word.eq(memory.read_data)
        else:
            m.d.comb += fetch.eq(running & (~self.steps.valid | self.steps.ready))
            with m.If(fetch):
                m.d.sync += [self.steps.valid.eq(1), word.eq(memory.read_data)]
                m.d.sync += [step[name].eq(value) for name, value in marks.items()]
            with m.Elif(self.steps.ready):
                m.d.sync += self.steps.valid.eq(0)

        # What a step leaves behind depends on registers alone; that it is taken only enables it.
        m.d.comb += [
            moves.eq(fetch | (~running & waiting)),
            finish.eq(running & last & final),
            starts.eq(waiting & (~running | finish)),
        ]
        with m.If(moves):
            m.d.sync += first.eq(last | starts)
            with m.If(last):
                m.d.sync += [left.eq(n_out.next(left)), final.eq(n_out.ends_next(left))]
            with m.If(finish):
                m.d.sync += [held.bit_select(bank, 1).eq(0), bank.eq(~bank), running.eq(0)]
            with m.If(starts):
                m.d.sync += [
                    running.eq(1),
                    mark.eq(job["end"] - 1 if self.ahead else job["end"]),
                    at_end.eq(job["end"] == 0),
                    left.eq(job["blocks"]),
                    final.eq(n_out.last(job["blocks"])),
                    mode.eq(job["mode"]),
                    turn.eq(turns[job["mode"]]),
                    final_turn.eq(turns[job["mode"]] == 0),
                ]
