"""The sequencer of engines whose weights come in groups of inputs: `BlockSchedule` with a sum for each group.

A block is `rows` outputs; for each block the whole stored vector is read again, a word of `word_lanes` activations in
each step. Each group takes the same number of steps; with `fold` passes its words are read so many times, once for each
part of the block's rows. Where the vector ends within a group, its last word is read again until the group is full: the
packer gives such steps weights that count for nothing.

While a vector is stored, the activations of each group are added up, once for all outputs. The sums are kept beside the
vector. Two vectors are stored, so that the next one is taken while the last one is used, also across jobs.

After a token's last block come `drain` steps, which only move the array on.

Cycle schedule: a job taken at cycle t takes its first beat of activations at t + 1 at the earliest; a vector whose last
beat was taken at t is armed at t + 1, and its first step offered at t + 2. From then on a step is offered in every
cycle, also from one block or one stored vector to the next.
"""

from typing import Any, Protocol

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.column_sum import add_columns, add_constant
from nomul.contract import job_layout
from nomul.engines.block_schedule import Strides
from nomul.engines.matmul import MatmulConfig

__all__ = ["GroupConfig", "GroupSchedule", "group_step_layout"]


class GroupConfig(MatmulConfig, Protocol):
    """What a `GroupSchedule` asks of its configuration."""

    @property
    def word_lanes(self) -> int:
        """Activations in a step, a multiple of `activation_lanes`."""

    @property
    def fold(self) -> int:
        """Passes over each group."""

    @property
    def group_steps(self) -> int | None:
        """Steps of a pass over a group; None if the group is the whole row."""

    @property
    def group_count(self) -> int:
        """Groups of the longest vector."""

    @property
    def least_steps(self) -> int:
        """Fewest steps of a pass."""

    @property
    def sum_width(self) -> int:
        """Width of the sum of a group's activations."""

    @property
    def trees(self) -> bool:
        """Whether adders are explicit cells."""

    @property
    def drain(self) -> int:
        """Steps after a token's last."""


def group_step_layout(config: GroupConfig) -> data.StructLayout:
    """Return the payload of `GroupSchedule.steps`.

    `first` and `last` mark the steps of a pass, `full` the last step of a group, `end` that of a block; with them,
    `opening` tells a block's first group and `final` a token's last block. A drain step has none of the first four.
    """
    lanes = data.ArrayLayout(signed(config.act_bits), config.word_lanes)
    flags = ("first", "last", "full", "end", "opening", "final")
    return data.StructLayout({"activations": lanes, **dict.fromkeys(flags, 1)})


