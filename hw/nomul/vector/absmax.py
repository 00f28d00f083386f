"""Absmax barrier: finds the largest magnitude of a vector while it streams in, then quantises it exactly.

    q_i = clamp(round_half_even(c * u_i / max), -c, c),   c = 2^(code_bits - 1) - 1,   max = max_j |u_j|; 0 if max = 0

After VitaLLM (arXiv 2605.00320), which names the barrier without details, and the RMS-MAX unit of TeLLMe v2
(arXiv 2510.15926). The rule is rule 3 of docs/numerics.md. A vector waits in a ring memory while the next streams in,
so `lanes` values are taken and given in every cycle.

The quotient is a digit recurrence without restoring. With X = 2q - c, an odd number that is the sum of digits +-2^i,

    R = c * (2 |u| - max) - X * max = 2 (c |u| - q max),   -max <= R <= max exactly when q is rightly rounded,

so each of the code_bits - 1 steps adds or subtracts max by the sign of R, and no restoring, no reciprocal and no final
correction is needed. At a tie R ends at -max with q the upper neighbour, and clearing bit 0 of q makes it the even one.

Cost of one of four lanes with 20-bit words, on UltraScale+ (Yosys 0.70): this form 234 LUTs and 211 flip-flops;
restoring steps 364 and 251; a shared 11-bit reciprocal, its product, and a correction by q * max 652 and 177 (without
multiplier blocks); binary search in 127 thresholds in LUTRAM 231 and 471, but without what computes them in 127 cycles
or more before a vector's first code, and with one bank of them only.

Cycle schedule: a transfer taken at t is in registers t + 1, its magnitudes t + 2, their largest t + 2 + levels, the
vector's t + 3 + levels, and queued. Read from the ring at r: a register r + 1, a second r + 2, 2u - max r + 3, times c
r + 4, digit i r + 11 - i (8-bit codes), the tie r + 13, the sign r + 14, and queued.
"""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.add_subtract import add_subtract
from nomul.arith.pipeline import Delays
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, refuse, validate
from nomul.contract import CoreConfig, JobIntake, Port, core_members
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.memory.wide import WideMemory

__all__ = ["Absmax", "AbsmaxConfig", "Quotient"]

VECTORS_MAX = 65535

TIE_BITS = 4
"""Bits of a remainder that are tested for a tie at a time."""

SHARE = 4
"""Lanes that share the registers of a divisor: a net to all lanes would be slow."""


