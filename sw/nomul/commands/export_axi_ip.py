"""`nomul export axi-ip`: an engine, a unit or a whole machine on AXI, with the IP-XACT file that describes it."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch

from nomul.arith.target import TARGETS
from nomul.catalog import choose_variant, configure
from nomul.commands.accelerator_verilog import json_file, make_machine
from nomul.commands.verilog import make_engine
from nomul.console import json_option, print_files, print_json
from nomul.cores.discover import cores
from nomul.export.heading import check_name
from nomul.export.ipxact import SCHEMAS, Identity, component_xml
from nomul.export.machine_manifest import TOP
from nomul.export.top_level import BUSES
from nomul.files import write_folder
from nomul.machines import MACHINE_ONLY, add_options, take_choice
from nomul.names import canonical
from nomul.options import Output, bundle, refuse_given

MACHINE = "machine"
"""The name by which a whole machine is exported."""


@dataclasses.dataclass(frozen=True)
class CatalogueEntry:
    """What a catalogue shall know a component by, all but its name, and the standard that says so."""

    schema: str
    vendor: str
    library: str
    version: str

    def identity(self, name: str) -> Identity:
        """Return the identity; `InputError` if a part of it is no name."""
        return Identity(self.vendor, self.library, name, self.version)


@click.command("axi-ip")
@click.argument("name")
@add_options
@click.option("--target", type=click.Choice(TARGETS), help="Technology whose arithmetic forms are used.")
@bundle(
    "entry",
    CatalogueEntry,
    click.option("--schema", type=click.Choice(list(SCHEMAS)), default=next(iter(SCHEMAS)), show_default=True),
    click.option("--vendor", default="nomul", show_default=True),
    click.option("--library", default="ip", show_default=True),
    click.option("--ip-version", "version", default="1.0", show_default=True, help="Version of the component."),
)
@click.option("--bus", type=click.Choice(BUSES[1:]), default=BUSES[1], show_default=True, help="Not of a machine.")
@click.option("--name", "top", callback=check_name, help="Name of the top module, and first part of all others'.")
@click.option("-o", "--output", required=True, type=Output(folder=True), help="Folder.")
@json_option
def command(
    name: str,
    target: str | None,
    entry: CatalogueEntry,
    bus: str,
    top: str | None,
    output: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Write component.xml (IP-XACT) beside the Verilog of NAME on AXI: a core, or `machine`.

    Options that describe a model and its machine go with `machine` only.
    """
    torch.set_num_threads(1)
    name = canonical(name, (MACHINE, *cores()))
    if name == MACHINE:
        refuse_given(("bus",), f"goes with the name of a core; the name is {MACHINE!r}")
        entry.identity(top or TOP)
        machine = make_machine(take_choice(options).for_target(target), top or TOP)
        manifest, text, images = machine.manifest, machine.verilog, machine.images
    else:
        refuse_given(MACHINE_ONLY, f"goes with the name {MACHINE!r} only; the name is {name!r}")
        engine, settings, _ = choose_variant(name, options["settings"])
        config = configure(engine, settings, target)
        entry.identity(top or engine)
        manifest, text = make_engine(engine, config, bus, top)
        images = {}
    top = manifest["top"]
    sets = {"rtl": [f"{top}.v"]}
    if memories := [file for file in images if file.endswith(".hex")]:
        sets["memories"] = memories
    description = component_xml(manifest, entry.identity(top), sets, entry.schema)
    files = {"component.xml": description, f"{top}.v": text.encode(), "manifest.json": json_file(manifest), **images}
    written = write_folder(output, files)
    result = {
        "name": name,
        "top": top,
        "vlnv": f"{entry.vendor}:{entry.library}:{top}:{entry.version}",
        "schema": entry.schema,
        "config": manifest["config"],
        "files": [str(output / file) for file in files],
        "written": written,
    }
    if as_json:
        print_json(result)
    else:
        print_files(result)
