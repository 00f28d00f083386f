"""`nomul train`: train a character model on a text, and leave its float and its integer form in one file."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from nomul import console
from nomul.errors import InputError
from nomul.files import destination
from nomul.model.calibration import calibrate_on
from nomul.model.conversion import to_grid, to_mixpe
from nomul.model.store import load_model, load_tokenizer, save_model
from nomul.model.text import read_text, split
from nomul.model.tokenizer import CharacterTokenizer
from nomul.model.training import Progress as TrainingProgress
from nomul.model.training import TrainingConfig, loss_on, train
from nomul.model.transformer import SIZES, TransformerConfig
from nomul.options import POSITIVE, Integer, Number, Output, Seed


@click.command("train")
@click.option("--text", type=click.Path(path_type=Path), required=True, help="UTF-8 text; its last 10 % validates.")
@click.option("--size", type=click.Choice(list(SIZES)), default="tiny", show_default=True)
@click.option("--kind", type=click.Choice(["ternary", "float", "bwta", "mixpe"]), default="ternary", show_default=True)
@click.option("-o", "--output", type=Output(file=True, folder=True), required=True, help="The checkpoint to write.")
@click.option(
    "--teacher", "teachers", multiple=True, type=click.Path(path_type=Path), help="Distil from it; repeatable."
)
@click.option("--steps", type=Integer(1), help="Optimiser steps.")
@click.option("--batch", type=Integer(1), help="Windows in a step.")
@click.option("--learning-rate", type=POSITIVE, help="At its peak.")
@click.option("--dropout", type=Number(0))
@click.option("--weight-decay", type=Number(0))
@click.option("--soft-share", type=Number(0, 1), help="Weight of the teachers' predictions in the loss.")
@click.option("--seed", type=Seed())
@click.option("--interval", type=Integer(1), help="Steps between evaluations; a killed run loses at most as many.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Compile the model first: slower to start, faster to run.")
@console.json_option
def command(
    text: Path,
    size: str,
    kind: str,
    output: Path,
    teachers: tuple[Path, ...],
    device: str,
    compiled: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a model. Run the same command again after an interruption, and it continues where it was.

    The running state is in OUTPUT.state until the checkpoint is written.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', but PyTorch finds no GPU; allowed here are auto and cpu")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if output.is_dir() or not destination(output).parent.is_dir():
        raise InputError(f"{output} cannot be written: it must be a file in a directory that exists")
    content = read_text(text)
    characters = "".join(sorted(set(content)))
    # A MixPE model is trained as a float one and quantised at the end.
    linear = "float" if kind == "mixpe" else kind
    tokenizer = CharacterTokenizer(characters)
    config = TransformerConfig.sized(size, len(characters), linear)
    settings = replace(
        TrainingConfig.default(size, bool(teachers)), **{name: v for name, v in given.items() if v is not None}
    )
    models = []
    for teacher in teachers:
        model, _ = load_model(teacher)
        theirs = load_tokenizer(teacher)
        if not isinstance(theirs, CharacterTokenizer) or theirs.characters != characters:
            raise InputError(f"the teacher {teacher} has other characters than {text}; it cannot teach them")
        models.append(model.to(where))
    training_part, validation_part = (tokenizer.encode(part) for part in split(content))
    begin = time.perf_counter()
    with console.progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("Training", total=settings.steps)

        def on_step(step: int, report: TrainingProgress | None) -> None:
            bar.update(task, completed=step)
            if report:
                bar.console.print(
                    f"step {report.step}: training {report.training_loss:.4f}, "
                    f"validation {report.validation_loss:.4f}, best {report.best_loss:.4f} nats a character",
                    highlight=False,
                )

        state = output.with_name(f"{output.name}.state")
        model, progress = train(
            config, settings, training_part, validation_part, state, where, models, on_step, compiled
        )
    model = model.cpu()
    extra: dict[str, Any] = {"characters": characters}
    before = None
    if kind == "mixpe":
        before = loss_on(model, validation_part)
        model = to_mixpe(model)
    elif kind != "float":
        to_grid(model)
    if kind == "ternary":
        extra["integer"] = calibrate_on(model, training_part).to_dict()
    save_model(output, model, extra)
    state.unlink()
    result = {
        "checkpoint": str(output),
        "size": size,
        "kind": kind,
        "steps": progress.step,
        "seed": settings.seed,
        "device": where.type,
        "best_validation_loss": progress.best_loss if math.isfinite(progress.best_loss) else None,
        "nats_per_char_float": loss_on(model, validation_part),
        "nats_per_char_unquantised": before,
        "bytes": output.stat().st_size,
        "seconds": round(time.perf_counter() - begin, 1),
    }
    if as_json:
        console.print_json(result)
    else:
        console.stdout.print(f"Wrote {output}: {result['nats_per_char_float']:.4f} nats a character.", highlight=False)
