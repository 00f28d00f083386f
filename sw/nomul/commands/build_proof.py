"""What `nomul build` found out, and how each figure is known."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from nomul.console import stdout

__all__ = ["KNOWN", "NOT_RUN", "Claim", "as_json", "failed", "not_run", "show"]

NOT_RUN = "not run"

KNOWN = ("modelled", "simulated", "synthesised", "mapped", "routed", NOT_RUN)
"""How a figure is known: by a model of cycles, RTL that was simulated, synthesis to a family of FPGAs or to standard
cells, place and route; or not at all."""


@dataclass(frozen=True)
class Claim:
    """A figure, how it is known, and whether it is as it must be.

    Raises
    ------
    ValueError
        If `known` is none of `KNOWN`.
    """

    what: str
    text: str
    """The figure in words, or why there is none."""
    known: str
    value: float | str | None = None
    """The figure for programs."""
    passed: bool | None = None
    """Of what is compared with something; None of what is only measured."""
    by: str = ""
    """The tool."""

    def __post_init__(self) -> None:
        """Refuse a figure of unknown origin."""
        if self.known not in KNOWN:
            raise ValueError(f"Claim field 'known' is {self.known!r}; allowed: {', '.join(KNOWN)}")


def not_run(what: str, why: str) -> Claim:
    """Return that something was not found out."""
    return Claim(what, why, NOT_RUN)


def failed(claims: Sequence[Claim]) -> bool:
    """Say whether any comparison failed."""
    return any(claim.passed is False for claim in claims)


def as_json(claims: Sequence[Claim], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a proof for programs: facts about what was built, and the claims."""
    return {**facts, "passed": not failed(claims), "claims": [asdict(claim) for claim in claims]}


def show(title: str, claims: Sequence[Claim]) -> None:
    """Print the claims as a table that fits 80 columns, and what came of them in a sentence."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("figure")
    table.add_column("value", overflow="fold")
    table.add_column("how it is known")
    for claim in claims:
        text = f"FAILED: {claim.text}" if claim.passed is False else claim.text
        table.add_row(claim.what, text, f"{claim.known}, {claim.by}" if claim.by else claim.known)
    stdout.print(table)
    compared = [claim for claim in claims if claim.passed is not None]
    wrong = [claim.what for claim in compared if not claim.passed]
    if wrong:
        stdout.print(f"failed: {', '.join(wrong)}", style="bold red")
    else:
        stdout.print("nothing was proven" if not compared else f"passed: {', '.join(claim.what for claim in compared)}")