@dataclasses.dataclass(frozen=True)
class AbsmaxConfig(CoreConfig):
    """Configuration of `Absmax`.

    Raises
    ------
    ValueError
        If a field is out of its range, or fewer vectors may wait than are in the pipeline.
    """

    lanes: int = parameter(16, "values taken and codes given in parallel", low=1, high=256)
    word_bits: int = parameter(20, "width of a value, two's complement", low=4, high=48)
    code_bits: int = parameter(8, "width of a code, two's complement, symmetric", low=3, high=16)
    length_max: int = parameter(4096, "longest vector", low=1, high=1 << 20)
    vectors_waiting: int = parameter(16, "vectors whose maximum is known and not used up", low=8, high=256)
    queue: int = parameter(32, "transfers of codes that wait while the consumer stalls", low=24, high=4096)
    target: str = parameter("portable", "technology whose arithmetic and memories are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, and that short vectors need not wait for each other."""
        validate(self)
        if self.vectors_waiting < self.levels + 8:
            refuse(self, "vectors_waiting", f"{self.levels + 8} or more, for a tree of lanes = {self.lanes}")

    @property
    def transfers_max(self) -> int:
        """Transfers of the longest vector."""
        return -(-self.length_max // self.lanes)

    @property
    def ring(self) -> int:
        """Transfers that the memory holds: two of the longest vectors, or one and what the pipeline needs."""
        return 1 << (self.transfers_max + max(self.transfers_max, 24) - 1).bit_length()

    @property
    def levels(self) -> int:
        """Levels of the tree of maxima."""
        return (self.lanes - 1).bit_length()

    @property
    def job_limits(self) -> dict[str, int]:
        """Length of each vector, and how many vectors."""
        return {"length": self.length_max, "vectors": VECTORS_MAX}

    @property
    def repeats(self) -> str | None:
        """Each vector has its `last`."""
        return "vectors"

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The vectors."""
        return (Port.of("values", self.lanes, self.word_bits, "the vectors of a job, each from a new transfer"),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Codes, and the integer part of each vector's scale."""
        return (
            Port.of("results", self.lanes, self.code_bits, "the codes of each vector"),
            Port.of("maxima", 1, self.word_bits, "the largest magnitude of each vector", negative=False),
        )

    @property
    def work_per_cycle(self) -> int:
        """Values taken in a cycle."""
        return self.lanes

    def work(self, *, length: int, vectors: int) -> int:
        """Return the values of a job."""
        return length * vectors

    def cycles(self, *, length: int, vectors: int) -> int:
        """Return the cycles of a job alone: `transfers * (vectors + 1)` and a constant.

        `transfers = ceil(length / lanes)`; the last vector leaves while no other comes in.
        """
        return -(-length // self.lanes) * (vectors + 1) + self.levels + Quotient.latency(self.code_bits) + 10


class Quotient(Component):
    """One lane's division: `q = round_half_even(c * u / largest)` for `0 <= u <= largest`, `latency` cycles later.

    Members
    -------
    magnitude : In(word_bits)
        u, one a cycle.
    negative : In(1)
        The code is -q.
    largest : In(word_bits).array(code_bits + 2)
        The divisor, 1 or more; element i as it was i cycles ago, since lanes share its delays.
    code : Out(signed(code_bits))
    """

    def __init__(self, word_bits: int, code_bits: int, target: Target) -> None:
        self.word_bits, self.code_bits, self.target = word_bits, code_bits, target
        super().__init__(
            {
                "magnitude": In(word_bits),
                "negative": In(1),
                "largest": In(word_bits).array(code_bits + 2),
                "code": Out(signed(code_bits)),
            }
        )

    @staticmethod
    def latency(code_bits: int) -> int:
        """Return the cycles from operands to code: two to begin, one a digit, two for the tie, one for the sign."""
        return code_bits + 4

    def elaborate(self, platform: object) -> Module:
        """Build the pipeline."""
        m = Module()
        width, digits = self.word_bits, self.code_bits - 1
        one = Const(1, 1)
        centred = Signal(signed(width + 1), reset_less=True)
        start = Signal(width + digits, reset_less=True)
        double, divisor = Cat(Const(0, 1), self.magnitude), Cat(self.largest[0], Const(0, 1))
        m.d.sync += centred.eq(add_subtract(m, "centre", double, divisor, one, self.target))
        wide = Signal(signed(width + digits))
        m.d.comb += wide.eq(centred)
        m.d.sync += start.eq(add_subtract(m, "start", (wide << digits)[: len(wide)], wide[:], one, self.target))
        # The remainder so far, without the bits of `low` that are still to come; every step's result fits the width.
        remainder: Value = start[digits:]
        low: Value = start[:digits]
        quotient: Value = Const(0, 0)
        for digit in reversed(range(digits)):
            step = Signal(width, name=f"remainder{digit}", reset_less=True)
            bits = Signal(digits - digit, name=f"quotient{digit}", reset_less=True)
            divisor = self.largest[digits - digit + 1]
            subtract = ~remainder[-1]
            shifted = Cat(low[-1], remainder[: width - 1])
            difference = add_subtract(m, f"step{digit}", shifted, divisor, subtract, self.target)
            m.d.sync += [step.eq(difference), bits.eq(Cat(subtract, quotient))]
            remainder, quotient = step, bits
            if digit:
                rest = Signal(digit, name=f"low{digit}", reset_less=True)
                m.d.sync += rest.eq(low[:-1])
                low = rest
        divisor = self.largest[digits + 2]
        # remainder + divisor = 0: without a carry chain, since each bit's carry must be the `or` of the one below.
        wrong = (remainder ^ divisor) ^ ((remainder | divisor) << 1)[:width]
        untied = Signal(-(-width // TIE_BITS), reset_less=True)
        floor, rounded = (Signal(digits, name=name, reset_less=True) for name in ("floor", "rounded"))
        m.d.sync += [
            untied.eq(Cat(wrong[bit : bit + TIE_BITS].any() for bit in range(0, width, TIE_BITS))),
            floor.eq(quotient),
            rounded.eq(Cat(floor[0] & untied.any(), floor[1:])),
        ]
        delay = Delays(m)
        negative = delay(self.negative, self.latency(self.code_bits) - 1)
        m.d.sync += self.code.eq(Mux(negative, -rounded, rounded))
        return m


class Absmax(Component):
    """The unit; `nomul.contract` and the module document its ports.

    The codes of a vector begin only when the consumer has left room among the `maxima`: of these, too,
    `vectors_waiting` can wait.

    Parameters
    ----------
    config : AbsmaxConfig
    """

    def __init__(self, config: AbsmaxConfig) -> None:
        self.config = config
        super().__init__(core_members(config))

    def elaborate(self, platform: object) -> Module:
        """Wire intake, ring, tree of maxima and quotients together."""
        m = Module()
        config = self.config
        word = data.StructLayout(
            {"magnitudes": data.ArrayLayout(config.word_bits, config.lanes), "signs": config.lanes}
        )
        m.submodules.ring_room = ring_room = Credit(config.ring)
        m.submodules.vector_room = vector_room = Credit(config.vectors_waiting)
        taken, ends, magnitudes = self._take(m, word, ring_room, vector_room)

        m.submodules.ring = ring = WideMemory(word, config.ring, config.target)
        writing, reading = Signal(range(config.ring)), Signal(range(config.ring))
        m.d.sync += writing.eq(writing + taken)
        m.d.comb += [
            ring.write_address.eq(writing),
            ring.write.eq(taken),
            ring.write_data.eq(magnitudes),
            ring.read_address.eq(reading),
        ]

        m.submodules.waiting = waiting = self._largest(m, magnitudes.magnitudes, taken, ends)
        self._quantise(m, ring.read_data, reading, waiting, ring_room, vector_room)
        return m

    def _take(
        self, m: Module, word: data.StructLayout, ring_room: Credit, vector_room: Credit
    ) -> tuple[Value, Value, data.View]:
        """Take values; return whether there is a transfer, whether it is a vector's last, and its magnitudes."""
        config = self.config
        m.submodules.intake = intake = JobIntake(config.job_limits)
        busy, take, ending = Signal(), Signal(), Signal()
        left, vectors = Signal(range(config.length_max + 1)), Signal(range(VECTORS_MAX + 1))
        m.d.comb += [
            intake.jobs.payload.eq(self.jobs.payload),
            intake.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(intake.jobs.ready),
            intake.free.eq(~busy),
            self.fault.eq(intake.fault),
            self.values.ready.eq(busy & ring_room.available & vector_room.available),
            take.eq(self.values.valid & self.values.ready),
            ending.eq(left <= config.lanes),
            ring_room.take.eq(take),
            vector_room.take.eq(take & ending),
        ]
        with m.If(intake.start):
            m.d.sync += [busy.eq(1), left.eq(intake.job.length), vectors.eq(intake.job.vectors)]
        with m.If(take):
            m.d.sync += left.eq(left - config.lanes)
            with m.If(ending):
                m.d.sync += [left.eq(intake.job.length), vectors.eq(vectors - 1), busy.eq(vectors != 1)]

        raw = Signal(self.values.payload.shape(), reset_less=True)
        keep = Signal(config.lanes, reset_less=True)
        taken, ends = Signal(2), Signal(2)
        m.d.sync += [
            raw.eq(self.values.payload),
            keep.eq(Cat(left > lane for lane in range(config.lanes))),
            taken.eq(Cat(take, taken)),
            ends.eq(Cat(take & ending, ends)),
        ]
        held = Signal(word, reset_less=True)
        for lane in range(config.lanes):
            negative = raw[lane][-1]
            flipped = raw[lane].as_unsigned() ^ negative.replicate(config.word_bits)
            m.d.sync += [
                held.magnitudes[lane].eq(Mux(keep[lane], flipped + negative, 0)),
                held.signs[lane].eq(negative),
            ]
        return taken[1], ends[1], held

    def _largest(self, m: Module, magnitudes: data.View, taken: Value, ends: Value) -> Fifo:
        """Return the queue of vectors that are in the ring: largest magnitude, and the number of the last transfer."""
        config = self.config
        nodes: list[Value] = [magnitudes[lane] for lane in range(config.lanes)]
        for level in range(config.levels):
            above: list[Value] = []
            for number in range(0, len(nodes), 2):
                x, y = nodes[number], nodes[min(number + 1, len(nodes) - 1)]
                node = Signal(config.word_bits, name=f"largest{level}_{number // 2}", reset_less=True)
                m.d.sync += node.eq(Mux(x > y, x, y))
                above.append(node)
            nodes = above
        (node,) = nodes
        arrived, done = Signal(config.levels + 1), Signal(config.levels + 1)
        m.d.comb += [arrived[0].eq(taken), done[0].eq(ends)]
        m.d.sync += [arrived[1:].eq(arrived[:-1]), done[1:].eq(done[:-1])]
        largest, number = Signal(config.word_bits, reset_less=True), Signal(range(config.transfers_max))
        known, fresh = Signal(), Signal(init=1)
        m.d.sync += known.eq(arrived[-1] & done[-1])
        with m.If(arrived[-1] & (fresh | (node > largest))):
            m.d.sync += largest.eq(node)
        with m.If(arrived[-1]):
            m.d.sync += [number.eq(Mux(fresh, 0, number + 1)), fresh.eq(done[-1])]
        vector = data.StructLayout({"largest": config.word_bits, "final": number.shape()})
        waiting = Fifo(vector, config.vectors_waiting)
        m.d.comb += [waiting.payload.largest.eq(largest), waiting.payload.final.eq(number), waiting.write.eq(known)]
        return waiting

    def _quantise(
        self, m: Module, word: data.View, reading: Signal, waiting: Fifo, ring_room: Credit, vector_room: Credit
    ) -> None:
        """Read vectors whose maximum is known, divide, and queue codes and maxima."""
        config = self.config
        m.submodules.code_room = code_room = Credit(config.queue)
        m.submodules.maximum_room = maximum_room = Credit(config.vectors_waiting)
        delay = Delays(m)
        issue, begins, ending = Signal(), Signal(init=1), Signal()
        number = Signal(range(config.transfers_max))
        m.d.comb += [
            issue.eq(waiting.output.valid & code_room.available & maximum_room.available),
            ending.eq(number == waiting.output.payload.final),
            waiting.output.ready.eq(issue & ending),
            ring_room.give.eq(issue),
            vector_room.give.eq(waiting.taken),
            code_room.take.eq(issue),
            maximum_room.take.eq(issue & begins),
        ]
        with m.If(issue):
            m.d.sync += [reading.eq(reading + 1), begins.eq(ending), number.eq(Mux(ending, 0, number + 1))]

        # Two registers, so that the ring can be block RAM with its output register.
        read_out, fetched = (Signal(word.shape(), name=name, reset_less=True) for name in ("read_out", "fetched"))
        m.d.sync += [read_out.eq(word), fetched.eq(read_out)]
        maximum, divisor = Signal(config.word_bits), Signal(config.word_bits, reset_less=True)
        # All values are zero where the maximum is; 1 divides them as well.
        m.d.comb += maximum.eq(waiting.output.payload.largest)
        m.d.sync += divisor.eq(Cat(maximum[0] | (maximum == 0), maximum[1:]))
        line: list[Signal] = []
        m.submodules.codes = codes = Fifo(self.results.payload.shape(), config.queue)
        for lane in range(config.lanes):
            if lane % SHARE == 0:
                line = [Signal(config.word_bits, name=f"divisor{lane}_{i}") for i in range(config.code_bits + 2)]
                m.d.sync += [late.eq(early) for late, early in zip(line, [divisor, *line], strict=False)]
            m.submodules[f"quotient{lane}"] = quotient = Quotient(
                config.word_bits, config.code_bits, Target(config.target)
            )
            m.d.comb += [quotient.magnitude.eq(fetched.magnitudes[lane]), quotient.negative.eq(fetched.signs[lane])]
            m.d.comb += [mine.eq(its) for mine, its in zip(quotient.largest, line, strict=True)]
            m.d.comb += codes.payload["values"][lane].eq(quotient.code)
        latency = 2 + Quotient.latency(config.code_bits)
        m.d.comb += [
            codes.payload.last.eq(delay(ending, latency)),
            codes.write.eq(delay(issue, latency)),
            self.results.payload.eq(codes.output.payload),
            self.results.valid.eq(codes.output.valid),
            codes.output.ready.eq(self.results.ready),
            code_room.give.eq(codes.taken),
        ]
        m.submodules.maxima = maxima = Fifo(self.maxima.payload.shape(), config.vectors_waiting)
        m.d.comb += [
            maxima.payload["values"][0].eq(maximum),
            maxima.payload.last.eq(1),
            maxima.write.eq(issue & begins),
            self.maxima.payload.eq(maxima.output.payload),
            self.maxima.valid.eq(maxima.output.valid),
            maxima.output.ready.eq(self.maxima.ready),
            maximum_room.give.eq(maxima.taken),
        ]
