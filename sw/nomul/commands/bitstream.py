"""`nomul bitstream`: the file that a board loads, with a language model or an engine in it."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch
from rich.table import Table

from nomul import console
from nomul.accelerator_image import hex_files
from nomul.board_designs import (
    board_design,
    engine_design,
    find_board,
    machine_for,
    machine_top,
    model_number,
    open_model,
    refuse_too_large,
)
from nomul.errors import InputError
from nomul.files import write_atomically
from nomul.fpga.bitstream import RESOURCES, Bitstream, make_bitstream
from nomul.model import checkpoints
from nomul.options import CheckpointPath, Integer, Output, bundle

BUILD = Path("build/bitstreams")


@dataclasses.dataclass(frozen=True)
class Placing:
    """How place and route is done."""

    seeds: tuple[int, ...]
    every_seed: bool
    allow_timing_fail: bool


@click.command("bitstream")
@click.argument("board", metavar="BOARD")
@click.option("--checkpoint", type=CheckpointPath(), help="A character model; 'tiny' if absent.")
@click.option("--engine", help="An engine in place of a model; the board's own if absent and it takes no model.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the engine.")
@bundle(
    "placing",
    Placing,
    click.option(
        "--seed",
        "seeds",
        type=Integer(0, (1 << 31) - 1),
        multiple=True,
        help="Of the placer; 1, 2, 3 in turn if absent.",
    ),
    click.option("--every-seed", is_flag=True, help="Run all seeds, also after one that is fast enough."),
    click.option("--allow-timing-fail", is_flag=True, help="Write a bitstream that is too slow for its clock."),
)
@click.option("-o", "--output", type=Output(file=True), help="File to write.")
@console.json_option
def command(
    board: str,
    checkpoint: Path | None,
    engine: str | None,
    settings: tuple[str, ...],
    placing: Placing,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make the bitstream of a board, and say what it takes, how fast it is and how to load it."""
    torch.set_num_threads(1)
    chosen = find_board(board)
    if checkpoint is not None and (engine or settings):
        raise InputError("a bitstream holds a language model or an engine: give --checkpoint, or --engine and --set")
    files: dict[str, str] = {}
    if engine or settings or (checkpoint is None and chosen.machine is None):
        design = engine_design(chosen, engine, settings)
        name, top = design.name, design.top()
        held: dict[str, Any] = {"engine": name, "config": dataclasses.asdict(design.config)}
    else:
        path = checkpoint or checkpoints.path()
        model, characters = open_model(path)
        machine = machine_for(chosen, model)
        refuse_too_large(chosen, machine, path.stem)
        top = machine_top(chosen, machine, model_number(path), characters)
        name, held = path.stem, {"checkpoint": str(path)}
        files = {f"{image}.hex": text for image, text in hex_files(model, machine).items()}
    result = make_bitstream(
        board_design(chosen, top, files),
        seeds=placing.seeds or (1, 2, 3),
        allow_timing_fail=placing.allow_timing_fail,
        every_seed=placing.every_seed,
        say=lambda message: console.stderr.print(message, highlight=False),
    )
    file = output or BUILD / f"{chosen.name}-{name}{chosen.suffix}"
    write_atomically(file, result.data)
    load = chosen.loader.format(file=file)
    used = {name: getattr(result.synthesis, name) for name in RESOURCES if chosen.budget.get(name)}
    if as_json:
        console.print_json(
            {
                "board": chosen.name,
                **held,
                "file": str(file),
                "bytes": len(result.data),
                "load": load,
                "used": used,
                "available": dict(chosen.budget),
                "runs": [dataclasses.asdict(run) | {"met": run.met} for run in result.runs],
                "synthesis_seconds": result.synthesis.seconds,
            }
        )
        return
    _show(chosen.title, result, used, dict(chosen.budget))
    console.stdout.print(f"{file}: load it with\n    {load}", highlight=False, soft_wrap=True)


def _show(title: str, result: Bitstream, used: dict[str, float], budget: dict[str, int]) -> None:
    """Print what the chip has left, and how fast the design is."""
    table = Table(title=title)
    for column in ("resource", "used", "of", "%"):
        table.add_column(column, justify="left" if column == "resource" else "right")
    for name, count in used.items():
        table.add_row(RESOURCES[name], f"{count:g}", str(budget[name]), f"{100 * count / budget[name]:.1f}")
    console.stdout.print(table)
    for run in result.runs:
        verdict = "met" if run.met else "MISSED"
        console.stdout.print(
            f"seed {run.seed}: {run.achieved_mhz:.1f} MHz, clock {run.wanted_mhz:g} MHz: {verdict}", highlight=False
        )
