"""The contract of cores that multiply a matrix of weights with vectors: y = W a, exactly, over three streams.

It is `nomul.contract` with these jobs and streams. A job multiplies one weight matrix W of shape [n_out, n_in] with
`tokens` activation vectors.

    jobs         {n_in, n_out, tokens}, one transfer a job; with `mode` above them if the core has several modes
    activations  `activation_lanes` values a transfer, each vector in order, its last transfer padded with any values;
                 ceil(n_in / activation_lanes) transfers a token
    weights      in the core's own order and coding, made by its packer in `nomul.formats`; padding is zero weights,
                 or any where no weight is zero; the whole matrix again for every token
    results      `rows` values a transfer, in order of outputs, with `last` on the last transfer of a token; rows
                 beyond n_out are what zero weights give: zero, but for activations that are infinite or NaN

Dense weights that decode to nothing raise `fault` until reset.
"""

from typing import Protocol, Self

from amaranth.hdl import ShapeLike
from amaranth.lib import stream
from amaranth.lib.wiring import In, Member

from nomul.config import check_inputs
from nomul.contract import CoreConfig, Mode, Port, core_members
from nomul.memory.trit_decoder import GroupCode

__all__ = ["TOKENS_MAX", "MachineMatmulConfig", "MatmulConfig", "Mode", "check_streams", "matmul_members"]

TOKENS_MAX = 65535
"""Largest number of tokens in one job."""


class MatmulConfig(CoreConfig, Protocol):
    """What the configuration of such a core publishes beside its own fields; the streams follow from it.

    A configuration names it as its base.
    """

    @property
    def n_in_max(self) -> int:
        """Longest reduction that the accumulators hold."""

    @property
    def n_out_max(self) -> int:
        """Longest output vector."""

    @property
    def rows(self) -> int:
        """Outputs in a transfer of results."""

    @property
    def activation_lanes(self) -> int:
        """Activations in a transfer."""

    @property
    def act_bits(self) -> int:
        """Width of an activation, two's complement."""

    @property
    def total_width(self) -> int:
        """Width of a result, two's complement."""

    @property
    def weight_width(self) -> int:
        """Width of a transfer of weights."""

    @property
    def macs_per_cycle(self) -> int:
        """Products formed in a cycle at full use, in the first mode."""

    @property
    def target(self) -> str:
        """Technology whose arithmetic forms are used."""

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""

    def weight_stream_bits(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the bits of the weights of a token."""
        return self.weight_width * self.weight_transfers(n_in, n_out, mode)

    @property
    def job_limits(self) -> dict[str, int]:
        """Sizes of a product."""
        return {"n_in": self.n_in_max, "n_out": self.n_out_max, "tokens": TOKENS_MAX}

    @property
    def repeats(self) -> str | None:
        """Each token has a vector of results."""
        return "tokens"

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Activations, in 8 or 16 bits on a bus, and weights, a transfer in whole bytes."""
        whole = -(-self.weight_width // 8) * 8
        return (
            Port.of(
                "activations", self.activation_lanes, self.act_bits, "activations", container=8 << (self.act_bits > 8)
            ),
            Port.of("weights", 1, self.weight_width, "packed weights", negative=False, container=whole),
        )

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Results, in 32 or 64 bits on a bus."""
        return (Port.of("results", self.rows, self.total_width, "results", container=32 << (self.total_width > 32)),)

    @property
    def place_names(self) -> tuple[str, str, str]:
        """A token, a row of the matrix, and `rows` of them."""
        return ("token", "row", "tile")

    @property
    def work_unit(self) -> str:
        """Products that are added up."""
        return "mac"

    @property
    def work_per_cycle(self) -> int:
        """Products formed in a cycle at full use, in the first mode."""
        return self.macs_per_cycle

    def work(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the products of a job."""
        return n_in * n_out * tokens


class MachineMatmulConfig(MatmulConfig, Protocol):
    """What a machine asks of the configuration of the engine that it is built around."""

    @property
    def dense_code(self) -> GroupCode | None:
        """What five trits in a byte are decoded to, on their way to the engine or in it; None if its weights cannot be.

        The weights of a step are its packer's, with `weights` = dense in transfers of bytes.
        """

    @property
    def dense_groups(self) -> int:
        """Groups of trits in the weights of a step."""

    @property
    def decodes(self) -> bool:
        """Whether the engine takes dense weights and decodes them itself."""

    @property
    def results_at_end(self) -> bool:
        """Whether all results of a token come at its end, and not each with its own weights."""

    def dense(self, units: int | None = None) -> Self:
        """Return the configuration with dense weights: so many units of five groups a transfer, at most a step's.

        A step comes in one transfer by default. Only where there is a `dense_code`.
        """


def check_streams(config: MachineMatmulConfig) -> None:
    """Refuse more rows than the weights of a step, and activations in octets of a bus, have wires for."""

    def bits(trial: MachineMatmulConfig) -> int:
        weights = -(-trial.weight_width // 8) * 8
        if trial.dense_code is not None and trial.decodes:
            weights = max(weights, trial.dense_groups * trial.dense_code.width)
        return weights + trial.activation_lanes * (8 if trial.act_bits <= 8 else 16)

    check_inputs(config, "rows", bits)


def matmul_members(config: MatmulConfig, weight: ShapeLike) -> dict[str, Member]:
    """Return the ports of a core whose weight stream has payload `weight`."""
    members = core_members(config)
    return members | {"weights": In(stream.Signature(weight))}
