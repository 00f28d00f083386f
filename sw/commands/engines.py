"""`nomul engines`: the engines, and each field of their configurations."""

import dataclasses
from typing import Any

import click
from rich.table import Table

from hw.config import describe
from hw.engines import ENGINES
from sw.console import json_option, print_json, stdout


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the engines, each field with default, range and meaning."""
    listing: dict[str, dict[str, Any]] = {
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
        for name, spec in ENGINES.items()
    }
    if as_json:
        print_json({"engines": listing})
        return
    for name, engine in listing.items():
        table = Table(title=f"{name}: {engine['summary']}", title_justify="left", title_style="bold")
        for column in ("field", "default", "allowed", "meaning"):
            table.add_column(column, overflow="fold")
        for field, entry in engine["fields"].items():
            default = "derived" if entry["default"] is None else str(entry["default"])
            table.add_row(field, default, entry["allowed"], entry["meaning"])
        stdout.print(table)
