"""TLMM: ternary matrix multiplication by table look-up, after TeLLMe v2 (arXiv 2510.15926, section 3.2).

    y[k] = sum_g table_g[rank(W[k, G*g : G*g+G])],    table_g[rank(w)] = w . a[G*g : G*g+G]

`tables` tables of `group` activations each are filled from the activations; `rows` outputs then look their sums up in
all of them in every cycle, so `tables * group * rows` products are formed a cycle without a multiplier. One pass over
all outputs with one set of tables is a step; partial sums wait in an accumulator memory between steps.

Beyond TeLLMe: tables of any group of 2 to 5, half tables whose sign costs nothing (`hw.arith.signed_sum`), a second
bank of tables that is filled during the look-ups of the first, and three-operand adders and shared LUTRAM ports on AMD
parts.

Weights: a transfer holds, for each row and each table, the index of a ternary group: of a half table the rank's
magnitude and, above it, a sign bit; of a full table the rank in two's complement (`tlmm_table` defines the rank). The
transfers of a token go step by step, and within a step block by block: row r of block b of step s, table t is
W[b * rows + r, (s * tables + t) * group + 0 ... group - 1].

Dense weights (`weights` = dense): the groups of a block, row by row and in a row table by table, are one run of trits,
five in a byte as `hw.memory.trit_decoder` says, byte 0 in the lowest bits of a transfer. A block takes whole transfers;
the rest of its last is zero trits. A byte above 242 counts as five zero trits and raises `fault` until reset.

Cycle schedule of a block issued at t: indices in registers t + 1; words of table i t + 2 + delays[i]; totals
t + 2 + latency, where they are written back or, in a token's last step, enter the result queue.
"""

import dataclasses

from amaranth.hdl import Const, Module, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component

from hw.arith.pipeline import Delays
from hw.arith.signed_sum import signed_sum, sum_timing
from hw.arith.sum_terms import SumTiming, sum_width
from hw.arith.target import TARGETS, Target
from hw.config import parameter, refuse, validate
from hw.engines.contract import Mode, engine_members
from hw.engines.tlmm_schedule import FillSchedule, LookupSchedule
from hw.engines.tlmm_table import Filler, LookupTable, Walk, index_codes, walk_entries
from hw.memory.queue import Queue
from hw.memory.trit_decoder import GroupCode, TritDecoder

__all__ = ["Tlmm", "TlmmConfig"]


