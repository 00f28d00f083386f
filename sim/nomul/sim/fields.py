"""The fields of a job as its stream has them; for inside and outside of a simulator, so without torch and Amaranth."""

from collections.abc import Mapping
from typing import Any

__all__ = ["field_bits", "pack_fields"]


def field_bits(config: Any) -> dict[str, int]:
    """Return the bits of each field of a core's jobs, the first in the lowest, as `nomul.contract` lays them out."""
    modes = {"mode": (len(config.modes) - 1).bit_length()} if len(config.modes) > 1 else {}
    return {name: limit.bit_length() for name, limit in config.job_limits.items()} | modes


def pack_fields(job: Mapping[str, int], bits: Mapping[str, int]) -> int:
    """Return a job as a transfer of its stream."""
    payload, offset = 0, 0
    for name, width in bits.items():
        payload |= job.get(name, 0) << offset
        offset += width
    return payload
