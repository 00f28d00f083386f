"""Measures promised figures, keeps what is measured, and sets each beside its bar."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from nomul.console import progress, stdout
from nomul.files import write_atomically

__all__ = ["Figure", "measure"]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure that Nomul promises."""

    name: str
    """What it is, with units."""

    measure: Callable[[], float]
    """Measures it."""

    most: float | None = None
    least: float | None = None
    """The bar, from above or from below; without either the figure is only for information."""

    digits: int = 3
    """Significant digits shown."""

    def holds(self, value: float) -> bool | None:
        """Tell whether a value reaches the bar; None without one."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    @property
    def bar(self) -> str:
        """The bar in words."""
        if self.most is not None:
            return f"{self.most:g} or less"
        return "" if self.least is None else f"{self.least:g} or more"


def measure(figures: Sequence[Figure], file: Path) -> bool:
    """Measure what FILE does not hold yet, write it there one by one, print all, and tell whether every bar is reached.

    A run that was stopped goes on where it was; delete the file to measure again.
    """
    kept: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    with progress("measuring", len(figures)) as advance:
        for figure in figures:
            if figure.name not in kept:
                kept[figure.name] = figure.measure()
                write_atomically(file, (json.dumps(kept, indent=2) + "\n").encode())
            advance()
    table = Table("figure", "measured", "bar", "")
    for figure in figures:
        value = kept[figure.name]
        verdicts: dict[bool | None, str | Text] = {True: "reached", False: Text("missed", "bold red"), None: ""}
        table.add_row(figure.name, f"{value:.{figure.digits}g}", figure.bar, verdicts[figure.holds(value)])
    stdout.print(table)
    return all(figure.holds(kept[figure.name]) is not False for figure in figures)
