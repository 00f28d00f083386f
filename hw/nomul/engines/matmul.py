"""The contract that every matmul engine keeps: y = W a, exactly, over streams.

An engine is an `amaranth.lib.wiring.Component` made from one frozen configuration. It takes jobs; a job multiplies one
weight matrix W of shape [n_out, n_in] with `tokens` activation vectors.

    jobs         {n_in, n_out, tokens}, one transfer a job; with `mode` above them if the engine has several modes
    activations  `activation_lanes` values a transfer, each vector in order, its last transfer padded with any values;
                 ceil(n_in / activation_lanes) transfers a token
    weights      in the engine's own order and coding, made by its packer in `nomul.formats`; padding is zero weights,
                 or any where no weight is zero; the whole matrix again for every token
    results      `rows` values a transfer, in order of outputs, with `last` on the last transfer of a token; rows
                 beyond n_out are what zero weights give: zero, but for activations that are infinite or NaN

All four are `amaranth.lib.stream` streams and may stall at any time. The next job may be given, and its activations
taken, while an engine still works on the last. A job whose n_in, n_out or tokens is zero or above the configured
maximum, or whose mode does not exist, is taken, does nothing, and raises `fault` until a legal job is taken. Dense
weights that decode to nothing raise `fault` until reset.
"""

import dataclasses
from typing import Protocol, Self

from amaranth.hdl import ShapeLike, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Member, Out

from nomul.config import check_inputs
from nomul.memory.trit_decoder import GroupCode
from nomul.spec import Spec

__all__ = [
    "TOKENS_MAX",
    "EngineConfig",
    "EngineSpec",
    "MachineEngineConfig",
    "Mode",
    "check_streams",
    "engine_members",
    "job_layout",
]

TOKENS_MAX = 65535
"""Largest number of tokens in one job."""


@dataclasses.dataclass(frozen=True)
class Mode:
    """Kinds of operands that an engine multiplies; which one is said by each job."""

    name: str
    """Name on the command line."""

    weights: tuple[int, int]
    """Lowest and highest weight."""

    activations: tuple[int, int]
    """Lowest and highest activation."""

    macs_per_cycle: int
    """Products formed in a cycle at full use."""

    weight_step: int = 1
    """Distance from a weight to the next; 2 if the weights are -1 and 1, and none is zero."""

    activation_step: int = 1
    """Distance from an activation to the next."""

    weight_format: str = "integer"
    activation_format: str = "integer"
    """'integer', or 'fp16': bit patterns of IEEE 754 binary16, as two's complement numbers of 16 bits."""

    @property
    def weight_values(self) -> range:
        """Every weight."""
        return range(self.weights[0], self.weights[1] + 1, self.weight_step)

    @property
    def activation_values(self) -> range:
        """Every activation."""
        return range(self.activations[0], self.activations[1] + 1, self.activation_step)


class EngineConfig(Protocol):
    """What every engine's configuration publishes beside its own fields."""

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
    def modes(self) -> tuple[Mode, ...]:
        """What it can multiply; a job's `mode` is a place in this list."""

    @property
    def macs_per_cycle(self) -> int:
        """Products formed in a cycle at full use, in the first mode."""

    @property
    def target(self) -> str:
        """Technology whose arithmetic forms are used."""

    @property
    def packing(self) -> str:
        """The order and coding of the weight stream, in words."""

    def cycles(self, n_in: int, n_out: int, tokens: int, mode: int = 0) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""

    def weight_transfers(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the transfers of weights for one token."""


class MachineEngineConfig(EngineConfig, Protocol):
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


class EngineSpec(Spec):
    """An engine as the commands see it; its configuration is an `EngineConfig`."""


def check_streams(config: MachineEngineConfig) -> None:
    """Refuse more rows than the weights of a step, and activations in octets of a bus, have wires for."""

    def bits(trial: MachineEngineConfig) -> int:
        weights = -(-trial.weight_width // 8) * 8
        if trial.dense_code is not None and trial.decodes:
            weights = max(weights, trial.dense_groups * trial.dense_code.width)
        return weights + trial.activation_lanes * (8 if trial.act_bits <= 8 else 16)

    check_inputs(config, "rows", bits)


def job_layout(n_in_max: int, n_out_max: int, modes: int = 1) -> data.StructLayout:
    """Return the payload of the `jobs` stream."""
    fields = {"n_in": n_in_max.bit_length(), "n_out": n_out_max.bit_length(), "tokens": TOKENS_MAX.bit_length()}
    return data.StructLayout(fields | ({"mode": (modes - 1).bit_length()} if modes > 1 else {}))


def engine_members(config: EngineConfig, weight: ShapeLike) -> dict[str, Member]:
    """Return the ports of an engine whose weight stream has payload `weight`."""
    results = data.StructLayout({"values": data.ArrayLayout(signed(config.total_width), config.rows), "last": 1})
    return {
        "jobs": In(stream.Signature(job_layout(config.n_in_max, config.n_out_max, len(config.modes)))),
        "activations": In(stream.Signature(data.ArrayLayout(signed(config.act_bits), config.activation_lanes))),
        "weights": In(stream.Signature(weight)),
        "results": Out(stream.Signature(results)),
        "fault": Out(1),
    }
