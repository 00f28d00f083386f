"""The contract that every core keeps: jobs in, streams of values in, streams of values out.

A core is an `amaranth.lib.wiring.Component` made from one frozen configuration, a `CoreConfig`.

    jobs      the configuration's `job_limits`: one field each, 1 to its limit, the first in the lowest bits, and above
              them `mode`, if there are several; one transfer a job
    inputs    streams of `lanes` values a transfer, each vector in order, its last transfer padded with any values
    outputs   streams of {values, last}, `last` on the last transfer of a vector, lanes beyond its end zero
    fault     the last job had a field of zero or above its limit, or a mode that does not exist, and did nothing

All are `amaranth.lib.stream` streams and may stall at any time. One of the outputs is `results`; with it a job ends.
The next job may be given, and its values taken, while a core still works on the last.
"""

import dataclasses
from typing import Any, Protocol

from amaranth.hdl import Cat, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Member, Out

__all__ = ["CONTAINERS", "CoreConfig", "JobIntake", "Mode", "Port", "core_members", "job_layout"]

CONTAINERS = (8, 16, 32, 64)
"""Bits that a value may take on a bus of whole bytes."""


@dataclasses.dataclass(frozen=True)
class Mode:
    """Kinds of operands that a core multiplies; which one is said by each job."""

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


@dataclasses.dataclass(frozen=True)
class Port:
    """A stream of a core."""

    name: str
    """Its name among the ports."""

    lanes: int
    """Values in a transfer."""

    shape: Shape
    """Of one value."""

    meaning: str
    """What it carries, in one phrase."""

    container: int
    """Bits that a value takes on a bus of whole bytes."""

    @classmethod
    def of(
        cls, name: str, lanes: int, width: int, meaning: str, *, negative: bool = True, container: int = 0
    ) -> "Port":
        """Return a stream of two's complement numbers, or of unsigned ones.

        Without `container`, a value takes the fewest of 8, 16, 32 and 64 bits on a bus of bytes, or, if it is wider,
        whole bytes.
        """
        fewest = next((bits for bits in CONTAINERS if bits >= width), -(-width // 8) * 8)
        return cls(name, lanes, signed(width) if negative else unsigned(width), meaning, container or fewest)

    @property
    def width(self) -> int:
        """Bits of a transfer, without `last`."""
        return self.lanes * self.shape.width

    @property
    def values(self) -> data.ArrayLayout:
        """The lanes, lane 0 in the lowest bits."""
        return data.ArrayLayout(self.shape, self.lanes)

    @property
    def framed(self) -> data.StructLayout:
        """The payload of an output: the lanes, and `last` above them."""
        return data.StructLayout({"values": self.values, "last": 1})


class CoreConfig(Protocol):
    """What every core's configuration publishes beside its own fields."""

    @property
    def job_limits(self) -> dict[str, int]:
        """Largest value of each field of a job; the least is 1."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What it can multiply; a job's `mode` is a place in this list. Empty if it has no modes."""
        return ()

    @property
    def repeats(self) -> str | None:
        """The field of a job that counts the vectors in its results; None if that is one."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Streams into the core."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Streams out of it, `results` first."""

    @property
    def packing(self) -> str:
        """The order and coding of a weight stream, in words; nothing if there is none."""
        return ""

    @property
    def tokens_together(self) -> int:
        """Vectors that a core which multiplies works on at a time: with fewer, a part of it is idle."""
        return 1

    def weight_stream_bits(self, n_in: int, n_out: int, mode: int = 0) -> int:
        """Return the bits of the weights that come in for `tokens_together` vectors; 0 if there are none."""
        return 0

    @property
    def place_names(self) -> tuple[str, str, str]:
        """What a vector of results, a value in it, and a transfer of it are called."""
        return ("vector", "index", "transfer")

    @property
    def work_unit(self) -> str:
        """What a job consists of: 'mac', products that are added up, or 'value'."""
        return "value"

    @property
    def work_per_cycle(self) -> int:
        """Products formed, or values taken, in a cycle at full use; of several modes, in the first."""

    def work(self, *args: Any, **job: Any) -> int:
        """Return the products or values of a job, whose fields come by name."""

    def cycles(self, *args: Any, **job: Any) -> int:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""


def job_layout(limits: dict[str, int], modes: int = 1) -> data.StructLayout:
    """Return the payload of the `jobs` stream: fields from 1 up to their limits, and a mode if there are several."""
    fields = {name: limit.bit_length() for name, limit in limits.items()}
    return data.StructLayout(fields | ({"mode": (modes - 1).bit_length()} if modes > 1 else {}))


def core_members(config: CoreConfig) -> dict[str, Member]:
    """Return the ports of a core."""
    return {
        "jobs": In(stream.Signature(job_layout(config.job_limits, len(config.modes)))),
        **{port.name: In(stream.Signature(port.values)) for port in config.inputs},
        **{port.name: Out(stream.Signature(port.framed)) for port in config.outputs},
        "fault": Out(1),
    }


class JobIntake(Component):
    """Takes jobs while the unit is free, and passes the legal ones on.

    Parameters
    ----------
    limits : dict[str, int]
        Largest value of each field.

    Members
    -------
    jobs : In(stream)
    free : In(1)
        The unit can take a job in the next cycle.
    start : Out(1)
        A legal job was taken in the last cycle; `job` is it, and stays until the next.
    job : Out
    fault : Out(1)
        The last job was illegal.
    """

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = limits
        layout = job_layout(limits)
        super().__init__(
            {"jobs": In(stream.Signature(layout)), "free": In(1), "start": Out(1), "job": Out(layout), "fault": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        """Check each field as it comes."""
        m = Module()
        taken, legal = Signal(), Signal()
        fields: list[Value] = []
        for name, limit in self.limits.items():
            field = self.jobs.payload[name]
            fields.append((field != 0) & (field <= limit))
        m.d.comb += [
            self.jobs.ready.eq(self.free & ~self.start),
            taken.eq(self.jobs.valid & self.jobs.ready),
            legal.eq(Cat(fields).all()),
        ]
        m.d.sync += self.start.eq(taken & legal)
        with m.If(taken):
            m.d.sync += [self.job.eq(self.jobs.payload), self.fault.eq(~legal)]
        return m
