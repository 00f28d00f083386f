"""`nomul verilog`: an engine as Verilog, with a manifest."""

import json
from pathlib import Path
from typing import Any

import click

from nomul.commands.wanted import Named, named_core
from nomul.console import json_option, print_files, print_json
from nomul.export.heading import check_name, with_heading
from nomul.export.manifest import manifest
from nomul.export.rtlil import verilog
from nomul.export.template import template
from nomul.export.testbench import testbench
from nomul.export.top_level import BUSES, make_top
from nomul.files import write_folder
from nomul.options import Output
from nomul.sim.vectors import small_vectors


def make_engine(engine: str, config: Any, bus: str, name: str | None = None) -> tuple[dict[str, Any], str]:
    """Return the manifest and the Verilog of an engine or a unit on a bus of `nomul.export.top_level.BUSES`."""
    component, top = make_top(engine, config, bus, name)
    description = manifest(engine, config, component, top)
    return description, with_heading(verilog(component, top), description)


def make_testbench(engine: str, config: Any, description: dict[str, Any]) -> str:
    """Return the testbench of a core with two small random jobs."""
    vectors = small_vectors(engine, config)
    if not description["registers"]:
        inputs = {"jobs": vectors.job_payloads()} | {name: found.payloads for name, found in vectors.inputs.items()}
        outputs = {name: found.payloads for name, found in vectors.outputs.items()}
        return testbench(description, [], inputs, outputs, {}, vectors.cycles)
    contained = {name: found.on_axi()[0] for name, found in vectors.inputs.items()}
    results = {name: found.on_axi() for name, found in vectors.outputs.items()}
    outputs, lasts = ({name: pair[part] for name, pair in results.items()} for part in (0, 1))
    return testbench(description, vectors.jobs, contained, outputs, lasts, vectors.cycles)


def write_engine(
    engine: str, config: Any, folder: Path, bus: str = "stream", name: str | None = None, *, bench: bool = False
) -> dict[str, Any]:
    """Write ENGINE.v, ENGINE.json, ENGINE.vh and, with `bench`, TOP_tb.v, each only if it changes; return what was."""
    description, text = make_engine(engine, config, bus, name)
    stem = name or engine
    files = {
        f"{stem}.v": text.encode(),
        f"{stem}.json": (json.dumps(description, indent=2) + "\n").encode(),
        f"{stem}.vh": template(description).encode(),
    }
    if bench:
        files[f"{description['top']}_tb.v"] = make_testbench(engine, config, description).encode()
    written = write_folder(folder, files)
    return {
        "engine": engine,
        "config": description["config"],
        "files": [str(folder / name) for name in files],
        "written": written,
        "lines": text.count("\n"),
    }


@click.command()
@named_core
@click.option("--bus", type=click.Choice(BUSES), default=BUSES[0], show_default=True)
@click.option(
    "--name", callback=check_name, help="Name of the top module, of its files, and first part of all others'."
)
@click.option("--testbench", "bench", is_flag=True, help="Write a self-checking testbench in plain Verilog too.")
@click.option("-o", "--output", required=True, type=Output(folder=True), help="Folder.")
@json_option
def command(named: Named, bus: str, name: str | None, bench: bool, output: Path, as_json: bool) -> None:
    """Write ENGINE.v (Verilog-2001), ENGINE.json (ports, latency, packing) and ENGINE.vh (how to instantiate it).

    Two cores in one design need different names: with --name, their modules have none in common.
    """
    result = write_engine(named.engine, named.configure(), output, bus, name, bench=bench)
    if as_json:
        print_json(result)
        return
    print_files(result)
