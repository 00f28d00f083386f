"""`nomul convert`: ternary weights from the Hugging Face BitNet layout to the dense file, and back."""

from pathlib import Path

import click

from nomul import console
from nomul.errors import InputError
from nomul.formats.checkpoint import open_checkpoint, save_dense
from nomul.formats.companions import notes_beside
from nomul.formats.container import open_container
from nomul.formats.huggingface import save_bitnet, without_direction
from nomul.formats.int4_checkpoint import int4_layers
from nomul.options import CheckpointPath, Output


@click.command("convert")
@click.argument("source", type=CheckpointPath())
@click.argument("dest", type=Output(file=True, folder=True))
@console.json_option
def command(source: Path, dest: Path, as_json: bool) -> None:
    """Convert the ternary weights of SOURCE into the other layout, at DEST.

    A dense file becomes a Hugging Face BitNet directory; a BitNet file or directory becomes a dense file. Ternary
    weights, all other tensors and the tokenizer stay the same; scales become factors that multiply.
    """
    container = open_container(source)
    if int4_layers(container):
        raise InputError(f"{source} holds INT4 layers; nomul convert is for ternary ones")
    checkpoint = open_checkpoint(source)
    if not checkpoint.layers:
        raise InputError(f"{source} has no ternary layers, so that there is nothing to convert")
    config = without_direction(checkpoint.config)
    notes = (*checkpoint.notes, *notes_beside(container, kept=True))
    to_dense = checkpoint.kind != "nomul-dense"
    if to_dense and (dest.is_dir() or dest.resolve() == source.resolve()):
        what = "a directory" if dest.is_dir() else "the source itself"
        raise InputError(f"{dest} is {what}; the dense form of {source} is a file of its own")
    save = save_dense if to_dense else save_bitnet
    with console.progress(f"Converting {source.name}", len(checkpoint.layers)) as advance:
        save(dest, checkpoint.read_layers(advance), checkpoint.tensors, config, checkpoint.files)
    written = [dest] if to_dense else list(dest.iterdir())
    result = {
        "source": str(source),
        "source_kind": checkpoint.kind,
        "destination": str(dest),
        "destination_kind": "nomul-dense" if to_dense else "bitnet",
        "layers": len(checkpoint.layers),
        "ternary_parameters": sum(n_out * n_in for n_out, n_in in checkpoint.shapes.values()),
        "bytes": sum(file.stat().st_size for file in written),
        "notes": list(notes),
    }
    if as_json:
        console.print_json(result)
        return
    for note in notes:
        console.stdout.print(f"Note: {note}.", highlight=False, markup=False)
    console.stdout.print(
        f"Wrote {result['layers']} layers ({result['ternary_parameters']:,} ternary weights) "
        f"as {result['destination_kind']} to {dest}, {result['bytes']:,} bytes.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
