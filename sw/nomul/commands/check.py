"""`nomul check`: simulate the RTL of an engine on a layer, or of a unit, and compare every output with PyTorch."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from nomul.arith.target import TARGETS
from nomul.catalog import choose_variant, configure
from nomul.commands.check_common import check_random, finish_unit, show_differences
from nomul.commands.check_grouped import check_grouped
from nomul.commands.operands import choose_operands
from nomul.console import json_option, print_json, stderr, stdout
from nomul.cores.discover import find_core
from nomul.engines.matmul import TOKENS_MAX
from nomul.errors import InputError
from nomul.flow.tops import BUSES
from nomul.model import checkpoints
from nomul.options import CheckpointPath, Integer, Number, Output, Seed
from nomul.sim.check import Product, check_product
from nomul.sim.runner import SIMULATORS

__all__ = ["check_layer", "command"]


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
    waves: Path | None = None,
) -> dict[str, Any]:
    """Simulate an engine on one layer of a checkpoint; return the figures that `nomul check --json` prints."""
    found = choose_operands(engine, config, path, layer, mode, activations, tokens, seed)
    name = config.modes[found.mode].name
    stderr.print(
        f"simulating {engine} in mode {name} on {found.layer} with {simulator}; weights: {found.weight_source}; "
        f"activations: {found.activation_source}",
        highlight=False,
    )
    product = Product(found.weight, found.activations, found.mode)
    options: dict[str, Any] = {"simulator": simulator, "bus": bus, "stall": stall, "seed": seed, "waves": waves}
    figures = check_product(engine, config, product, **options)
    return {"engine": engine, "mode": name, "layer": found.layer, "weights": found.weight_source, **figures}


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
    if "scales_lost" in result:
        rows["group scales"] = (
            f"{result['group_scales']:,}, {result['scale_bits']} bits, {result['scales_lost']:,} lost"
        )
    for name, value in rows.items():
        table.add_row(name, value)
    stdout.print(table)
    show_differences(result, ("token", "row", "tile"))


@click.command()
@click.argument("engine")
@click.option("--checkpoint", type=CheckpointPath(), help="Weights; a committed tiny model by default.")
@click.option(
    "--layer",
    help="Layer, by default the first, or for INT modes the head; or LAYER.self_attn.scores or .values.",
)
@click.option("--mode", help="What to multiply, of an engine that has several modes; its first by default.")
@click.option("--activations", type=click.Path(path_type=Path), help=".npy file, integers [tokens, n_in].")
@click.option("--tokens", default=4, show_default=True, type=Integer(1, TOKENS_MAX), help="Vectors to multiply.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be repeated.")
@click.option("--target", type=click.Choice(TARGETS), help="Technology whose arithmetic forms are used.")
@click.option("--sim", "simulator", type=click.Choice(SIMULATORS), default=SIMULATORS[0], show_default=True)
@click.option("--bus", type=click.Choice(BUSES), default=BUSES[0], show_default=True)
@click.option("--stall", default=0.0, show_default=True, type=Number(0, 0.9), help="Chance of a wait.")
@click.option("--seed", default=0, show_default=True, type=Seed(), help="Of stalls and random activations.")
@click.option("--waves", type=Output(file=True), metavar="FILE.vcd", help="Write every signal's values.")
@json_option
def command(
    engine: str, checkpoint: Path | None, layer: str | None, mode: str | None, activations: Path | None, tokens: int,
    settings: tuple[str, ...], target: str | None, simulator: str, bus: str, stall: float, seed: int,
    waves: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Simulate the RTL of ENGINE on a layer and compare every output with PyTorch; exit code 1 if one differs.

    Then the first differences of several rows are listed, and a folder is kept with the design, the operands (.npy) and
    the streams (.hex).

    ENGINE may also be a unit. It runs random jobs, `--tokens` of them, with extremes and ties among them; absmax
    quantises the vectors of `--activations` instead where they are given.
    """
    options: dict[str, Any] = {
        "layer": layer, "mode": mode, "activations": activations, "tokens": tokens, "simulator": simulator, "bus": bus,
        "stall": stall, "seed": seed, "waves": waves,
    }  # fmt: skip
    engine, settings, form = choose_variant(engine, settings)
    core = find_core(engine)
    if core.grouped and form.get("weight", "int4") == "int4":
        _finish(check_grouped(engine, settings, target, path=checkpoint, **options), as_json)
        return
    config = configure(engine, settings, target)
    if not core.multiplies:
        for name, value in (("--checkpoint", checkpoint), ("--layer", layer), ("--mode", mode)):
            if value is not None:
                what = "modes" if name == "--mode" else "weights"
                raise InputError(f"{name} is {str(value)!r}, but {engine} is a unit and has no {what}; leave it out")
        finish_unit(check_random(engine, config, activations, tokens, simulator, bus, stall, seed, waves), as_json)
        return
    _finish(check_layer(engine, config, path=checkpoint or checkpoints.path(), **options), as_json)


def _finish(result: dict[str, Any], as_json: bool) -> None:
    """Print a result; exit with 1 if something differed."""
    if as_json:
        print_json(result)
    else:
        show(result)
    if result["mismatches"]:
        sys.exit(1)
