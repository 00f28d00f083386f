"""Configuration of `nomul.systolic.systolic`, and its cost model."""

import dataclasses
from functools import cached_property

from amaranth.hdl import signed
from amaranth.lib import data

from nomul.arith.fp16 import SIDE_BITS
from nomul.arith.recoding import RECODINGS, Recoding, recoding
from nomul.arith.target import TARGETS
from nomul.config import parameter, refuse, validate
from nomul.contract import CoreConfig, Mode, Port
from nomul.engines.array_config import least_total_bits

__all__ = ["ALIGN_WAYS", "CODE_BITS", "SystolicConfig"]

CODE_BITS = 4
"""Width of a weight's code, and of a zero point."""

PLACES = 29
"""Places between the smallest and the largest exponent of binary16."""

WIDEST = 64
"""Bits of a result in FP16 form at most."""

LARGEST = (1 << (WIDEST - 2)) - 1
"""Such a result's largest absolute value: its sign is there twice, so that the mark of special values has a bit."""

ALIGN_WAYS = 16
"""Exponents that are compared in a step."""


@dataclasses.dataclass(frozen=True)
class SystolicConfig(CoreConfig):
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
    activation: str = parameter("int8", "integers of act_bits, or binary16", choices=("int8", "fp16"))
    act_bits: int = parameter(8, "width of an activation, two's complement (int8 only)", low=2, high=16)
    significand: int = parameter(14, "bits of an aligned activation without its sign (fp16 only)", low=11, high=24)
    fraction_bits: int | None = parameter(
        None, "results are in units of 2^-fraction_bits (fp16 only); exact, or what 64 bits hold", low=-5, high=37
    )
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
        if self.floats:
            self._check_fraction()
        elif self.fraction_bits is not None:
            refuse(self, "fraction_bits", "none for activation 'int8'")

    def _check_fraction(self) -> None:
        """Refuse sums that do not fit a result, and units that no result needs."""
        if self.fraction_limit < self.fraction_least:
            refuse(self, "n_in_max", f"1 to {LARGEST // self.most_per_input}, for results of {WIDEST} bits or fewer")
        if not self.fraction_least <= self.fraction <= self.fraction_limit:
            allowed = f"{self.fraction_least} to {self.fraction_limit}"
            exact = f"{self.fraction_exact} being exact"
            refuse(self, "fraction_bits", f"{allowed}, {exact}, for results of {WIDEST} bits or fewer")

    @property
    def floats(self) -> bool:
        """Whether activations are binary16."""
        return self.activation == "fp16"

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
    def vector_bits(self) -> int:
        """Width of an activation in its stream."""
        return 16 if self.floats else self.act_bits

    @property
    def operand_bits(self) -> int:
        """Width of an activation in the array."""
        return self.significand + 1 if self.floats else self.act_bits

    @property
    def value_width(self) -> int:
        """Width of a sum, zero points applied, and of one before that."""
        return (self.summed * (15 << (self.operand_bits - 1))).bit_length() + 1

    @property
    def sum_width(self) -> int:
        """Width of a sum of activations."""
        return (self.summed << (self.operand_bits - 1)).bit_length() + 1

    @property
    def most_per_input(self) -> int:
        """Largest absolute value that an input adds to a total, as an integer."""
        return ((1 << self.scale_bits) - 1) * (15 << (self.operand_bits - 1))

    @property
    def total_width(self) -> int:
        """Width of a result: no sum of `n_in_max` products overflows it."""
        if not self.floats:
            return least_total_bits(self.n_in_max, self.most_per_input)
        return (self.n_in_max * self.most_per_input << (self.fraction - self.fraction_least)).bit_length() + 2

    @property
    def fraction_exact(self) -> int:
        """Bits of an exact result below one (fp16 only)."""
        return 13 + self.significand

    @property
    def fraction_least(self) -> int:
        """With so many the sums of the largest exponent are exact, and no others."""
        return self.fraction_exact - PLACES

    @property
    def fraction_limit(self) -> int:
        """The most for which results have 64 bits, and no more than exact ones have."""
        spare = WIDEST - 2 - (self.n_in_max * self.most_per_input).bit_length()
        return min(self.fraction_exact, self.fraction_least + spare)

    @property
    def fraction(self) -> int:
        """Bits of a result below one (fp16 only)."""
        return self.fraction_limit if self.fraction_bits is None else self.fraction_bits

    @property
    def align_steps(self) -> int:
        """Steps from an activation and its group's exponent, or a transfer's first, to the array."""
        if not self.floats:
            return 0
        steps, exponents = 2, self.rows
        while self.keeps_weights and exponents > ALIGN_WAYS:
            steps, exponents = steps + 1, -(-exponents // ALIGN_WAYS)
        return steps

    @property
    def lead(self) -> int:
        """Steps by which an activation is taken before the codes that it meets first."""
        return self.align_steps + (self.group if self.floats and not self.keeps_weights else 0)

    @property
    def edge_latency(self) -> int:
        """Steps from a sum to its total."""
        return 4 if self.floats else 3

    @property
    def job_limits(self) -> dict[str, int]:
        """Sizes of a product."""
        return {"n_in": self.n_in_max, "n_out": self.n_out_max, "tokens": self.tokens_max}

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Codes of four bits, signed ones 8 more; activations of `act_bits` bits, or words of binary16."""
        most, form = 1 << (self.vector_bits - 1), "fp16" if self.floats else "integer"
        return (
            Mode(
                "w4a16" if self.floats else "int4",
                (0, 15),
                (-most, most - 1),
                self.work_per_cycle,
                activation_format=form,
            ),
        )

    @property
    def macs_per_cycle(self) -> int:
        """Products formed in a cycle."""
        return self.work_per_cycle

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
        what = "binary16 activations" if self.floats else "activations"
        return (
            Port.of("codes", across, CODE_BITS, "codes, unsigned, in the order of docs/formats.md", negative=False),
            Port.of("vectors", down, self.vector_bits, f"{what}, in the order of docs/formats.md"),
            Port.of("scales", scales, CODE_BITS + self.scale_bits, "zero points, scales above them", negative=False),
        )

    @property
    def outputs(self) -> tuple[Port, ...]:
        """One value of each column."""
        of = "outputs of a token" if self.keeps_weights else "tokens of an output"
        unit = f", in units of 2^{-self.fraction}" if self.floats else ""
        return (Port.of("results", self.columns, self.total_width, f"a value of each column, {of}{unit}"),)

    @property
    def operands(self) -> data.ArrayLayout:
        """The activations of a step as the array takes them."""
        return data.ArrayLayout(signed(self.operand_bits), self.rows if self.keeps_weights else self.columns)

    @property
    def sides(self) -> data.ArrayLayout:
        """Exponents and flags of a step's activations: a column's, or all together's (fp16 only)."""
        return data.ArrayLayout(SIDE_BITS, 1 if self.keeps_weights else self.columns)

    @property
    def work_unit(self) -> str:
        """Products that are added up."""
        return "mac"

    @property
    def work_per_cycle(self) -> int:
        """Products formed in a cycle."""
        return self.rows * self.columns

    def work(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the products of a job."""
        return n_in * n_out * tokens

    def weight_stream_bits(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the bits of codes and scales, each code and entry once for a tile of tokens."""
        tiles, entry = -(-n_out // self.outputs_tile), CODE_BITS + self.scale_bits
        if not self.keeps_weights:
            groups = -(-n_in // self.group)
            return tiles * self.rows * groups * (self.group * CODE_BITS + entry)
        return tiles * -(-n_in // self.rows) * self.columns * (self.rows * CODE_BITS + entry)

    def steps(self, n_in: int, n_out: int, tokens: int) -> int:
        """Return the steps of a job up to its last that takes operands."""
        tiles = -(-n_out // self.outputs_tile)
        if not self.keeps_weights:
            return self.lead + -(-tokens // self.columns) * tiles * -(-n_in // self.group) * self.group
        whole, rest = divmod(tokens, self.tokens_tile)
        each = whole * max(self.tokens_tile, self.rows) + (max(rest, self.rows) if rest else 0)
        return self.lead + self.rows + each * tiles * -(-n_in // self.rows)

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""
        steps = self.steps(n_in, n_out, tokens)
        if not self.keeps_weights:
            return steps + 2 * self.rows + self.columns + 2 + self.edge_latency
        last = (tokens - 1) % self.tokens_tile + 1
        return steps - max(last, self.rows) + last + self.rows + self.columns + 2 + self.edge_latency

    def utilisation(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> float:
        """Return products over those possible in a job's cycles in the elements that it can use.

        A tile with fewer tokens than columns uses as many columns with dataflow output. With weights that stay, and
        fewer tokens than rows, a tile lasts until the next one's weights are there, and can use as many rows.
        """
        lines = min(tokens, self.rows if self.keeps_weights else self.columns)
        usable = lines * (self.columns if self.keeps_weights else self.rows)
        return self.work(n_in=n_in, n_out=n_out, tokens=tokens) / (
            self.cycles(n_in=n_in, n_out=n_out, tokens=tokens) * usable
        )
