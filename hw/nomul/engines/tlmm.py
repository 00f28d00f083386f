"""TLMM: ternary matrix multiplication by table look-up, after TeLLMe v2 (arXiv 2510.15926, section 3.2).

    y[k] = sum_g table_g[rank(W[k, G*g : G*g+G])],    table_g[rank(w)] = w . a[G*g : G*g+G]

`tables` tables of `group` activations each are filled from the activations; `rows` outputs then look their sums up in
all of them in every cycle, so `tables * group * rows` products are formed a cycle without a multiplier. One pass over
all outputs with one set of tables is a step; partial sums wait in an accumulator memory between steps.

Beyond TeLLMe: tables of any group of 2 to 5, half tables whose sign costs nothing (`nomul.arith.signed_sum`), a second
bank of tables that is filled during the look-ups of the first, and three-operand adders and shared LUTRAM ports on AMD
parts.

Weights: a transfer holds, for each row and each table, the index of a ternary group: of a half table the rank's
magnitude and, above it, a sign bit; of a full table the rank in two's complement (`tlmm_table` defines the rank). The
transfers of a token go step by step, and within a step block by block: row r of block b of step s, table t is
W[b * rows + r, (s * tables + t) * group + 0 ... group - 1].

Dense weights (`weights` = dense): the groups of a block, row by row and in a row table by table, are one run of trits,
five in a byte as `nomul.memory.trit_decoder` says, byte 0 in the lowest bits of a transfer. A block takes whole
transfers; the rest of its last is zero trits. A byte above 242 counts as five zero trits and raises `fault` until
reset.

Cycle schedule of a block issued at t: indices in registers t + 1; words of table i t + 2 + delays[i]; totals
t + 2 + latency, where they are written back or, in a token's last step, enter the result queue.
"""

from amaranth.hdl import Const, Module, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, connect, flipped

from nomul.arith.pipeline import Delays
from nomul.arith.signed_sum import signed_sum
from nomul.arith.target import Target
from nomul.engines.matmul import matmul_members
from nomul.engines.tlmm_config import TlmmConfig
from nomul.engines.tlmm_schedule import FillSchedule, LookupSchedule
from nomul.engines.tlmm_table import Filler, LookupTable, Walk, walk_entries
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.memory.trit_decoder import TritDecoder

__all__ = ["Tlmm", "TlmmConfig"]


class Tlmm(Component):
    """The engine; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : TlmmConfig
    """

    def __init__(self, config: TlmmConfig) -> None:
        self.config = config
        dense = data.ArrayLayout(8, config.dense_units * config.group)
        super().__init__(matmul_members(config, dense if config.decodes else config.block_shape))

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
        connect(m, flipped(self.jobs), fill.jobs)
        m.d.comb += [
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
        if not config.decodes:
            return self.weights, Const(0)
        m.submodules.decoder = decoder = TritDecoder(config.dense_code, config.dense_groups, config.dense_units)
        connect(m, flipped(self.weights), decoder.dense)
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

        indices = Signal(config.block_shape, reset_less=True)
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
        addends = Signal(totals_layout)
        taken = config.timing.latency + 1  # cycles from the issue to the last addition
        # Two registers for a block RAM, its own and one at its output, and one that a token's first step clears. A sum
        # of one stage is too early for the one at the output.
        registers = min(3, taken)
        m.d.comb += read.addr.eq(delay(lookups.block, taken - registers))
        fetched = read.data
        for name in ("read_out", "fetched")[: registers - 1]:
            register = Signal(totals_layout, name=name, reset_less=True)
            m.d.sync += register.eq(fetched)
            fetched = register
        m.d.sync += addends.eq(fetched)
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
        m.submodules.queue = queue = Fifo(self.results.payload.shape(), config.queue, style)
        m.d.comb += [
            queue.payload.values.eq(totals),
            queue.payload.last.eq(delay(lookups.final, done)),
            queue.write.eq(issued & last),
        ]
        connect(m, queue.output, flipped(self.results))
        m.submodules.room = room = Credit(config.queue)
        m.d.comb += [
            room.take.eq(lookups.issue & lookups.last),
            room.give.eq(queue.taken),
            lookups.room.eq(room.available),
        ]
