"""The sequencer of every engine that walks a weight matrix block by block over a stored activation vector.

A block is `rows` outputs. For each block the whole vector is read again, a step of `lanes` activations at a time. Two
vectors are stored, so that the next one is taken while the last one is used, also across jobs.

Cycle schedule: a job taken at cycle t takes its first beat of activations at t + 1 at the earliest; a vector whose last
beat was taken at t is armed at t + 1, and its first step offered at t + 3. From then on a step is offered in every
cycle, also from one block or one stored vector to the next.
"""

import dataclasses
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hw.engines.contract import EngineConfig, job_layout

__all__ = ["BlockSchedule", "Strides", "step_layout"]


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
        if self._shift is None:
            return signed(max(self.length_max, self.stride).bit_length() + 1)
        return unsigned(max(1, ((self.length_max - 1) >> self._shift).bit_length()))

    def start(self, length: Value) -> Value:
        """Return the count of a whole length."""
        return length - (self.stride + 1) if self._shift is None else (length - 1) >> self._shift

    def last(self, count: Value) -> Value:
        """Tell whether one more stride covers what is left."""
        return count[-1] if self._shift is None else count == 0

    def next(self, count: Value) -> Value:
        """Return the count a stride later."""
        return count - (self.stride if self._shift is None else 1)


def step_layout(config: EngineConfig) -> data.StructLayout:
    """Return the payload of `BlockSchedule.steps`.

    `first` and `last` mark the steps of a block, `final` every step of a token's last block, and `correct` a step whose
    activations are not of the vector (`BlockSchedule`).
    """
    lanes = data.ArrayLayout(signed(config.act_bits), config.activation_lanes)
    flags = {"first": 1, "last": 1, "final": 1, "correct": 1}
    return data.StructLayout({"activations": lanes, **flags, "mode": (len(config.modes) - 1).bit_length()})


class BlockSchedule(Component):
    """Takes jobs and activations, and offers the steps of each token.

    Parameters
    ----------
    config : EngineConfig
        Lengths, `rows`, `activation_lanes`, `act_bits` and `modes`.
    chunk : int or None
        With a number, a correction step follows every `chunk` steps of a block and its last step. Its activations are
        any; an array that wants one gives them a meaning of its own.

    Members
    -------
    jobs, activations : In(stream)
        As in `hw.engines.contract`.
    fault : Out(1)
    steps : Out(stream of step_layout)
    """

    def __init__(self, config: EngineConfig, chunk: int | None = None) -> None:
        self.config, self.chunk = config, chunk
        lanes = data.ArrayLayout(signed(config.act_bits), config.activation_lanes)
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(config.n_in_max, config.n_out_max, len(config.modes)))),
                "activations": In(stream.Signature(lanes)),
                "fault": Out(1),
                "steps": Out(stream.Signature(step_layout(config))),
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
            ends.eq(beat & n_in.last(left)),
        ]
        with m.If(accept):
            m.d.sync += [
                self.fault.eq(~legal),
                active.eq(legal),
                length.eq(n_in.start(offered.n_in)),
                blocks.eq(n_out.start(offered.n_out)),
            ]
            if len(config.modes) > 1:
                m.d.sync += mode.eq(offered.mode)
        with m.If(accept | ends):
            m.d.sync += [
                left.eq(Mux(accept, n_in.start(offered.n_in), length)),
                tokens.eq(Mux(accept, offered.tokens, tokens - 1)),
            ]
        with m.If(beat):
            m.d.sync += address.eq(address + 1)
            with m.If(ends):
                m.d.sync += [address.eq(0), bank.eq(~bank), end.eq(address), held.bit_select(bank, 1).eq(1)]
                with m.If(tokens == 1):
                    m.d.sync += active.eq(0)
            with m.Else():
                m.d.sync += left.eq(n_in.next(left))
        return {"write": Cat(address, bank), "beat": beat, "end": end, "blocks": blocks, "mode": mode}

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
        address, end, left = Signal(range(depth)), Signal(range(depth)), Signal(n_out.shape)
        mode, first = Signal.like(job["mode"]), Signal()
        fetch, block_ends, finish = Signal(), Signal(), Signal()
        step = self.steps.payload

        rows = 2 << (depth - 1).bit_length() if depth > 1 else 2
        shape = data.ArrayLayout(signed(self.config.act_bits), self.config.activation_lanes)
        # A word is read only after its vector is whole, so the read never meets a write of the same word.
        m.submodules.vectors = memory = Memory(shape=shape, depth=rows, init=[], attrs={"no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port(domain="comb")
        activations = Signal(shape, reset_less=True)
        place = len(address) if depth > 1 else 0
        m.d.comb += [
            write.addr.eq(job["write"] if place else job["write"][-1]),
            write.data.eq(self.activations.payload),
            write.en.eq(job["beat"]),
            read.addr.eq(Cat(address, bank) if place else bank),
            step.activations.eq(activations),
            fetch.eq(running & (~self.steps.valid | self.steps.ready)),
        ]

        at_end = address == end
        last: Value = at_end
        if self.chunk is None:
            m.d.comb += block_ends.eq(fetch & at_end)
            with m.If(fetch):
                m.d.sync += address.eq(Mux(at_end, 0, address + 1))
        else:
            correcting, over, count = Signal(), Signal(), Signal(range(self.chunk))
            last = correcting & over
            m.d.comb += block_ends.eq(fetch & last)
            with m.If(fetch):
                m.d.sync += [step.correct.eq(correcting), correcting.eq(0)]
                with m.If(correcting):
                    m.d.sync += count.eq(0)
                with m.Else():
                    m.d.sync += [address.eq(Mux(at_end, 0, address + 1)), over.eq(at_end), count.eq(count + 1)]
                    with m.If(at_end | (count == self.chunk - 1)):
                        m.d.sync += correcting.eq(1)

        with m.If(fetch):
            m.d.sync += [
                activations.eq(read.data),
                step.first.eq(first),
                step.last.eq(last),
                step.final.eq(n_out.last(left)),
                step.mode.eq(mode),
                self.steps.valid.eq(1),
                first.eq(0),
            ]
        with m.Elif(self.steps.ready):
            m.d.sync += self.steps.valid.eq(0)

        m.d.comb += finish.eq(block_ends & n_out.last(left))
        with m.If(block_ends):
            m.d.sync += [first.eq(1), left.eq(n_out.next(left))]
        with m.If(finish):
            m.d.sync += [held.bit_select(bank, 1).eq(0), bank.eq(~bank), running.eq(0)]
        with m.If(waiting & (~running | finish)):
            m.d.sync += [
                running.eq(1),
                first.eq(1),
                end.eq(job["end"]),
                left.eq(job["blocks"]),
                mode.eq(job["mode"]),
            ]
