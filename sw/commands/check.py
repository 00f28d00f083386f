"""`nomul check`: simulate an engine's RTL on a layer and compare every output with plain PyTorch."""

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from hw.arith.target import TARGETS
from hw.engines.contract import Mode
from sim.check import Product, check_product
from sim.runner import SIMULATORS
from sw.console import json_option, print_json, stderr, stdout
from sw.engines import configure
from sw.errors import InputError
from sw.flow.tops import BUSES
from sw.formats.checkpoint import Checkpoint, open_checkpoint
from sw.model import checkpoints
from sw.model.activations import record

__all__ = ["check_layer", "command"]

HEADS = ("lm_head", "model.embed_tokens")
"""Where a checkpoint keeps the INT8 matrix of its head, first choice first."""


def load_activations(file: Path) -> Tensor:
    """Read activations, integers [tokens, n_in], from an .npy file."""
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError):
        raise InputError(f"{file} is not an .npy file of numbers") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"{file} holds {found}; activations are integers [tokens, n_in]")
    if array.dtype == np.uint64:
        array = array.clip(max=1 << 62)
    return torch.from_numpy(array.astype(np.int64))


def choose_activations(
    path: Path, checkpoint: Checkpoint, layer: str, n_in: int, file: Path | None, tokens: int, seed: int, act_bits: int
) -> tuple[Tensor, str]:
    """Return (activations, where they come from): a file, the model's own on the sample text, or random ones."""
    if file is not None:
        return load_activations(file)[:tokens], str(file)
    if "characters" in checkpoint.config and layer in checkpoint.shapes:
        return record(path, layer, checkpoints.sample_text(), tokens).long(), "the model on the sample text"
    low = -(1 << (act_bits - 1))
    random = torch.Generator().manual_seed(seed)
    return torch.randint(low, -low, (tokens, n_in), generator=random), f"random, seed {seed}"


def find_mode(engine: str, config: Any, name: str | None) -> int:
    """Return the number of an engine's mode, the first without a name; InputError if there is none of that name."""
    names = [mode.name for mode in config.modes]
    if name is not None and name not in names:
        raise InputError(f"engine {engine} has no mode {name!r}; its modes are {', '.join(names)}")
    return 0 if name is None else names.index(name)


def choose_weights(checkpoint: Checkpoint, layer: str | None, mode: Mode) -> tuple[str, Tensor, str]:
    """Return (name, int8 weights, what was done to them) for a mode.

    A ternary layer is taken as it is, in every mode that holds ternary weights. Modes that hold more take the language
    model's head by default, or its embedding where there is no other head; it, or any other matrix of the checkpoint
    that is named, is quantised to the mode's range with one scale, as the integer model does it for INT8.
    """
    low, high = mode.weights
    ternary = (low, high) == (-1, 1)
    heads = [name for name in HEADS if f"{name}.weight" in checkpoint.tensors]
    name = layer or (heads[0] if heads and not ternary else checkpoint.layers[0])
    if ternary or name in checkpoint.shapes or f"{name}.weight" not in checkpoint.tensors:
        return name, checkpoint.layer(name).weight, "ternary, as they are"
    values = checkpoint.tensors[f"{name}.weight"].double()
    if values.ndim != 2 or values.numel() == 0:
        raise InputError(f"{name}.weight has shape {list(values.shape)}; a layer's weights are a matrix")
    levels = high if high > 1 else -low
    codes = (values * (levels / max(values.abs().max().item(), 1e-30))).round().clamp(low, high)
    return name, codes.to(torch.int8), f"quantised to {low} to {high} with one scale"


def check_layer(
    engine: str,
    config: Any,
    *,
    path: Path,
    layer: str | None,
    mode: str | None = None,
    activations: Path | None = None,
    tokens: int = 4,
    simulator: str = "verilator",
    bus: str = "stream",
    stall: float = 0.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Simulate an engine on one layer of a checkpoint; return the figures that `nomul check --json` prints."""
    checkpoint = open_checkpoint(path)
    number = find_mode(engine, config, mode)
    chosen = config.modes[number]
    name, weight, done = choose_weights(checkpoint, layer, chosen)
    vectors, source = choose_activations(
        path, checkpoint, name, weight.shape[1], activations, tokens, seed, config.act_bits
    )
    stderr.print(
        f"simulating {engine} in mode {chosen.name} on {name} with {simulator}; weights: {done}; activations: {source}",
        highlight=False,
    )
    figures = check_product(
        engine, config, Product(weight, vectors, number), simulator=simulator, bus=bus, stall=stall, seed=seed
    )
    return {"engine": engine, "mode": chosen.name, "layer": name, "weights": done, **figures}


def show(result: dict[str, Any]) -> None:
    """Print the figures of a check as a table."""
    table = Table(
        show_header=False, title=f"{result['engine']}, {result['mode']}, on {result['layer']}", title_justify="left"
    )
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows = {
        "weights": result["weights"],
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
@click.option("--layer", help="Layer of the checkpoint; by default its first, or for INT modes its head.")
@click.option("--mode", help="What to multiply, of an engine that has several modes; its first by default.")
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
    engine: str, checkpoint: Path | None, layer: str | None, mode: str | None, activations: Path | None, tokens: int,
    settings: tuple[str, ...], target: str | None, simulator: str, bus: str, stall: float, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Simulate the RTL of ENGINE on a layer and compare every output with PyTorch; exit code 1 if one differs."""
    result = check_layer(
        engine,
        configure(engine, settings, target),
        path=checkpoint or checkpoints.path(),
        layer=layer,
        mode=mode,
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