@dataclasses.dataclass(frozen=True)
class TlmmConfig:
    """Configuration of `Tlmm`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    group: int = parameter(3, "activations per table (G)", low=2, high=5)
    tables: int = parameter(28, "tables looked up in parallel (T)", low=2, high=256)
    rows: int = parameter(16, "outputs computed in parallel (Q)", low=1, high=256)
    act_bits: int = parameter(8, "width of an activation, two's complement", low=4, high=16)
    table: str = parameter("half", "sums stored: half of them and a sign, or all", choices=("half", "full"))
    banks: int = parameter(2, "banks of tables; with 2, filling overlaps look-ups", low=1, high=2)
    fill_units: int = parameter(7, "tables filled at a time; divides tables", low=1, high=256)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "longest output vector", low=1, high=1 << 20)
    total_bits: int | None = parameter(None, "width of accumulators and results", low=2, high=64)
    weights: str = parameter(
        "index", "weight stream: an index a group, or five trits a byte", choices=("index", "dense")
    )
    weight_lanes: int | None = parameter(
        None, "dense weights decoded a cycle, in units of group bytes; 8 or a block by default", low=1, high=16384
    )
    queue: int = parameter(32, "results that wait while the consumer stalls, in transfers", low=16, high=4096)
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.tables % self.fill_units:
            refuse(self, "fill_units", f"a divisor of tables = {self.tables}")
        if self.weight_lanes is not None and self.weights != "dense":
            refuse(self, "weight_lanes", "none, unless weights is 'dense'")
        if self.weight_lanes is not None and self.weight_lanes > self._block_units:
            refuse(
                self,
                "weight_lanes",
                f"1 to {self._block_units}, as a block of rows * tables = {self.rows * self.tables} groups has "
                f"{self._block_units} units of five groups",
            )
        if self.total_bits is not None and self.total_bits < self._least_total_bits:
            refuse(
                self,
                "total_bits",
                f"{self._least_total_bits} or more, for sums of n_in_max = {self.n_in_max} "
                f"activations of {self.act_bits} bits",
            )

    @property
    def _least_total_bits(self) -> int:
        return (self.n_in_max << (self.act_bits - 1)).bit_length() + 1

    @property
    def _block_units(self) -> int:
        return -(-self.rows * self.tables // 5)

    @property
    def units(self) -> int:
        """Units of five groups, `group` bytes, in a transfer of dense weights."""
        return self.weight_lanes or min(8, self._block_units)

    @property
    def block_transfers(self) -> int:
        """Transfers of weights for a block."""
        return 1 if self.weights == "index" else -(-self._block_units // self.units)

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or self._least_total_bits

    @property
    def magnitude(self) -> int:
        """Largest absolute value of a table entry."""
        return self.group << (self.act_bits - 1)

    @property
    def entry_width(self) -> int:
        """Width of a table entry, two's complement."""
        return sum_width(self.magnitude, self.table == "half")

    @property
    def rank_width(self) -> int:
        """Address bits of a table entry."""
        return ((3**self.group - 1) // 2).bit_length() + (self.table == "full")

    @property
    def index_width(self) -> int:
        """Bits of a ternary group in the weight stream."""
        return self.rank_width + (self.table == "half")

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        if self.weights == "dense":
            return self.units * self.group * 8
        return self.rows * self.tables * self.index_width

    @property
    def activation_lanes(self) -> int:
        """Activations in a transfer."""
        return self.fill_units * self.group

    @property
    def step(self) -> int:
        """Activations that one set of tables covers."""
        return self.tables * self.group

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Ternary weights, activations of `act_bits` bits."""
        most = 1 << (self.act_bits - 1)
        return (Mode("ternary", (-1, 1), (-most, most - 1), self.macs_per_cycle),)

    @property
    def macs_per_cycle(self) -> int:
        """Products formed in a cycle of look-ups."""
        return self.tables * self.group * self.rows

    @property
    def timing(self) -> SumTiming:
        """When a row's adders take the words of each table."""
        return sum_timing(self.tables, Target(self.target), self.table == "half")

    @property
    def release(self) -> int:
        """Cycles from the last issue over a bank to its release; a release and the first write are four apart."""
        return max(0, max(self.timing.delays) - 4)

    @property
    def blocks_max(self) -> int:
        """Depth of the accumulator memory."""
        return -(-self.n_out_max // self.rows)

    @property
    def packing(self) -> str:
        """The weight stream in words."""
        if self.weights == "dense":
            return (
                f"{self.units * self.group} bytes of five trits a transfer, byte 0 lowest; a block of {self.rows} rows "
                f"of {self.tables} groups takes {self.block_transfers}; transfers step by step, in a step block by "
                f"block; row r, table t of block b, step s is W[b * {self.rows} + r, (s * {self.tables} + t) * "
                f"{self.group} ...]; see docs/formats.md"
            )
        index = "rank magnitude, sign above" if self.table == "half" else "rank, two's complement"
        return (
            f"{self.rows} rows of {self.tables} indices of {self.index_width} bits a transfer, row 0 table 0 lowest; "
            f"index = {index}; transfers step by step, in a step block by block; row r, table t of block b, step s is "
            f"W[b * {self.rows} + r, (s * {self.tables} + t) * {self.group} ...]; see docs/formats.md"
        )

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""
        return -(-n_in // self.step) * -(-n_out // self.rows) * self.block_transfers

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls.

        A step takes max(blocks * block_transfers, fill, 5) cycles in the long run, where blocks = ceil(n_out / rows)
        and fill is entries * tables / fill_units and a few cycles; the recurrence below is exact.
        """
        timing, pace = self.timing, self.block_transfers
        blocks = -(-n_out // self.rows)
        fill = walk_entries(self.group, self.table == "full") * (self.tables // self.fill_units)
        steps = -(-n_in // self.step) * tokens
        # Cycle 0 takes the job; the first beat loads at cycle 4.
        armed, freed, written, issued = 0, [0] * self.banks, 3, 0
        rest = max(LookupSchedule.GAP - blocks, 0)  # cycles between a step's last issue and the next step's arming
        intervals: list[int] = []
        for step in range(steps):
            loaded = max(written + 1, freed[step % self.banks])
            written = loaded + fill
            arm = max(written + 1, issued + rest)
            intervals.append(arm - armed)
            # A dense block is decoded from the cycle on in which the last one was issued, the first one from cycle 0.
            armed, issued = arm, max(arm + 1, issued + pace) + (blocks - 1) * pace
            freed[step % self.banks] = issued + self.release + 2
            if len(intervals) > 8 and len(set(intervals[-8:])) == 1:
                issued += intervals[-1] * (steps - 1 - step)
                break
        return issued + 2 + timing.latency + Tlmm.QUEUE_LATENCY + 1


class Tlmm(Component):
    """The engine; `hw.engines.contract` documents its ports.

    Parameters
    ----------
    config : TlmmConfig
    """

    QUEUE_LATENCY = 2
    """Cycles from a result's entering an empty queue to its being offered."""

    def __init__(self, config: TlmmConfig) -> None:
        self.config = config
        if config.weights == "dense":
            weight = data.ArrayLayout(8, config.units * config.group)
        else:
            weight = data.ArrayLayout(data.ArrayLayout(config.index_width, config.tables), config.rows)
        super().__init__(engine_members(config, weight))

    def elaborate(self, platform: object) -> Module:
        """Wire the schedules, the tables, the adders and the accumulators together."""
        m = Module()
        config = self.config
        m.submodules.fill = fill = FillSchedule(
            config.n_in_max,
            config.n_out_max,
            config.activation_lanes,
            config.tables // config.fill_units,
            walk_entries(config.group, config.table == "full"),
            config.banks,
        )
        m.submodules.lookups = lookups = LookupSchedule(config.n_out_max, config.rows, config.banks, config.release)
        blocks, undecodable = self._blocks(m)
        m.d.comb += [
            fill.jobs.payload.eq(self.jobs.payload),
            fill.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(fill.jobs.ready),
            fill.valid.eq(self.activations.valid),
            self.activations.ready.eq(fill.ready),
            self.fault.eq(fill.fault | undecodable),
            fill.released.eq(lookups.released),
            fill.waiting.eq(lookups.waiting),
            lookups.n_out.eq(fill.n_out),
            lookups.posted.eq(fill.posted),
            lookups.note.eq(fill.note),
            lookups.valid.eq(blocks.valid),
            blocks.ready.eq(lookups.ready),
        ]
        words, signs = self._tables(m, fill, lookups, blocks.payload)
        self._accumulate(m, lookups, words, signs)
        return m

    def _blocks(self, m: Module) -> tuple[stream.Interface, Value]:
        """Return the stream of blocks of indices, and whether it has had weights without a meaning."""
        config = self.config
        if config.weights == "index":
            return self.weights, Const(0)
        code = GroupCode(config.group, tuple(index_codes(config.group, config.table == "full")))
        m.submodules.decoder = decoder = TritDecoder(code, config.rows * config.tables, config.units)
        m.d.comb += [
            decoder.dense.payload.eq(self.weights.payload),
            decoder.dense.valid.eq(self.weights.valid),
            self.weights.ready.eq(decoder.dense.ready),
        ]
        return decoder.blocks, decoder.fault

    def _tables(
        self, m: Module, fill: FillSchedule, lookups: LookupSchedule, block: data.View
    ) -> tuple[list[list[Signal]], list[list[Signal]]]:
        """Build fillers and tables; return the looked-up words and signs, [row][table]."""
        config = self.config
        m.submodules.walk = walk = Walk(config.group, config.table == "full")
        # Words and ranks trail the schedule by two cycles: a register behind the walk's look-up, and one in the fillers
        # behind the choice of an activation or, for the rank, before nets that reach every table.
        m.d.comb += walk.entry.eq(fill.entry)
        delay = Delays(m)
        select, negate, restart, rank = (
            delay(walk.select, 1),
            delay(walk.negate, 1),
            delay(walk.restart, 2),
            delay(walk.rank, 2),
        )
        writing, beat, bank_written = (delay(s, 2) for s in (fill.writing, fill.beat, fill.bank))
        cleared = delay(fill.load, 2)
        fillers = []
        for unit in range(config.fill_units):
            m.submodules[f"filler{unit}"] = filler = Filler(config.group, config.act_bits, config.entry_width)
            m.d.comb += [
                filler.load.eq(fill.take),
                filler.clear.eq(cleared | restart),
                filler.select.eq(select),
                filler.negate.eq(negate),
            ]
            for i in range(config.group):
                m.d.comb += filler.activations[i].eq(self.activations.payload[unit * config.group + i])
            fillers.append(filler)

        shape = data.ArrayLayout(data.ArrayLayout(config.index_width, config.tables), config.rows)
        indices = Signal(shape, reset_less=True)
        bank = Signal()
        m.d.sync += [indices.eq(block), bank.eq(lookups.bank)]
        words: list[list[Signal]] = [[] for _ in range(config.rows)]
        signs: list[list[Signal]] = [[] for _ in range(config.rows)]
        for number, late in enumerate(config.timing.delays):
            m.submodules[f"table{number}"] = table = LookupTable(
                config.entry_width,
                config.rank_width,
                config.banks,
                config.rows,
                config.table == "full",
                late,
                Target(config.target),
            )
            turn, unit = divmod(number, config.fill_units)
            m.d.comb += [
                table.write_enable.eq(writing & (beat == turn)),
                table.write_bank.eq(bank_written),
                table.write_rank.eq(rank),
                table.write_data.eq(fillers[unit].word),
                table.bank.eq(bank),
            ]
            for row in range(config.rows):
                m.d.comb += table.indices[row].eq(indices[row][number])
                words[row].append(table.words[row])
                signs[row].append(table.signs[row])
        return words, signs

    def _accumulate(
        self, m: Module, lookups: LookupSchedule, words: list[list[Signal]], signs: list[list[Signal]]
    ) -> None:
        """Build the adders, the accumulator memory and the result queue."""
        config = self.config
        delay = Delays(m)
        totals_layout = data.ArrayLayout(signed(config.total_width), config.rows)

        # The schedule never reads a block in the cycle in which it is written.
        m.submodules.accumulators = memory = Memory(
            shape=totals_layout, depth=config.blocks_max, init=[], attrs={"no_rw_check": 1}
        )
        read, write = memory.read_port(domain="comb"), memory.write_port()
        # Two registers for a block RAM, its own and one at its output, and one that a token's first step clears.
        read_out, fetched = (Signal(totals_layout, name=name, reset_less=True) for name in ("read_out", "fetched"))
        addends = Signal(totals_layout)
        taken = config.timing.latency + 1  # cycles from the issue to the last addition
        m.d.comb += read.addr.eq(delay(lookups.block, taken - 3))
        m.d.sync += [read_out.eq(read.data), fetched.eq(read_out), addends.eq(fetched)]
        with m.If(delay(lookups.first, taken - 1)):
            m.d.sync += addends.eq(0)

        totals = Signal(totals_layout)
        for row in range(config.rows):
            m.submodules[f"sum{row}"] = sum_ = signed_sum(
                config.tables, config.magnitude, config.total_width, Target(config.target), config.table == "half"
            )
            m.d.comb += [sum_.addend.eq(addends[row]), totals[row].eq(sum_.total)]
            for table in range(config.tables):
                m.d.comb += [sum_.words[table].eq(words[row][table]), sum_.signs[table].eq(signs[row][table])]

        done = taken + 1
        issued, last = delay(lookups.issue, done), delay(lookups.last, done)
        m.d.comb += [
            write.addr.eq(delay(lookups.block, done)),
            write.data.eq(totals),
            write.en.eq(issued & ~last),
        ]

        style = None if config.target == "portable" else "block"
        m.submodules.queue = queue = Queue(self.results.payload.shape(), config.queue, style)
        m.d.comb += [
            queue.payload.values.eq(totals),
            queue.payload.last.eq(delay(lookups.final, done)),
            queue.write.eq(issued & last),
            self.results.payload.eq(queue.output.payload),
            self.results.valid.eq(queue.output.valid),
            queue.output.ready.eq(self.results.ready),
        ]
        room = Signal(range(config.queue + 1), init=config.queue)
        takes = lookups.issue & lookups.last
        # In a register, to keep the count off the path from the streams to the schedule: a cycle old, so one is spare.
        has_room = Signal(init=1)
        m.d.sync += has_room.eq(room > 1)
        m.d.comb += lookups.room.eq(has_room)
        with m.If(takes & ~queue.taken):
            m.d.sync += room.eq(room - 1)
        with m.Elif(~takes & queue.taken):
            m.d.sync += room.eq(room + 1)
