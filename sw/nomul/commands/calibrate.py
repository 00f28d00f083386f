"""`nomul calibrate`: the fixed-point positions of the integer model, for a ternary model that has none."""

from dataclasses import asdict
from pathlib import Path

import click
import torch

from nomul import console
from nomul.errors import InputError
from nomul.model.calibration import calibrate_on
from nomul.model.store import load_model, save_model
from nomul.model.text import encode, read_text
from nomul.options import CheckpointPath, Output


@click.command("calibrate")
@click.argument("checkpoint", type=CheckpointPath())
@click.option("--text", type=click.Path(path_type=Path), required=True, help="UTF-8 text for the ranges of values.")
@click.option("-o", "--output", type=Output(file=True), required=True, help="The checkpoint to write.")
@console.json_option
def command(checkpoint: Path, text: Path, output: Path, as_json: bool) -> None:
    """Write CHECKPOINT, a ternary character model, with the positions that integers and machines need.

    `nomul train` does the same with what it trains.
    """
    torch.set_num_threads(1)
    model, _ = load_model(checkpoint)
    if model.config.linear != "ternary":
        raise InputError(f"{checkpoint} is a {model.config.linear} model; only ternary ones run in integers")
    positions = calibrate_on(model, encode(read_text(text), model.config.characters))
    save_model(output, model, {"integer": positions.to_dict()})
    if as_json:
        console.print_json({"checkpoint": str(checkpoint), "output": str(output), "integer": asdict(positions)})
    else:
        console.stdout.print(f"{output}: written", soft_wrap=True)
