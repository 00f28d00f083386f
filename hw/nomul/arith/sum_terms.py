"""What every form of the signed sum shares: its ports, and the widths of its terms and partial sums."""

import dataclasses

from amaranth.hdl import signed
from amaranth.lib.wiring import In, Member, Out

__all__ = ["SumTiming", "sum_members", "sum_width"]


@dataclasses.dataclass(frozen=True)
class SumTiming:
    """When a signed sum takes its operands and gives its total, in stages of one cycle."""

    latency: int
    """Stages from stage 0 to the total; the addend is taken at stage `latency - 1`."""

    delays: tuple[int, ...]
    """Term i is taken at stage `delays[i]`."""


def sum_width(magnitude: int, negatable: bool) -> int:
    """Return the width of a partial sum whose terms' largest absolute values add up to `magnitude`.

    A negatable term lies in [-m, m - 1], and so does its complement: the plus one of its negation is added elsewhere.
    A term that is never negated lies in [-m, m].
    """
    return (magnitude - 1 if negatable else magnitude).bit_length() + 1


def sum_members(
    terms: int, magnitude: int, total_width: int, negatable: bool, gated: bool = False, clearable: bool = False
) -> dict[str, Member]:
    """Return the ports of a signed sum; `RelativeSignSum` and, with gates, `GatedSum` document them."""
    gates = {"gates": In(1).array(terms)} if gated else {}
    clear = {"clear": In(1)} if clearable else {}
    return (
        gates
        | clear
        | {
            "words": In(signed(sum_width(magnitude, negatable))).array(terms),
            "signs": In(1).array(terms),
            "addend": In(signed(total_width)),
            "update": In(1, init=1),
            "total": Out(signed(total_width)),
        }
    )
