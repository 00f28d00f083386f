"""`nomul check`: simulate the RTL of an engine on a layer, or of a unit, and compare every output with PyTorch."""

import sys
from pathlib import Path
from typing import Any

import click
import torch
from rich.table import Table
from torch import Tensor

from hw.arith.target import TARGETS
from hw.units import UNITS
from sim.check import Product, check_product
from sim.runner import SIMULATORS
from sw.commands.check_unit import check_random, finish_unit, load_activations
from sw.console import json_option, print_json, stderr, stdout
from sw.engines import configure
from sw.errors import InputError
from sw.flow.tops import BUSES
from sw.formats import fp16
from sw.formats.checkpoint import Checkpoint, open_checkpoint
from sw.model import checkpoints
from sw.model.activations import record

__all__ = ["check_layer", "command"]


def choose_activations(
    path: Path, checkpoint: Checkpoint, layer: str, file: Path | None, tokens: int, seed: int, act_bits: int
) -> tuple[Tensor, str]:
    """Return (activations, where they come from): a file, the model's own on the sample text, or random ones."""
    if file is not None:
        return load_activations(file)[:tokens], str(file)
    if "characters" in checkpoint.config:
        return record(path, layer, checkpoints.sample_text(), tokens).long(), "the model on the sample text"
    n_in = checkpoint.layer(layer).n_in
    low = -(1 << (act_bits - 1))
    random = torch.Generator().manual_seed(seed)
    return torch.randint(low, -low, (tokens, n_in), generator=random), f"random, seed {seed}"


def check_layer(
    engine: str,
    config: Any,
    *,
    path: Path,
    layer: str | None,
    activations: Path | None = None,
    tokens: int = 4,
    simulator: str = "verilator",
    bus: str = "stream",
    stall: float = 0.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Simulate an engine on one layer of a checkpoint; return the figures that `nomul check --json` prints."""
    checkpoint = open_checkpoint(path)
    name = layer or checkpoint.layers[0]
    weight = checkpoint.layer(name).weight
    vectors, source = choose_activations(path, checkpoint, name, activations, tokens, seed, config.act_bits)
    said = config.modes[0]
    if said.weight_format == "fp16":
        weight = fp16.to_words(weight)
    if said.activation_format == "fp16":
        vectors = fp16.to_words(vectors)
    stderr.print(f"simulating {engine} on {name} with {simulator}; activations: {source}", highlight=False)
    figures = check_product(
        engine, config, Product(weight, vectors), simulator=simulator, bus=bus, stall=stall, seed=seed
    )
    return {"engine": engine, "layer": name, **figures}


def show(result: dict[str, Any]) -> None:
    """Print the figures of a check as a table."""
    table = Table(show_header=False, title=f"{result['engine']} on {result['layer']}", title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows = {
        "matrix": f"{result['n_out']} x {result['n_in']}, {result['tokens']} tokens",
        "outputs compared": f"{result['outputs']:,}",
        "mismatches": f"{result['mismatches']:,}",
        "cycles (model)": f"{result['cycles']:,} ({result['model_cycles']:,})",
        "MAC per cycle (peak)": f"{result['macs'] / max(1, result['cycles']):,.1f} ({result['macs_per_cycle_peak']:,})",
        "utilisation": f"{result['utilization']:.1%}",
        "seed": str(result["seed"]),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    stdout.print(table)
    if result["first_mismatch"]:
        first = result["first_mismatch"]
        stdout.print(
            f"first difference: token {first['token']}, row {first['row']}, tile {first['tile']}: "
            f"expected {first['expected']}, got {first['got']}; replay with --seed {result['seed']}",
            highlight=False,
        )


@click.command()
@click.argument("engine")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights; the committed tiny model by default.")
@click.option("--layer", help="Layer of the checkpoint; its first by default.")
@click.option("--activations", type=click.Path(path_type=Path), help=".npy file, integers [tokens, n_in].")
@click.option("--tokens", default=4, show_default=True, type=click.IntRange(1), help="Vectors to multiply.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be repeated.")
@click.option("--target", type=click.Choice(TARGETS), help="Technology whose arithmetic forms are used.")
@click.option("--sim", "simulator", type=click.Choice(SIMULATORS), default=SIMULATORS[0], show_default=True)
@click.option("--bus", type=click.Choice(BUSES), default=BUSES[0], show_default=True)
@click.option("--stall", default=0.0, show_default=True, type=click.FloatRange(0, 0.9), help="Chance of a wait.")
@click.option("--seed", default=0, show_default=True, help="Of stalls and random activations.")
@json_option
def command(
    engine: str, checkpoint: Path | None, layer: str | None, activations: Path | None, tokens: int,
    settings: tuple[str, ...], target: str | None, simulator: str, bus: str, stall: float, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Simulate the RTL of ENGINE on a layer and compare every output with PyTorch; exit code 1 if one differs.

    ENGINE may also be a unit. It runs random jobs, `--tokens` of them, with extremes and ties among them; absmax
    quantises the vectors of `--activations` instead where they are given.
    """
    config = configure(engine, settings, target)
    if engine in UNITS:
        for name, value in (("--checkpoint", checkpoint), ("--layer", layer)):
            if value is not None:
                raise InputError(f"{name} is {str(value)!r}, but {engine} is a unit and has no weights; leave it out")
        finish_unit(check_random(engine, config, activations, tokens, simulator, bus, stall, seed), as_json)
        return
    result = check_layer(
        engine,
        config,
        path=checkpoint or checkpoints.path(),
        layer=layer,
        activations=activations,
        tokens=tokens,
        simulator=simulator,
        bus=bus,
        stall=stall,
        seed=seed,
    )
    if as_json:
        print_json(result)
    else:
        show(result)
    if result["mismatches"]:
        sys.exit(1)
