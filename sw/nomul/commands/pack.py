"""`nomul pack`: what goes over the streams of a core for a layer, and what must come out, as files for a testbench."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch

from nomul.arith.target import TARGETS
from nomul.catalog import choose_variant, configure
from nomul.commands.accelerator_verilog import json_file
from nomul.commands.check_common import load_activations
from nomul.commands.check_grouped import choose_grouped
from nomul.commands.operands import choose_operands
from nomul.console import json_option, print_files, print_json
from nomul.cores.discover import find_core
from nomul.engines.matmul import TOKENS_MAX
from nomul.errors import InputError
from nomul.files import write_folder
from nomul.flow.tops import BUSES
from nomul.model import checkpoints
from nomul.options import CheckpointPath, Integer, Output, Seed
from nomul.sim.check import Product
from nomul.sim.unit_check import random_jobs
from nomul.sim.vectors import Vectors, product_vectors, unit_vectors

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
@click.argument("engine")
@click.option("--checkpoint", type=CheckpointPath(), help="Weights; a committed tiny model by default.")
@click.option("--layer", help="Layer, by default the first, or for INT modes the head.")
@click.option("--mode", help="What to multiply, of an engine that has several modes; its first by default.")
@click.option("--activations", type=click.Path(path_type=Path), help=".npy file, integers [tokens, n_in].")
@click.option("--tokens", default=4, show_default=True, type=Integer(1, TOKENS_MAX), help="Vectors to multiply.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be repeated.")
@click.option("--target", type=click.Choice(TARGETS), help="Technology whose arithmetic forms are used.")
@click.option("--bus", type=click.Choice(BUSES), default=BUSES[0], show_default=True)
@click.option("--seed", default=0, show_default=True, type=Seed(), help="Of random activations and jobs.")
@click.option("-o", "--output", required=True, type=Output(folder=True), help="Folder.")
@json_option
def command(
    engine: str, checkpoint: Path | None, layer: str | None, mode: str | None, activations: Path | None, tokens: int,
    settings: tuple[str, ...], target: str | None, bus: str, seed: int, output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Write a layer's weight stream, activations and expected results as .hex files, and pack.json that tells of them.

    ENGINE may also be a unit, for which there are random jobs, or vectors of --activations for absmax.
    """
    torch.set_num_threads(1)
    choice: dict[str, Any] = {"layer": layer, "tokens": tokens, "seed": seed}
    engine, settings, form = choose_variant(engine, settings)
    facts: dict[str, Any]
    core = find_core(engine)
    if not core.multiplies:
        for name, value in (("--checkpoint", checkpoint), ("--layer", layer), ("--mode", mode)):
            if value is not None:
                raise InputError(f"{name} is {str(value)!r}, but {engine} is a unit and has no weights; leave it out")
        if activations is not None and core.vectors is None:
            raise InputError(f"--activations is {str(activations)!r}, but {engine} takes random jobs only")
        config = configure(engine, settings, target)
        if activations is not None and core.vectors is not None:
            jobs = [core.vectors(config, load_activations(activations)[:tokens])]
        else:
            jobs = random_jobs(engine, config, tokens, seed)
        vectors = unit_vectors(config, jobs)
        facts = {}
    elif core.grouped and form.get("weight", "int4") == "int4":
        grouped, config, product, source = choose_grouped(
            engine, settings, target, path=checkpoint, mode=mode, activations=activations, **choice
        )
        vectors, facts = product_vectors(engine, config, [product]), {"layer": grouped.name, "activations": source}
    else:
        config = configure(engine, settings, target)
        found = choose_operands(
            engine, config, checkpoint or checkpoints.path(), layer, mode, activations, tokens, seed
        )
        vectors = product_vectors(engine, config, [Product(found.weight, found.activations, found.mode)])
        facts = {"layer": found.layer, "weights": found.weight_source, "activations": found.activation_source}
    files, streams = stream_files(vectors, bus)
    result = {
        "engine": engine, "bus": bus, "config": dataclasses.asdict(config), **facts, "jobs": vectors.jobs,
        "cycles": vectors.cycles, "streams": streams,
    }  # fmt: skip
    files["pack.json"] = json_file(result)
    written = write_folder(output, files)
    shown = result | {"files": [str(output / file) for file in files], "written": written}
    if as_json:
        print_json(shown)
    else:
        print_files(shown)
