"""Configuration of `hw.systolic.systolic`, and its cost model."""

import dataclasses
from functools import cached_property

from amaranth.lib import data
from amaranth.lib.wiring import In, Member, Out

from hw.arith.recoding import RECODINGS, Recoding, recoding
from hw.arith.target import TARGETS
from hw.config import parameter, refuse, validate
from hw.engines.array_config import least_total_bits
from hw.unit_contract import Port

__all__ = ["CODE_BITS", "SystolicConfig", "schedule_members", "tag_layout"]

CODE_BITS = 4
"""Width of a weight's code, and of a zero point."""


@dataclasses.dataclass(frozen=True)
class SystolicConfig:
    """Configuration of `Systolic`.

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    rows: int = parameter(16, "rows of elements", low=1, high=256)
    columns: int = parameter(16, "columns of elements", low=1, high=256)
    dataflow: str = parameter(
        "output", "what stays in an element: the sum of an output, or a weight", choices=("output", "weight")
    )
    group: int = parameter(128, "inputs that share a scale", low=1, high=1 << 16)
    recoding: str = parameter("ent", "how a weight becomes shifts and additions", choices=RECODINGS)
    scale_bits: int = parameter(8, "width of a group's scale", low=1, high=16)
    act_bits: int = parameter(8, "width of an activation, two's complement", low=2, high=16)
    tokens_tile: int = parameter(64, "most tokens of a tile (dataflow weight only)", low=1, high=1 << 12)
    n_in_max: int = parameter(4096, "longest reduction", low=1, high=1 << 20)
    n_out_max: int = parameter(4096, "most outputs", low=1, high=1 << 20)
    tokens_max: int = parameter(4096, "most tokens", low=1, high=1 << 16)
    target: str = parameter("portable", "technology; the forms are portable on each", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        validate(self)
        if self.keeps_weights and self.group % self.rows:
            refuse(self, "group", f"a multiple of rows = {self.rows}, for dataflow 'weight'")
        if not self.keeps_weights and self.group < 2 * self.rows:
            refuse(self, "group", f"{2 * self.rows} or more, twice the rows, for dataflow 'output'")

    @property
    def keeps_weights(self) -> bool:
        """Whether weights stay in the elements."""
        return self.dataflow == "weight"

    @cached_property
    def weight_recoding(self) -> Recoding:
        """How codes and zero points are read."""
        return recoding(self.recoding, CODE_BITS)

    @property
    def summed(self) -> int:
        """Inputs that a sum leaves the array with: a group's, or those that a tile of weights has."""
        return self.rows if self.keeps_weights else self.group

    @property
    def outputs_tile(self) -> int:
        """Outputs of a tile."""
        return self.columns if self.keeps_weights else self.rows

    @property
    def tokens_together(self) -> int:
        """Tokens of a tile at most."""
        return self.tokens_tile if self.keeps_weights else self.columns

    @property
    def places(self) -> int:
        """Totals that a column keeps."""
        return self.tokens_tile if self.keeps_weights else self.rows

    @property
    def value_width(self) -> int:
        """Width of a sum, zero points applied, and of one before that."""
        return (self.summed * (15 << (self.act_bits - 1))).bit_length() + 1

    @property
    def sum_width(self) -> int:
        """Width of a sum of activations."""
        return (self.summed << (self.act_bits - 1)).bit_length() + 1

    @property
    def total_width(self) -> int:
        """Width of a result: no sum of `n_in_max` products overflows it."""
        return least_total_bits(self.n_in_max, ((1 << self.scale_bits) - 1) * (15 << (self.act_bits - 1)))

    @property
    def job_limits(self) -> dict[str, int]:
        """Sizes of a product."""
        return {"n_in": self.n_in_max, "n_out": self.n_out_max, "tokens": self.tokens_max}

    @property
    def repeats(self) -> str | None:
        """A job's last transfer alone is `last`."""
        return None

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Codes, activations, and scales with zero points."""
        across, down = self.columns, self.rows
        if not self.keeps_weights:
            across, down = down, across
        scales = across if self.keeps_weights else 1
        return (
            Port.of("codes", across, CODE_BITS, "codes, unsigned, in the order of docs/formats.md", negative=False),
            Port.of("vectors", down, self.act_bits, "activations, in the order of docs/formats.md"),
            Port.of("scales", scales, CODE_BITS + self.scale_bits, "zero points, scales above them", negative=False),
        )

    @property
    def outputs(self) -> tuple[Port, ...]:
        """One value of each column."""
        of = "outputs of a token" if self.keeps_weights else "tokens of an output"
        return (Port.of("results", self.columns, self.total_width, f"a value of each column, {of}"),)

    @property
    def values_per_cycle(self) -> int:
        """Products formed in a cycle."""
        return self.rows * self.columns

    def values(self, *, n_in: int, n_out: int, tokens: int) -> int:
        """Return the products of a job."""
        return n_in * n_out * tokens

    def steps(self, n_in: int, n_out: int, tokens: int) -> int:
        """Return the steps of a job up to its last that takes operands."""
        tiles = -(-n_out // self.outputs_tile)
        if not self.keeps_weights:
            return -(-tokens // self.columns) * tiles * -(-n_in // self.group) * self.group
        whole, rest = divmod(tokens, self.tokens_tile)
        each = whole * max(self.tokens_tile, self.rows) + (max(rest, self.rows) if rest else 0)
        return self.rows + each * tiles * -(-n_in // self.rows)

    def cycles(self, *, n_in: int, n_out: int, tokens: int) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        steps = self.steps(n_in, n_out, tokens)
        if not self.keeps_weights:
            return steps + 2 * self.rows + self.columns + 5
        last = (tokens - 1) % self.tokens_tile + 1
        return steps - max(last, self.rows) + last + self.rows + self.columns + 5

    def utilisation(self, *, n_in: int, n_out: int, tokens: int) -> float:
        """Return products over those possible in a job's cycles in the elements that it can use.

        A tile with fewer tokens than columns uses as many columns with dataflow output. With weights that stay, and
        fewer tokens than rows, a tile lasts until the next one's weights are there, and can use as many rows.
        """
        lines = min(tokens, self.rows if self.keeps_weights else self.columns)
        usable = lines * (self.columns if self.keeps_weights else self.rows)
        return self.values(n_in=n_in, n_out=n_out, tokens=tokens) / (
            self.cycles(n_in=n_in, n_out=n_out, tokens=tokens) * usable
        )


def tag_layout(config: SystolicConfig) -> data.StructLayout:
    """Return what travels with a sum: whose it is, and whether it is a total's first part and its last."""
    return data.StructLayout({"valid": 1, "place": (config.places - 1).bit_length(), "begin": 1, "final": 1})


def schedule_members(config: SystolicConfig) -> dict[str, Member]:
    """Return the ports of an array's schedule.

    start : In(1)
        Takes a job.
    n_in, n_out, tokens : In
        The job; they stay.
    move : In(1)
        The step is done.
    running : Out(1)
        There is a step.
    codes, vectors, scales : Out(1)
        It takes a transfer of each of these.
    first : Out(1)
        The array begins anew with this step.
    tag : Out(tag_layout)
    last : Out(1)
        Nothing comes after what the tag is for.
    """
    return {
        "start": In(1),
        **{name: In(range(limit + 1)) for name, limit in config.job_limits.items()},
        "move": In(1),
        "running": Out(1),
        **{name: Out(1) for name in ("codes", "vectors", "scales", "first", "last")},
        "tag": Out(tag_layout(config)),
    }
