"""The part of `nomul check` that is for units: random jobs, or vectors from a file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from nomul.console import print_json, stderr, stdout
from nomul.cores.discover import find_core
from nomul.errors import InputError
from nomul.files import plain_file
from nomul.sim.unit_check import check_unit, random_jobs

__all__ = ["check_random", "finish_unit", "load_activations", "show_differences"]


def load_activations(file: Path) -> Tensor:
    """Read activations, integers [tokens, n_in], from an .npy file."""
    plain_file(file)
    try:
        # Mapped, so that nothing is set aside for what a header promises and the file does not hold.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception:
        raise InputError(f"{file} is cut short, or is not an .npy file of numbers") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"{file} holds {found}; activations are integers [tokens, n_in]")
    if array.dtype == np.uint64:
        array = array.clip(max=1 << 62)
    return torch.from_numpy(array.astype(np.int64))


def check_random(
    unit: str,
    config: Any,
    file: Path | None,
    count: int,
    simulator: str,
    bus: str,
    stall: float,
    seed: int,
    waves: Path | None = None,
) -> dict[str, Any]:
    """Simulate a unit on vectors of a file, or on random jobs; return what `nomul check --json` prints."""
    vectors = find_core(unit).vectors
    if file is not None and vectors is None:
        raise InputError(f"--activations is {str(file)!r}, but {unit} takes random jobs only; leave it out")
    if file is not None and vectors is not None:
        jobs = [vectors(config, load_activations(file))]
    else:
        jobs = random_jobs(unit, config, count, seed)
    source = f"{count} random jobs, seed {seed}" if file is None else str(file)
    stderr.print(f"simulating {unit} with {simulator}: {source}", highlight=False)
    options: dict[str, Any] = {"simulator": simulator, "bus": bus, "stall": stall, "seed": seed, "waves": waves}
    return {"unit": unit} | check_unit(unit, config, jobs, **options)


def show_differences(result: dict[str, Any], places: Sequence[str]) -> None:
    """Print the first differences of a check, each at its `places`, and where the run was kept."""
    if not result["mismatches"]:
        return
    shown = [
        ", ".join(f"{place} {difference[place]}" for place in places)
        + f": expected {difference['expected']}, got {difference['got']}"
        for difference in result["differences"]
    ]
    lines = ["the first differences:", *shown] if shown else ["more came out than was expected"]
    lines.append(f"operands, streams, design and log are in {result['folder']}; replay with --seed {result['seed']}")
    stdout.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def finish_unit(result: dict[str, Any], as_json: bool) -> None:
    """Print the figures of a check; exit with code 1 if an output differs."""
    if as_json:
        print_json(result)
    else:
        table = Table(show_header=False, title=result["unit"], title_justify="left")
        table.add_column(style="bold")
        table.add_column(justify="right")
        largest = ", ".join(f"{name} {value}" for name, value in result["largest_job"].items())
        for name, value in {
            "jobs": f"{result['jobs']:,}",
            "transfers compared": f"{result['outputs']:,}",
            "mismatches": f"{result['mismatches']:,}",
            "cycles of all jobs": f"{result['cycles']:,}",
            "values per cycle (peak)": f"{result['utilization'] * result['values_per_cycle_peak']:.2f} "
            f"({result['values_per_cycle_peak']})",
            "largest job": largest,
            "its cycles alone (model)": f"{result['job_cycles']:,} ({result['model_cycles']:,})",
            "seed": str(result["seed"]),
        }.items():
            table.add_row(name, value)
        stdout.print(table)
        show_differences(result, ("output", "job", "transfer"))
    if result["mismatches"]:
        sys.exit(1)
