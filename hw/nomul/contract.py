"""The contract of units: what is not a matmul engine, but is made, checked and reported like one.

A unit is an `amaranth.lib.wiring.Component` made from one frozen configuration.

    jobs      the configuration's `job_limits`: one field each, 1 to its limit; one transfer a job
    inputs    streams of `lanes` values a transfer, each vector in order, its last transfer padded with any values
    outputs   streams of {values, last}, `last` on the last transfer of a vector, lanes beyond its end zero
    fault     the last job had a field of zero or above its limit, and did nothing

All are `amaranth.lib.stream` streams and may stall at any time. One of the outputs is `results`; with it a job ends.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from amaranth.hdl import Cat, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.spec import Spec

__all__ = ["JobIntake", "Port", "UnitConfig", "UnitSpec", "job_layout", "unit_members"]


@dataclasses.dataclass(frozen=True)
class Port:
    """A stream of a unit."""

    name: str
    """Its name among the ports."""

    lanes: int
    """Values in a transfer."""

    shape: Shape
    """Of one value."""

    meaning: str
    """What it carries, in one phrase."""

    @classmethod
    def of(cls, name: str, lanes: int, width: int, meaning: str, *, negative: bool = True) -> "Port":
        """Return a stream of two's complement numbers, or of unsigned ones."""
        return cls(name, lanes, signed(width) if negative else unsigned(width), meaning)

    @property
    def values(self) -> data.ArrayLayout:
        """The lanes, lane 0 in the lowest bits."""
        return data.ArrayLayout(self.shape, self.lanes)

    @property
    def framed(self) -> data.StructLayout:
        """The payload of an output: the lanes, and `last` above them."""
        return data.StructLayout({"values": self.values, "last": 1})


class UnitConfig(Protocol):
    """What every unit's configuration publishes beside its own fields."""

    @property
    def job_limits(self) -> dict[str, int]:
        """Largest value of each field of a job; the least is 1."""

    @property
    def repeats(self) -> str | None:
        """The field of a job that counts the vectors in its results; None if that is one."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Streams into the unit."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Streams out of it, `results` first."""

    @property
    def values_per_cycle(self) -> int:
        """Values taken in a cycle at full use."""

    @property
    def values(self) -> Callable[..., int]:
        """Return the values that a job takes, in the unit of `values_per_cycle`; its fields come by name."""

    @property
    def cycles(self) -> Callable[..., int]:
        """Return the cycles of a job alone, from its transfer to that of its last result, when no stream stalls."""


class UnitSpec(Spec):
    """A unit as the commands see it; its configuration is a `UnitConfig`."""


def job_layout(limits: dict[str, int], modes: int = 1) -> data.StructLayout:
    """Return the payload of the `jobs` stream: fields from 1 up to their limits, and a mode if there are several."""
    fields = {name: limit.bit_length() for name, limit in limits.items()}
    return data.StructLayout(fields | ({"mode": (modes - 1).bit_length()} if modes > 1 else {}))


def unit_members(config: UnitConfig) -> dict[str, Member]:
    """Return the ports of a unit."""
    return {
        "jobs": In(stream.Signature(job_layout(config.job_limits))),
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
