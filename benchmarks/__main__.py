"""Measures what Nomul promises: python -m benchmarks FILE [MODULE]...

Exit code 1 if a figure misses its bar.
"""

import importlib
import sys
from pathlib import Path

from benchmarks.figures import Figure, measure

MODULES = ("tlmm", "vitallm", "bwta", "mixpe")
"""Modules of this package with a list FIGURES."""


def figures(modules: tuple[str, ...]) -> list[Figure]:
    """Return the figures of some modules, in their order."""
    return [figure for name in modules for figure in importlib.import_module(f"benchmarks.{name}").FIGURES]


if __name__ == "__main__":
    file, *chosen = sys.argv[1:]
    sys.exit(0 if measure(figures(tuple(chosen) or MODULES), Path(file)) else 1)
