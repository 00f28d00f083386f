"""`nomul pack`: what goes over the streams of a core for a layer, and what must come out, as files for a testbench."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch

from nomul.commands.accelerator_verilog import json_file
from nomul.commands.jobs import choose_jobs
from nomul.commands.wanted import Named, Wanted, named_core, wanted_jobs
from nomul.console import json_option, print_files, print_json
from nomul.export.top_level import BUSES
from nomul.files import write_folder
from nomul.options import Output
from nomul.sim.vectors import Vectors, make_vectors

__all__ = ["command", "stream_files"]


def stream_files(vectors: Vectors, bus: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of all streams, a transfer a line in hexadecimal for `$readmemh`, and what each holds.

    On AXI the jobs are numbers for the registers and not in a file, and an output has `tlast` below its data.
    """
    files, streams = {}, {}

    def add(name: str, port: str, direction: str, width: int, items: list[int]) -> None:
        digits, file = -(-width // 4), f"{name}.hex"
        files[file] = "".join(f"{item:0{digits}x}\n" for item in items).encode()
        streams[name] = {
            "file": file, "port": port, "direction": direction, "width": width, "transfers": len(items)
        }  # fmt: skip

    if bus == "stream":
        add("jobs", "jobs__payload", "input", sum(vectors.widths.values()), vectors.job_payloads())
    for name, found in (vectors.inputs | vectors.outputs).items():
        direction = "input" if name in vectors.inputs else "output"
        if bus == "stream":
            add(name, f"{name}__payload", direction, found.bits(bus), found.payloads)
            continue
        data, last = found.on_axi()
        if direction == "input":
            add(name, f"s_axis_{name}_tdata", direction, found.bits(bus), data)
        else:
            items = [item << 1 | mark for item, mark in zip(data, last, strict=True)]
            add(name, f"m_axis_{name}_tdata", direction, found.bits(bus) + 1, items)
    return files, streams


@click.command()
@named_core
@wanted_jobs
@click.option("--bus", type=click.Choice(BUSES), default=BUSES[0], show_default=True)
@click.option("-o", "--output", required=True, type=Output(folder=True), help="Folder.")
@json_option
def command(named: Named, wanted: Wanted, bus: str, output: Path, as_json: bool) -> None:
    """Write a layer's weight stream, activations and expected results as .hex files, and pack.json that tells of them.

    For a core without weights there are random jobs, or vectors of --activations for absmax.
    """
    torch.set_num_threads(1)
    chosen = choose_jobs(named, wanted)
    vectors = make_vectors(named.engine, chosen.config, chosen.jobs)
    files, streams = stream_files(vectors, bus)
    result = {
        "engine": named.engine, "bus": bus, "config": dataclasses.asdict(chosen.config), **chosen.facts,
        "jobs": vectors.jobs, "cycles": vectors.cycles, "streams": streams,
    }  # fmt: skip
    files["pack.json"] = json_file(result)
    written = write_folder(output, files)
    shown = result | {"files": [str(output / file) for file in files], "written": written}
    if as_json:
        print_json(shown)
    else:
        print_files(shown)
