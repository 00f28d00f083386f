"""`nomul engines`: the engines and the units, and each field of their configurations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from nomul.config import describe
from nomul.console import json_option, print_json, stdout
from nomul.cores.api import Core
from nomul.cores.discover import cores, find_core


def list_fields(listed: Mapping[str, Core]) -> dict[str, dict[str, Any]]:
    """Return summary and fields of each."""
    return {
        name: {
            "summary": core.gateware.summary,
            "fields": {
                field.name: {
                    "default": field.default,
                    "allowed": describe(field),
                    "meaning": field.metadata["doc"],
                }
                for field in dataclasses.fields(core.gateware.config)
            },
        }
        for name, core in listed.items()
    }


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the engines and the other units, or those named, each field with default, range and meaning."""
    chosen = [find_core(name) for name in names] or list(cores().values())
    engines, units = (
        list_fields({core.name: core for core in chosen if core.multiplies == multiplies})
        for multiplies in (True, False)
    )
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
