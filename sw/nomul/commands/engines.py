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
from nomul.errors import InputError


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
@click.option("--schema", is_flag=True, help="Print the JSON schema of design files, or of NAME's configuration.")
@json_option
def command(names: tuple[str, ...], schema: bool, as_json: bool) -> None:
    """List the engines and the other units, or those named, each field with default, range and meaning.

    With --schema: the JSON schema of the files that `nomul build` takes, for an editor; or of the configuration of the
    one that is named, which may also be accelerator.
    """
    if schema:
        # Not above: the listing does not wait for what the schemas know.
        from nomul.commands.build_schema import design_schema, named_schema

        if len(names) > 1:
            raise InputError(f"--schema takes one name; {len(names)} were given")
        print_json(named_schema(names[0]) if names else design_schema())
        return
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
