"""`nomul accelerator verilog`: a whole machine, and everything that a host needs to run it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from nomul.accelerator_image import dram_image, hex_files
from nomul.accelerators.axi_top import AxiMachine
from nomul.accelerators.config import AcceleratorConfig
from nomul.arith.target import TARGETS
from nomul.console import json_option, print_files, print_json, status, stdout
from nomul.export.c_header import c_header
from nomul.export.heading import check_name, with_heading
from nomul.export.machine_manifest import TOP, machine_manifest
from nomul.export.rtlil import verilog
from nomul.export.template import template
from nomul.files import write_folder
from nomul.host import machine_driver
from nomul.machines import Choice, machine_options
from nomul.model.integer import IntegerModel
from nomul.options import Output


def register_table(manifest: dict[str, Any]) -> str:
    """Return the registers as Markdown."""
    lines = [f"# Registers of {manifest['top']}", "", "| offset | name | access | meaning |", "|---|---|---|---|"]
    for register in manifest["registers"]:
        bits = "".join(f"<br>bit {bit['bit']} {bit['name']}: {bit['meaning']}" for bit in register["bits"])
        lines.append(
            f"| 0x{register['offset']:02x} | {register['name']} | {register['access']} | {register['meaning']}{bits} |"
        )
    return "\n".join(lines) + "\n"


def image_files(model: IntegerModel, config: AcceleratorConfig) -> dict[str, bytes]:
    """Return the files of a machine's weights: .hex files that its memories begin with, or one for each AXI port."""
    if config.memory == "block":
        return {f"{name}.hex": text.encode() for name, text in hex_files(model, config).items()}
    image, width = dram_image(model, config), config.port_bits // 8
    return {
        f"port{port}.bin": np.ascontiguousarray(image[:, port * width : (port + 1) * width]).tobytes()
        for port in range(config.ports)
    }


@dataclasses.dataclass(frozen=True)
class MachineFiles:
    """A machine as text and bytes: everything that a folder with it may hold."""

    config: AcceleratorConfig
    manifest: dict[str, Any]
    verilog: str
    images: dict[str, bytes]
    """By file name; none without weights."""


def make_machine(choice: Choice, top: str = TOP) -> MachineFiles:
    """Generate a machine of which `top` is the top module, and the files of its weights if it has any."""
    config, model = choice.build()
    manifest = machine_manifest(config, top)
    manifest["model"] = {"name": choice.name, "random_seed": choice.seed, "weights": model is not None}
    with status("writing Verilog"):
        text = with_heading(verilog(AxiMachine(config), top), manifest)
    images: dict[str, bytes] = {}
    if model is not None:
        with status("packing weights"):
            images = image_files(model, config)
    return MachineFiles(config, manifest, text, images)


def json_file(content: dict[str, Any]) -> bytes:
    """Return an object as the text of a file."""
    return (json.dumps(content, indent=2) + "\n").encode()


def write_machine(choice: Choice, folder: Path, top: str = TOP) -> dict[str, Any]:
    """Write a machine into a folder, each file only if it changes; return what was written."""
    machine = make_machine(choice, top)
    manifest, config = machine.manifest, machine.config
    files = {
        f"{top}.v": machine.verilog.encode(),
        f"{top}.vh": template(manifest).encode(),
        "manifest.json": json_file(manifest),
        "registers.md": register_table(manifest).encode(),
        "machine.h": c_header(manifest).encode(),
        "machine_driver.py": Path(machine_driver.__file__).read_bytes(),
        **machine.images,
    }
    written = write_folder(folder, files)
    return {
        "model": manifest["model"],
        "engine": config.engine.name,
        "config": manifest["config"],
        "digest": manifest["digest"],
        "memory": manifest["memory"],
        "files": [str(folder / name) for name in files],
        "written": written,
        "lines": machine.verilog.count("\n"),
    }


@click.command("verilog")
@machine_options
@click.option("--target", type=click.Choice(TARGETS), help="Technology whose arithmetic forms are used.")
@click.option("--name", callback=check_name, default=TOP, show_default=True, help="Name of the top module.")
@click.option("-o", "--output", required=True, type=Output(folder=True), help="Folder.")
@json_option
def command(choice: Choice, target: str | None, name: str, output: Path, as_json: bool) -> None:
    """Write a machine: Verilog, manifest, register map, image of the weights, C header and Python driver."""
    torch.set_num_threads(1)
    result = write_machine(choice.for_target(target), output, name)
    if as_json:
        print_json(result)
        return
    print_files(result)
    if not result["model"]["weights"]:
        stdout.print("no weights were written; --random SEED makes some", highlight=False)