class GroupSchedule(Component):
    """Takes jobs and activations, and offers the steps of each token.

    Parameters
    ----------
    config : GroupConfig

    Members
    -------
    jobs, activations : In(stream)
        As in `nomul.engines.matmul`.
    fault : Out(1)
    steps : Out(stream of group_step_layout)
    group : In
        A group of the vector whose steps are offered.
    sum : Out(signed(sum_width))
        The sum of its activations, in the same cycle.
    """

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(config.job_limits))),
                "activations": In(stream.Signature(data.ArrayLayout(signed(config.act_bits), config.activation_lanes))),
                "fault": Out(1),
                "steps": Out(stream.Signature(group_step_layout(config))),
                "group": In(range(config.group_count)),
                "sum": Out(signed(config.sum_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the two state machines and the memories between them."""
        m = Module()
        config = self.config
        n_out = Strides(config.n_out_max, config.rows)
        held = Signal(2)  # a bank has a whole vector that is still wanted
        bank, running = Signal(), Signal()  # of the walk
        waiting = Signal()
        m.d.comb += waiting.eq(Mux(running, held.bit_select(~bank, 1), held.bit_select(bank, 1)))
        job = self._load(m, n_out, held, waiting)
        self._walk(m, n_out, held, waiting, bank, running, job)
        return m

    def _load(self, m: Module, n_out: Strides, held: Signal, waiting: Value) -> dict[str, Any]:
        """Build the side that takes jobs, stores vectors and adds up groups; return what the walk needs of it."""
        config, offered = self.config, self.jobs.payload
        n_in = Strides(config.n_in_max, config.activation_lanes)
        parts = config.word_lanes // config.activation_lanes
        length, left, blocks = Signal(n_in.shape), Signal(n_in.shape), Signal(n_out.shape)
        tokens, active, bank = Signal.like(offered.tokens), Signal(), Signal()
        address, part = Signal(range(-(-config.n_in_max // config.word_lanes))), Signal(range(parts))
        end = Signal.like(address)

        legal = (
            (offered.n_in != 0) & (offered.n_in < config.n_in_max + 1) & (offered.n_out != 0)
            & (offered.n_out < config.n_out_max + 1) & (offered.tokens != 0)
        )  # fmt: skip
        m.d.comb += self.jobs.ready.eq(~(active | waiting))
        accept, ends, beat = self.jobs.valid & self.jobs.ready, Signal(), Signal()
        m.d.comb += [
            self.activations.ready.eq(active & ~held.bit_select(bank, 1)),
            beat.eq(self.activations.valid & self.activations.ready),
            ends.eq(beat & n_in.last(left)),
        ]
        with m.If(accept):
            m.d.sync += [
                self.fault.eq(~legal),
                active.eq(legal),
                length.eq(n_in.start(offered.n_in)),
                blocks.eq(n_out.start(offered.n_out)),
            ]
        with m.If(accept | ends):
            m.d.sync += [
                left.eq(Mux(accept, n_in.start(offered.n_in), length)),
                tokens.eq(Mux(accept, offered.tokens, tokens - 1)),
            ]
        whole: Value = part == parts - 1
        with m.If(beat):
            m.d.sync += part.eq(Mux(whole, 0, part + 1))
            with m.If(whole):
                m.d.sync += address.eq(address + 1)
            with m.If(ends):
                m.d.sync += [address.eq(0), part.eq(0), bank.eq(~bank), end.eq(address)]
                m.d.sync += held.bit_select(bank, 1).eq(1)
                with m.If(tokens == 1):
                    m.d.sync += active.eq(0)
            with m.Else():
                m.d.sync += left.eq(n_in.next(left))

        # Sums: of the group so far; a group's is kept after its last beat.
        group, fresh, full = Signal(range(config.group_count)), Signal(init=1), Signal()
        partial = Signal(signed(config.sum_width), reset_less=True)
        m.d.comb += full.eq(ends)
        if config.group_steps is not None:
            count = Signal(range(config.group_steps * parts))
            m.d.comb += full.eq(ends | (count == config.group_steps * parts - 1))
            with m.If(beat):
                m.d.sync += count.eq(Mux(full, 0, count + 1))
        columns: list[list[Value]] = [[bit & ~fresh] for bit in partial]
        for lane in self.activations.payload:
            for index, bit in enumerate(lane[:-1]):
                columns[index].append(bit)
            columns[config.act_bits - 1].append(~lane[-1])
        add_constant(columns, -config.activation_lanes << (config.act_bits - 1))
        total = add_columns(m, "group_sum", columns, config.sum_width, cells=config.trees)
        keep, place = Signal(), Signal(len(group) + 1, reset_less=True)
        m.d.sync += keep.eq(beat & full)
        with m.If(beat):
            m.d.sync += [partial.eq(total), fresh.eq(full), place.eq(Cat(group, bank))]
            with m.If(full):
                m.d.sync += group.eq(Mux(ends, 0, group + 1))
        return {
            "address": address, "bank": bank, "part": part, "beat": beat, "end": end, "blocks": blocks,
            "place": place, "sum": partial, "keep": keep,
        }  # fmt: skip

    def _walk(
        self,
        m: Module,
        n_out: Strides,
        held: Signal,
        waiting: Value,
        bank: Signal,
        running: Signal,
        job: dict[str, Any],
    ) -> None:
        """Build the memories, and the side that offers the words block by block."""
        config, step, steps = self.config, self.steps.payload, self.config.group_steps
        address, end, left = Signal.like(job["address"]), Signal.like(job["end"]), Signal(n_out.shape)

        lanes = data.ArrayLayout(signed(config.act_bits), config.word_lanes)
        # A word is read only after its vector is whole, so the read never meets a write of the same word.
        depth = 2 << len(address)
        m.submodules.vectors = memory = Memory(shape=lanes, depth=depth, init=[], attrs={"no_rw_check": 1})
        write = memory.write_port(granularity=config.activation_lanes)
        read = memory.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(Cat(job["address"], job["bank"])),
            write.en.eq(job["beat"] << job["part"]),
            read.addr.eq(Cat(address, bank)),
            step.activations.eq(read.data),
        ]
        for lane in range(config.word_lanes):
            m.d.comb += write.data[lane].eq(self.activations.payload[lane % config.activation_lanes])
        depth = 1 << len(job["place"])
        m.submodules.sums = memory = Memory(
            shape=signed(config.sum_width), depth=depth, init=[], attrs={"no_rw_check": 1}
        )
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(job["place"]),
            write.data.eq(job["sum"]),
            write.en.eq(job["keep"]),
            read.addr.eq(Cat(self.group, bank)),
            self.sum.eq(read.data),
        ]

        least = config.least_steps if steps is None else steps
        count, draining, drained = Signal(range(least)), Signal(), Signal(range(config.drain))
        taken, at_end, over, full, finish = (
            Signal(name=name) for name in ("taken", "at_end", "over", "full", "finish")
        )
        first, opening, passes, base = Signal(), Signal(), Signal(range(config.fold)), Signal.like(address)
        m.d.comb += [
            self.steps.valid.eq(running),
            taken.eq(running & self.steps.ready),
            at_end.eq(address == end),
            over.eq((count == least - 1) & (at_end if steps is None else 1) & ~draining),
            full.eq(over & (passes == config.fold - 1)),
            step.first.eq(first & ~draining),
            step.last.eq(over),
            step.full.eq(full),
            step.end.eq(full & at_end),
            step.opening.eq(opening),
            step.final.eq(n_out.last(left)),
        ]
        with m.If(taken & ~draining):
            m.d.sync += first.eq(over)
            with m.If(over):
                m.d.sync += [count.eq(0), passes.eq(Mux(full, 0, passes + 1))]
            with m.Elif((count != least - 1) if steps is None else 1):
                m.d.sync += count.eq(count + 1)
            with m.If(over & ~full):
                m.d.sync += address.eq(base)
            with m.Elif(~at_end):
                m.d.sync += address.eq(address + 1)
            with m.Elif(full):
                m.d.sync += [address.eq(0), left.eq(n_out.next(left)), draining.eq(n_out.last(left))]
            with m.If(full):
                m.d.sync += [base.eq(Mux(at_end, 0, address + 1)), opening.eq(at_end)]
        m.d.comb += finish.eq(taken & draining & (drained == config.drain - 1))
        with m.If(taken & draining):
            m.d.sync += drained.eq(drained + 1)
        with m.If(finish):
            m.d.sync += [
                draining.eq(0), drained.eq(0), held.bit_select(bank, 1).eq(0), bank.eq(~bank), running.eq(0),
            ]  # fmt: skip
        with m.If(waiting & (~running | finish)):
            m.d.sync += [running.eq(1), first.eq(1), opening.eq(1), end.eq(job["end"]), left.eq(job["blocks"])]
