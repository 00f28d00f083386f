"""`nomul import`: what a Hugging Face model holds, and its dense file if it is a ternary one."""

import dataclasses
from pathlib import Path

import click
from rich.table import Table

from sw import console
from sw.errors import InputError
from sw.formats.checkpoint import Checkpoint, save_dense
from sw.formats.int4_checkpoint import Int4Checkpoint
from sw.formats.support import standard_tensors
from sw.formats.survey import KINDS, Survey, open_model, survey
from sw.options import Output


@click.command("import")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=Output(file=True), help="Write the dense file here.")
@console.json_option
def command(source: Path, output: Path | None, as_json: bool) -> None:
    """Read the Hugging Face model in DIR, every weight of it, and say what it holds and what Nomul does not support.

    DIR has config.json and safetensors files of a BitNet model (packed, or float master weights), or of a GPTQ or AWQ
    INT4 model. With -o, a ternary model whose every feature is supported is written as one dense file.
    """
    found = survey(source)
    model = open_model(source)
    if output is not None:
        _write(found, model, output)
    elif model is not None:
        with console.progress("Reading layers", len(model.layers)) as advance:
            for name in model.layers:
                model.layer(name)
                advance()
    if as_json:
        console.print_json(found.as_json() | {"output": str(output) if output else None})
    else:
        _print(found, output)


def _write(found: Survey, model: Checkpoint | Int4Checkpoint | None, output: Path) -> None:
    if not isinstance(model, Checkpoint):
        raise InputError(f"{found.path} is {KINDS[found.kind]}; -o writes ternary models only")
    if output.resolve() == found.path.resolve():
        raise InputError(f"{output} is the model itself; -o needs another file")
    if found.unsupported:
        raise InputError(f"{found.path} cannot be imported: {' '.join(found.unsupported)}")
    config = model.config
    if found.architecture is not None and found.kind != "nomul-dense":
        config = {"model_type": "bitnet", **dataclasses.asdict(found.architecture), "sub_norms": found.sub_norms}
    tied = bool(config.get("tie_word_embeddings"))
    with console.progress("Importing layers", len(model.layers)) as advance:
        save_dense(output, model.read_layers(advance), standard_tensors(model.tensors, tied), config)


def _print(found: Survey, output: Path | None) -> None:
    console.stdout.print(f"{found.path}: {KINDS[found.kind]}", highlight=False, markup=False, soft_wrap=True)
    if found.architecture is not None:
        table = Table("architecture", "value")
        for name, value in dataclasses.asdict(found.architecture).items():
            table.add_row(name, f"{value}")
        table.add_row("sub_norms", f"{found.sub_norms}")
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
    if output is not None:
        lines.append(f"Wrote {output}, {output.stat().st_size:,} bytes")
    for line in lines:
        console.stdout.print(line, highlight=False, markup=False, soft_wrap=True)
