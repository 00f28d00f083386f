"""`nomul engines`: the engines and the units, and each field of their configurations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from nomul.config import describe
from nomul.console import json_option, print_json, stdout
from nomul.engines import ENGINES
from nomul.errors import InputError
from nomul.names import canonical
from nomul.spec import Spec
from nomul.units import UNITS


def list_fields(specs: Mapping[str, Spec]) -> dict[str, dict[str, Any]]:
    """Return summary and fields of each."""
    return {
        name: {
            "summary": spec.summary,
            "fields": {
                field.name: {
                    "default": field.default,
                    "allowed": describe(field),
                    "meaning": field.metadata["doc"],
                }
                for field in dataclasses.fields(spec.config)
            },
        }
        for name, spec in specs.items()
    }


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the engines and the other units, or those named, each field with default, range and meaning."""
    chosen = [canonical(name, ENGINES | UNITS) for name in names] or [*ENGINES, *UNITS]
    for name in chosen:
        if name not in ENGINES | UNITS:
            raise InputError(
                f"no engine is called {name!r}; the engines are {', '.join(ENGINES)}; the units {', '.join(UNITS)}"
            )
    engines = list_fields({name: spec for name, spec in ENGINES.items() if name in chosen})
    units = list_fields({name: spec for name, spec in UNITS.items() if name in chosen})
    if as_json:
        print_json({"engines": engines, "units": units})
        return
    for name, engine in (engines | units).items():
        table = Table(title=f"{name}: {engine['summary']}", title_justify="left", title_style="bold")
        for column in ("field", "default", "allowed", "meaning"):
            table.add_column(column, overflow="fold")
        for field, entry in engine["fields"].items():
            default = "derived" if entry["default"] is None else str(entry["default"])
            table.add_row(field, default, entry["allowed"], entry["meaning"])
        stdout.print(table)
