"""What the cores that are arrays of lanes by rows have alike: sizes, search grid, features of the cost model."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nomul.cores.api import CostPoint, Settings

__all__ = ["LANES", "ROWS", "SIZES", "array_features", "array_grid", "array_points", "longest", "sizes"]

LANES = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128)
ROWS = (2, 4, 7, 8, 12, 14, 16, 20, 21, 24, 28, 32, 40, 42, 48, 56, 64, 80, 96, 112, 128)
"""What a search looks at."""

SIZES: Mapping[str, Settings] = {
    "small": {"lanes_in": 8, "rows": 2},
    "medium": {"lanes_in": 16, "rows": 4},
    "large": {"lanes_in": 16, "rows": 32},
}
"""The report's sizes of an array whose lanes form a product each."""

POINTS: Sequence[tuple[int, int, int]] = (
    (4, 2, 512),
    (8, 2, 4096),
    (8, 8, 512),
    (16, 4, 8192),
    (12, 2, 1024),
    (16, 16, 4096),
)
"""Lanes, rows, and the longest vectors of the configurations that cost models are fitted to."""

POINTS_TEST: Sequence[tuple[int, int, int]] = ((8, 4, 2048), (16, 8, 8192))
"""The same of those that test the fit."""


def sizes(small: tuple[int, int], medium: tuple[int, int], large: tuple[int, int]) -> Mapping[str, Settings]:
    """Return the report's sizes, of lanes and rows."""
    pairs = {"small": small, "medium": medium, "large": large}
    return {name: {"lanes_in": lanes, "rows": rows} for name, (lanes, rows) in pairs.items()}


def longest(length: int) -> dict[str, int]:
    """Return the fields of the longest vectors."""
    return {"n_in_max": length, "n_out_max": length}


def array_grid(scale: int = 1, forms: Sequence[Settings] = ({},)) -> Callable[[], Iterator[Settings]]:
    """Return what yields a search grid of lanes, rows and forms; each lane of `LANES` counts `scale` times."""

    def grid() -> Iterator[Settings]:
        for lanes, rows, form in itertools.product(LANES, ROWS, forms):
            yield {"lanes_in": lanes * scale, "rows": rows, **form}

    return grid


def array_points(
    scale: int = 1,
    power_of_two: bool = False,
    also: Callable[[int, int], Sequence[Settings]] = lambda lanes, rows: (),
) -> tuple[CostPoint, ...]:
    """Return the points of an array's cost model.

    Parameters
    ----------
    scale : int
        Each lane counts as so many.
    power_of_two : bool
        Whether lanes are powers of two.
    also : callable
        (lanes, rows) -> further fields of points of that size.
    """
    found = []
    for held, arrays in ((False, POINTS), (True, POINTS_TEST)):
        for lanes, rows, length in arrays:
            lanes = 1 << (lanes - 1).bit_length() if power_of_two else lanes
            base = {"lanes_in": lanes * scale, "rows": rows, **longest(length)}
            found += [CostPoint(base | dict(form), held) for form in ({}, *also(lanes, rows))]
    return tuple(found)


def array_features(config: Any) -> list[float]:
    """Return 1, lanes, rows x width of a total, rows x lanes, and for dense weights rows x lanes once more."""
    lanes, rows = config.lanes_in, config.rows
    dense = getattr(config, "weights", "") == "dense"
    return [1, lanes, rows * config.total_width, rows * lanes, rows * lanes * dense]
