"""`nomul import`: what a Hugging Face model or a GGUF file holds, and its dense file if it is a ternary one."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import click
from rich.table import Table
from torch import Tensor

from nomul import console
from nomul.cores.discover import cores, find_core
from nomul.errors import InputError
from nomul.files import destination
from nomul.formats.checkpoint import Checkpoint
from nomul.formats.inspection import KINDS, MixedCheckpoint, Survey, open_any, open_model, survey
from nomul.formats.int4 import Int4Layer
from nomul.formats.int4_checkpoint import Int4Checkpoint
from nomul.model.integer import Positions
from nomul.model.store import from_hugging_face, save_copy
from nomul.model.tokenizer import find_tokenizer
from nomul.options import Output
from nomul.quantize.mixpe import lost_scales, scale_width


@click.command("import")
@click.argument("source", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=Output(file=True), help="Write the dense file here.")
@console.json_option
def command(source: Path, output: Path | None, as_json: bool) -> None:
    """Read MODEL, every weight of it, and say what it holds and what Nomul does not support.

    MODEL is a GGUF file, or the directory of a Hugging Face model: it has config.json and safetensors files of a BitNet
    model (packed, or float master weights), or of a GPTQ, AWQ or compressed-tensors INT4 model. With -o, a ternary
    model is written as one dense file, with its tokenizer, if Nomul knows what its every setting means.
    """
    if output is not None:
        destination(output)
    found = survey(source, kept=output is not None)
    model = open_model(source)
    if output is not None:
        _write(found, model, output)
    elif model is not None:
        with console.progress("Reading layers", len(model.layers)) as advance:
            narrow = {}
            for name in model.layers:
                layer = model.layer(name)
                if isinstance(layer, Int4Layer) and _width(found, layer) > 8:
                    narrow[name] = layer.scales
                advance()
        found = dataclasses.replace(found, notes=(*found.notes, *_scale_notes(narrow)))
    runs = _runs(found, model, output or source)
    if as_json:
        console.print_json(found.as_json() | {"output": str(output) if output else None, "runs": runs})
    else:
        _print(found, output, runs)


def _width(found: Survey, layer: Int4Layer) -> int:
    try:
        return scale_width(layer.scales)
    except InputError as error:
        raise InputError(f"{found.path}: layer {layer.name}: {error}") from None


def _scale_notes(scales: dict[str, Tensor]) -> Iterator[str]:
    """Say of layers by name what becomes of group scales that need more than 8 bits."""
    if scales:
        name = max(scales, key=lambda name: (scale_width(scales[name]), lost_scales(scales[name], 16)))
        few, many = lost_scales(scales[name], 8), scales[name].numel()
        wide = lost_scales(scales[name], 16)
        yield (
            f"{len(scales)} layers have group scales below 1/510 of the largest of their row, that is 0 in 8 bits; in "
            f"{name} these are {few} of {many}, and it needs scale_bits={scale_width(scales[name])}, which nomul check "
            f"takes by itself" + (f"; {wide} are 0 in 16 bits too" if wide else "")
        )


def _runs(
    found: Survey, model: Checkpoint | Int4Checkpoint | MixedCheckpoint | None, path: Path
) -> dict[str, str | None]:
    """Return the command that runs a layer and the one that runs the model, and why there is none for the model.

    The model is opened as that command opens it, so that what is said to run does.
    """
    layers = why = None
    if model is not None and model.layers:
        grouped = not isinstance(model, Checkpoint) or model.layer(model.layers[0]).share.startswith("group")
        engine = next(name for name in cores() if find_core(name).in_groups({})) if grouped else "ENGINE"
        layers = f"nomul check {engine} --checkpoint {path} --layer {model.layers[0]}"
    try:
        loaded = open_any(path)
        shape = from_hugging_face(loaded)
        find_tokenizer(loaded.config, loaded.files, str(path))
        command = f"nomul generate --checkpoint {path} --prompt TEXT"
        try:
            Positions.from_config(loaded.config, shape.layers, str(path))
        except InputError:
            command += " --backend float"
        return {"layer": layers, "model": command, "why_not": None}
    except InputError as error:
        why = str(error)
    return {"layer": layers, "model": None, "why_not": why}


def _write(found: Survey, model: Checkpoint | Int4Checkpoint | MixedCheckpoint | None, output: Path) -> None:
    if not isinstance(model, Checkpoint):
        raise InputError(f"{found.path} is {KINDS[found.kind]}; -o writes ternary models only")
    if output.resolve() == found.path.resolve():
        raise InputError(f"{output} is the model itself; -o needs another file")
    if found.unknown:
        raise InputError(f"{found.path} cannot be imported: {' '.join(found.unknown)}")
    with console.progress("Importing layers", len(model.layers)) as advance:
        save_copy(output, model, {}, advance)


def _print(found: Survey, output: Path | None, runs: dict[str, str | None]) -> None:
    console.stdout.print(f"{found.path}: {KINDS[found.kind]}", highlight=False, markup=False, soft_wrap=True)
    if found.architecture is not None:
        table = Table("architecture", "value")
        for name, value in dataclasses.asdict(found.architecture).items():
            table.add_row(name, f"{value}")
        for name, value in dataclasses.asdict(found.features).items():
            table.add_row(name, ", ".join(value) or "none" if isinstance(value, tuple) else f"{value}")
        console.stdout.print(table)
    shapes: dict[tuple[str, int, int], int] = {}
    for name, (n_out, n_in) in found.layers.items():
        key = (name.rpartition(".")[2], n_out, n_in)
        shapes[key] = shapes.get(key, 0) + 1
    table = Table("layers", "n_out", "n_in", "number")
    for (name, n_out, n_in), number in shapes.items():
        table.add_row(name, f"{n_out}", f"{n_in}", f"{number}")
    console.stdout.print(table)
    lines = [
        f"parameters {found.parameters:,}, ternary {found.ternary_parameters:,}, INT4 {found.int4_parameters:,}, "
        f"{found.bytes:,} bytes"
    ]
    lines += [f"Note: {note}." for note in found.notes]
    lines += [f"Not supported: {sentence}" for sentence in found.unsupported]
    lines.append(f"A layer runs by {runs['layer']}" if runs["layer"] else "It has no layer that a command runs.")
    lines.append(
        f"The model runs by {runs['model']}"
        if runs["model"]
        else f"No command runs the whole model: {runs['why_not']}."
    )
    if output is not None:
        lines.append(f"Wrote {output}, {output.stat().st_size:,} bytes")
    for line in lines:
        console.stdout.print(line, highlight=False, markup=False, soft_wrap=True)
