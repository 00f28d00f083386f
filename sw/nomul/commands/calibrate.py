"""`nomul calibrate`: the fixed-point positions of the integer model, for a ternary model that has none."""

from dataclasses import asdict
from pathlib import Path

import click
import torch

from nomul import console
from nomul.errors import InputError
from nomul.formats.checkpoint import Checkpoint
from nomul.formats.inspection import open_model
from nomul.model import checkpoints
from nomul.model.calibration import calibrate_on
from nomul.model.store import load_model, load_tokenizer, save_copy
from nomul.model.text import read_text
from nomul.options import CheckpointPath, Output


@click.command("calibrate")
@click.argument("checkpoint", type=CheckpointPath())
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 text for the ranges; a committed one by default.")
@click.option("--rows", is_flag=True, help="Give embedding and head a scale for each row, not one for the matrix.")
@click.option("-o", "--output", type=Output(file=True), required=True, help="The checkpoint to write.")
@console.json_option
def command(checkpoint: Path, text: Path | None, rows: bool, output: Path, as_json: bool) -> None:
    """Write CHECKPOINT, a ternary model, as one file with the positions that integers and machines need.

    Its tokenizer goes with it. `nomul train` does the same with what it trains.
    """
    torch.set_num_threads(1)
    model, _ = load_model(checkpoint)
    source = open_model(checkpoint)
    if model.config.linear != "ternary" or not isinstance(source, Checkpoint):
        raise InputError(f"{checkpoint} is a {model.config.linear} model; only ternary ones run in integers")
    content = checkpoints.sample_text() if text is None else read_text(text)
    positions = calibrate_on(model, load_tokenizer(checkpoint).encode(content), rows)
    with console.progress("Writing layers", len(source.layers)) as advance:
        save_copy(output, source, {"integer": positions.to_dict()}, advance)
    if as_json:
        console.print_json({"checkpoint": str(checkpoint), "output": str(output), "integer": asdict(positions)})
    else:
        console.stdout.print(f"{output}: written", soft_wrap=True)
