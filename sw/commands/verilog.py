"""`nomul verilog`: an engine as Verilog, with a manifest."""

import json
from pathlib import Path
from typing import Any

import click

from hw.arith.target import TARGETS
from sw.console import json_option, print_files, print_json, write_folder
from sw.engines import choose_form, configure
from sw.flow.manifest import manifest
from sw.flow.rtlil import verilog
from sw.flow.tops import BUSES, make_top
from sw.options import Output


def make_engine(engine: str, config: Any, bus: str) -> tuple[dict[str, Any], str]:
    """Return the manifest and the Verilog of an engine or a unit on a bus of `sw.flow.tops.BUSES`."""
    component, top = make_top(engine, config, bus)
    description = manifest(engine, config, component, top)
    return description, verilog(component, top)


def write_engine(engine: str, config: Any, folder: Path, bus: str = "stream") -> dict[str, Any]:
    """Write ENGINE.v and ENGINE.json, each only if its text changes; return what was written."""
    description, text = make_engine(engine, config, bus)
    files = {f"{engine}.v": text.encode(), f"{engine}.json": (json.dumps(description, indent=2) + "\n").encode()}
    written = write_folder(folder, files)
    return {
        "engine": engine,
        "config": description["config"],
        "files": [str(folder / name) for name in files],
        "written": written,
        "lines": text.count("\n"),
    }


@click.command()
@click.argument("engine")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be repeated.")
@click.option("--target", type=click.Choice(TARGETS), help="Technology whose arithmetic forms are used.")
@click.option("--bus", type=click.Choice(BUSES), default=BUSES[0], show_default=True)
@click.option("-o", "--output", required=True, type=Output(folder=True), help="Folder.")
@json_option
def command(engine: str, settings: tuple[str, ...], target: str | None, bus: str, output: Path, as_json: bool) -> None:
    """Write ENGINE.v (Verilog-2001) and ENGINE.json (ports, configuration, latency, weight packing)."""
    engine, settings, _ = choose_form(engine, settings)
    result = write_engine(engine, configure(engine, settings, target), output, bus)
    if as_json:
        print_json(result)
        return
    print_files(result)
