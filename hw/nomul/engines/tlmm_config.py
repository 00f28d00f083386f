"""The configuration of TLMM (`nomul.engines.tlmm`): its fields, the widths that follow, and its cost model."""

import dataclasses
from typing import Self

from amaranth.lib import data

from nomul.arith.signed_sum import sum_timing
from nomul.arith.sum_terms import SumTiming, sum_width
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, refuse, validate
from nomul.engines.array_config import check_total_bits, least_total_bits
from nomul.engines.matmul import MatmulConfig, Mode, check_streams
from nomul.engines.tlmm_schedule import LookupSchedule
from nomul.engines.tlmm_table import index_codes, walk_entries
from nomul.memory.fifo import Fifo
from nomul.memory.trit_decoder import BYTE_TRITS, GroupCode

__all__ = ["TlmmConfig"]


@dataclasses.dataclass(frozen=True)
class TlmmConfig(MatmulConfig):
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
        check_total_bits(self, 1 << (self.act_bits - 1), f" activations of {self.act_bits} bits")
        check_streams(self)

    @property
    def _block_units(self) -> int:
        return -(-self.dense_groups // BYTE_TRITS)

    @property
    def dense_units(self) -> int:
        """Units of five groups, `group` bytes, in a transfer of dense weights."""
        return self.weight_lanes or min(8, self._block_units)

    @property
    def block_transfers(self) -> int:
        """Transfers of weights for a block."""
        return 1 if self.weights == "index" else -(-self._block_units // self.dense_units)

    @property
    def total_width(self) -> int:
        """Width of an accumulator and of a result: no sum of `n_in_max` products overflows it."""
        return self.total_bits or least_total_bits(self.n_in_max, 1 << (self.act_bits - 1))

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
    def dense_code(self) -> GroupCode:
        """The indices of ternary groups."""
        return GroupCode(self.group, tuple(index_codes(self.group, self.table == "full")))

    @property
    def dense_groups(self) -> int:
        """Groups of a block."""
        return self.rows * self.tables

    @property
    def decodes(self) -> bool:
        """Whether weights are dense."""
        return self.weights == "dense"

    @property
    def results_at_end(self) -> bool:
        """A token's results come in its last step."""
        return True

    def dense(self, units: int | None = None) -> Self:
        """Return the configuration with dense weights, a whole block or `units` times `group` bytes in a transfer."""
        most = self._block_units
        return dataclasses.replace(self, weights="dense", weight_lanes=min(units or most, most))

    @property
    def index_width(self) -> int:
        """Bits of a ternary group in the weight stream."""
        return self.rank_width + (self.table == "half")

    @property
    def weight_width(self) -> int:
        """Bits of a transfer of weights."""
        if self.weights == "dense":
            return self.dense_units * self.group * 8
        return self.rows * self.tables * self.index_width

    @property
    def block_shape(self) -> data.ArrayLayout:
        """A block of indices, [row][table]."""
        return data.ArrayLayout(data.ArrayLayout(self.index_width, self.tables), self.rows)

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
                f"{self.dense_units * self.group} bytes of five trits a transfer, byte 0 lowest; a block of "
                f"{self.rows} rows of {self.tables} groups takes {self.block_transfers}; transfers step by step, in a "
                f"step block by block; row r, table t of block b, step s is W[b * {self.rows} + r, "
                f"(s * {self.tables} + t) * {self.group} ...]; see docs/formats.md"
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
        return issued + 2 + timing.latency + Fifo.LATENCY + 1
