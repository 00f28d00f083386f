"""The way of FP16 activations into `nomul.engines.mixpe_fp16`: each group is aligned to its largest exponent.

A group waits in a ring of memory until its last transfer has come and its largest exponent is known; then it leaves, a
transfer a cycle, while the next one comes in. An activation leaves as a two's complement number in units of
2^(E - 14 - significand), E being the group's largest exponent field and at least 1: rounded half to even. Infinities,
NaN and lanes beyond the vector's end leave as zero; the first two set the group's flag. Above its number each lane
carries a share of E and the flag (`nomul.arith.fp16.SIDE_BITS`, lowest bits in lane 0).

Cycle schedule: a group whose last transfer was taken at t is offered from t + 2 on.
"""

from typing import Protocol

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.fp16 import SIDE_BITS, align, exponent_field, greatest, shared_side, unpack
from nomul.contract import job_layout

__all__ = ["ALIGN_LATENCY", "GroupAlign", "side_share"]

ALIGN_LATENCY = 1
"""Cycles that a transfer takes besides those of its group."""

GROUPS = 4
"""Groups that wait whole."""


class _AlignConfig(Protocol):
    @property
    def job_limits(self) -> dict[str, int]: ...

    @property
    def activation_lanes(self) -> int: ...

    @property
    def significand(self) -> int: ...

    @property
    def group_steps(self) -> int: ...


def side_share(lanes: int) -> int:
    """Return the bits of a group's exponent and flag that each lane carries."""
    return -(-SIDE_BITS // lanes)


class GroupAlign(Component):
    """The aligner.

    Parameters
    ----------
    config : _AlignConfig

    Members
    -------
    start : In(1)
        A job is taken in this cycle.
    job : In(job_layout)
    fault : In(1)
        The last job was illegal; told from the cycle after it on.
    activations : In(stream)
        binary16, as in `nomul.engines.matmul`.
    aligned : Out(stream)
        As many transfers.
    """

    def __init__(self, config: _AlignConfig) -> None:
        self.config = config
        lanes = config.activation_lanes
        width = config.significand + 1 + side_share(lanes)
        super().__init__(
            {
                "start": In(1),
                "job": In(job_layout(config.job_limits)),
                "fault": In(1),
                "activations": In(stream.Signature(data.ArrayLayout(signed(16), lanes))),
                "aligned": Out(stream.Signature(data.ArrayLayout(signed(width), lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the ring, the side that fills it and the side that empties it."""
        m = Module()
        lanes = self.config.activation_lanes
        depth = 1 << (self.config.group_steps + 1).bit_length()
        shape = data.StructLayout({"words": data.ArrayLayout(16, lanes), "ends": 1})
        m.submodules.ring = ring = Memory(shape=shape, depth=depth, init=[], attrs={"no_rw_check": 1})
        m.submodules.groups = groups = SyncFIFO(width=SIDE_BITS, depth=GROUPS)
        write, read = ring.write_port(), ring.read_port(domain="comb")
        level = Signal(range(depth + 1))
        room = Signal()
        m.d.comb += room.eq((level != depth) & groups.w_rdy)
        beat = self._fill(m, write, groups, room)

        valid, fetch = Signal(), Signal()
        m.d.comb += [
            fetch.eq(groups.r_rdy & (~valid | self.aligned.ready)),
            groups.r_en.eq(fetch & read.data.ends),
            self.aligned.valid.eq(valid),
        ]
        with m.If(beat):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(fetch):
            m.d.sync += [read.addr.eq(read.addr + 1), valid.eq(1)]
        with m.Elif(self.aligned.ready):
            m.d.sync += valid.eq(0)
        m.d.sync += level.eq(level + beat - fetch)

        side = Signal(SIDE_BITS, reset_less=True)
        with m.If(fetch):
            m.d.sync += side.eq(groups.r_data)
        share = side_share(lanes)
        for lane in range(lanes):
            value = self._align(m, lane, read.data.words[lane], groups.r_data[:5], fetch)
            above = Cat(side, Const(0, share * lanes))[share * lane : share * (lane + 1)]
            m.d.comb += self.aligned.payload[lane].eq(Cat(value, above).as_signed())
        return m

    def _fill(self, m: Module, write: Value, groups: SyncFIFO, room: Value) -> Value:
        """Build the side that takes transfers and finds each group's exponent; return whether it takes one."""
        config = self.config
        lanes, steps = config.activation_lanes, config.group_steps
        active, left, tokens = Signal(), Signal.like(self.job.n_in), Signal.like(self.job.tokens)
        place = Signal(range(steps))
        most, flag = Signal(5), Signal()
        beat, last, ends = Signal(), Signal(), Signal()
        length = Signal.like(self.job.n_in)
        m.d.comb += [
            self.activations.ready.eq(active & ~self.fault & room),
            beat.eq(self.activations.valid & self.activations.ready),
            last.eq(left <= lanes),
            ends.eq(last | (place == steps - 1)),
        ]
        fields: list[Value] = []
        specials: list[Value] = []
        for lane in range(lanes):
            word = self.activations.payload[lane].as_unsigned()
            field, inside = exponent_field(word), ~last | (left > lane)
            special = field.all()
            live = Signal(name=f"live{lane}")
            m.d.comb += [live.eq(inside & ~special), write.data.words[lane].eq(word & live.replicate(16))]
            fields.append(field & live.replicate(5))
            specials.append(inside & special)
        among, largest, special = greatest(fields), Signal(5), Signal()
        m.d.comb += [
            largest.eq(Mux(among > most, among, most)),
            special.eq(Cat(*specials).any() | flag),
            write.data.ends.eq(ends),
            write.en.eq(beat),
            groups.w_data.eq(shared_side(largest, special)),
            groups.w_en.eq(beat & ends),
        ]
        with m.If(self.fault):
            m.d.sync += active.eq(0)
        with m.If(beat):
            m.d.sync += [
                left.eq(Mux(last, length, left - lanes)),
                place.eq(Mux(ends, 0, place + 1)),
                most.eq(largest & (~ends).replicate(5)),
                flag.eq(special & ~ends),
            ]
            with m.If(last):
                m.d.sync += tokens.eq(tokens - 1)
                with m.If(tokens == 1):
                    m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [
                active.eq(1), left.eq(self.job.n_in), length.eq(self.job.n_in), tokens.eq(self.job.tokens),
            ]  # fmt: skip
        return beat

    def _align(self, m: Module, lane: int, word: Value, largest: Value, fetch: Value) -> Value:
        """Build a lane: its significand and distance in registers, then the number."""
        significand = Signal(11, name=f"significand{lane}", reset_less=True)
        distance = Signal(5, name=f"distance{lane}", reset_less=True)
        sign = Signal(name=f"sign{lane}", reset_less=True)
        registers = (significand, distance, sign)
        with m.If(fetch):
            m.d.sync += (register.eq(part) for register, part in zip(registers, unpack(word, largest), strict=True))
        return align(m, str(lane), registers, self.config.significand)
