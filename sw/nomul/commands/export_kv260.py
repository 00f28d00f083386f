"""`nomul export kv260`: a folder from which Vivado makes a bitstream with a machine, and PYNQ runs it."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch

from nomul.boards import kv260
from nomul.commands.accelerator_verilog import MachineFiles, json_file, make_machine, register_table
from nomul.console import json_option, print_files, print_json, stdout
from nomul.errors import InputError
from nomul.export.c_header import c_header
from nomul.export.machine_manifest import TOP, memory_of
from nomul.files import write_folder
from nomul.host import machine_driver, pynq_machine
from nomul.machines import Choice, machine_options
from nomul.options import POSITIVE, Output
from nomul.report.shapes import DEVICES

TARGET = "xcup"

BLOCK_BITS = 36 * 1024
"""Bits of a block RAM; UltraRAM begins with zeros, so that it cannot hold weights."""

IMPORT = "from nomul.host.machine_driver import"


def with_defaults(choice: Choice, clock_mhz: float) -> tuple[Choice, kv260.Settings]:
    """Return the choice as a KV260 wants it, and the settings of its block design.

    Raises
    ------
    InputError
        If the board cannot hold such a machine.
    """
    fields = choice.fields
    if fields["memory"] == "axi":
        fields = {"ports": 4, "port_bits": 128} | fields
    try:
        settings = kv260.Settings(TOP, fields.get("ports", 0), fields.get("port_bits", 0), clock_mhz)
    except ValueError as error:
        raise InputError(str(error)) from None
    choice = dataclasses.replace(choice, fields=fields).for_target(TARGET)
    if fields["memory"] == "block":
        if choice.checkpoint is None and choice.seed is None:
            raise InputError(
                "a machine of memory block has its weights in the bitstream; give it some with --checkpoint FILE or "
                "--random SEED, or put them into DDR memory with --memory axi"
            )
        config, _ = choice.build(weights=False)
        bits = sum(file["width"] * file["depth"] for file in memory_of(config)["files"].values())
        most = int(DEVICES["kv260"].resources["bram"]) * BLOCK_BITS
        if bits > most:
            raise InputError(
                f"the weights of {choice.name} take {bits / 1e6:.1f} Mbit, and the block RAM of a KV260 has "
                f"{most / 1e6:.1f}; put them into DDR memory with --memory axi"
            )
    return choice, settings


def folder_files(machine: MachineFiles, settings: kv260.Settings) -> dict[str, bytes]:
    """Return the files of the folder by their paths in it."""
    board = {"bitstream": kv260.BITSTREAM, "cell": kv260.CELL, "clock_mhz": settings.clock_mhz}
    manifest = machine.manifest | {"kv260": board}
    driver = Path(pynq_machine.__file__).read_text()
    assert IMPORT in driver
    memories = {name: image for name, image in machine.images.items() if name.endswith(".hex")}
    return {
        "build.tcl": kv260.SCRIPT.read_bytes(),
        "settings.tcl": settings.tcl.encode(),
        "kv260.xdc": kv260.CONSTRAINTS.read_bytes(),
        f"rtl/{TOP}.v": machine.verilog.encode(),
        **{f"rtl/{name}": image for name, image in memories.items()},
        "manifest.json": json_file(manifest),
        "registers.md": register_table(manifest).encode(),
        "machine.h": c_header(manifest).encode(),
        "machine_driver.py": Path(machine_driver.__file__).read_bytes(),
        "pynq_machine.py": driver.replace(IMPORT, "from machine_driver import").encode(),
        **{name: image for name, image in machine.images.items() if name not in memories},
    }


@click.command("kv260")
@machine_options
@click.option(
    "--clock-mhz",
    type=POSITIVE,
    default=kv260.CLOCK_MHZ,
    show_default=True,
    help="Clock of the machine.",
)
@click.option("-o", "--output", required=True, type=Output(folder=True), help="Folder.")
@json_option
def command(choice: Choice, clock_mhz: float, output: Path, as_json: bool) -> None:
    """Write a folder for Vivado and PYNQ: RTL, the script of the block design, constraints, driver and weights.

    With --memory axi a machine has 4 ports of 128 bits, unless --ports and --port-bits say otherwise: the HP ports of
    the chip. What resources it takes, `nomul accelerator report --target xcup` says.
    """
    torch.set_num_threads(1)
    choice, settings = with_defaults(choice, clock_mhz)
    machine = make_machine(choice)
    files = folder_files(machine, settings)
    written = write_folder(output, files)
    result: dict[str, Any] = {
        "board": "kv260",
        "model": machine.manifest["model"],
        "engine": machine.config.engine.name,
        "config": machine.manifest["config"],
        "digest": machine.manifest["digest"],
        "clock_mhz": clock_mhz,
        "files": [str(output / file) for file in files],
        "written": written,
        "next": "vivado -mode batch -source build.tcl",
    }
    if as_json:
        print_json(result)
        return
    print_files(result)
    if not machine.images:
        stdout.print("no weights were written; --random SEED makes some", highlight=False)
    stdout.print(f"in {output}: {result['next']}", highlight=False, soft_wrap=True)
