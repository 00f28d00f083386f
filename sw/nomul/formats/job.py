"""A job of a core: what goes into each of its streams, and what must come out."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.errors import InputError

__all__ = ["Job", "Words", "frame", "pack_lanes", "refuse_length", "refuse_outside"]

Lanes = npt.NDArray[np.int64]
"""Values [transfers, lanes]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Words:
    """Transfers as bytes, uint8 [transfers, bytes], little-endian, all of which go in `times` times."""

    rows: npt.NDArray[np.uint8]
    times: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A job, the transfers of its inputs, and those that must come out: values, and whether each is a `last`."""

    fields: dict[str, int]
    inputs: "Mapping[str, Lanes | Words]"
    outputs: dict[str, tuple[Lanes, npt.NDArray[np.bool_]]]

    beyond: dict[str, npt.NDArray[np.bool_]] = dataclasses.field(default_factory=dict)
    """The lanes of outputs [transfers, lanes] that are beyond the end of a vector; compared, and not counted."""

    beyond_is_known: bool = True
    """Whether lanes beyond the end of a vector are compared."""

    operands: dict[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)
    """What the job is made of, in numbers, where its inputs do not say it."""

    def words(self, name: str, width: int) -> Words:
        """Return what goes into a stream whose values have `width` bits, as bytes."""
        given = self.inputs[name]
        return given if isinstance(given, Words) else Words(pack_lanes(given, width))


def frame(vectors: Tensor, lanes: int, noise: torch.Generator | None = None) -> tuple[Lanes, npt.NDArray[np.bool_]]:
    """Cut vectors [n, length] into transfers [n * transfers, lanes], and say which of them end a vector.

    What is left of a vector's last transfer is zero, or taken from the other values in an order that `noise` draws.
    """
    count, length = vectors.shape
    transfers = -(-length // lanes)
    padded = torch.nn.functional.pad(vectors.long(), (0, transfers * lanes - length))
    if noise is not None and transfers * lanes > length:
        picks = torch.randint(vectors.numel(), (count, transfers * lanes - length), generator=noise)
        padded[:, length:] = vectors.flatten().long()[picks]
    last = np.tile(np.arange(transfers) == transfers - 1, count)
    return padded.reshape(count * transfers, lanes).numpy(), last


def pack_lanes(values: Lanes, width: int, last: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.uint8]:
    """Return transfers as bytes, little-endian, lane 0 in the lowest bits and `last` above all lanes."""
    bits = ((values[:, :, None] >> np.arange(width)) & 1).reshape(len(values), -1).astype(np.uint8)
    if last is not None:
        bits = np.concatenate([bits, last[:, None].astype(np.uint8)], axis=1)
    return np.packbits(bits, axis=1, bitorder="little")


def refuse_outside(what: str, values: Tensor, bits: int, field: str | None = None) -> None:
    """Raise `InputError` if a value is not a number of so many bits, two's complement."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    wide = values.long()  # a bound need not fit the values' own type
    outside = (wide < low) | (wide > high)
    if outside.any():
        place = outside.nonzero()[0].tolist()
        said = f"{field} = {bits}" if field else "binary16"
        where = " of vector ".join(str(index) for index in reversed(place))
        raise InputError(f"{what} {where} is {values[tuple(place)]}; allowed: {low} to {high} ({said})")


def refuse_length(name: str, length: int, limits: dict[str, int]) -> None:
    """Raise `InputError` if a job's field is not from 1 to its limit."""
    if not 1 <= length <= limits[name]:
        field = f"{name}_max"
        remedy = f"; set {field} to {length} or more" if length > limits[name] and name != "vectors" else ""
        raise InputError(f"{name} is {length}; this unit takes 1 to {limits[name]}{remedy}")
