"""Weights in groups for `nomul check`: a layer of a MixPE model, or of a GPTQ or AWQ checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sim.check import Product, check_product
from sw.commands.check_unit import load_activations
from sw.console import stderr
from sw.engines import configure
from sw.errors import InputError
from sw.formats.checkpoint import suggest
from sw.formats.container import open_container
from sw.formats.int4_checkpoint import int4_layers, open_int4
from sw.formats.mixpe import Operands
from sw.model import checkpoints
from sw.model.activations import record
from sw.model.store import linears, load_model
from sw.quantize.mixpe import from_int4, quantise

__all__ = ["check_grouped", "choose_grouped", "grouped_product", "read_grouped"]


def read_grouped(path: Path, layer: str | None, scale_bits: int) -> tuple[str, Operands, bool]:
    """Return (name, integers, whether the checkpoint is a model that can say the layer's inputs).

    Raises `InputError` if the checkpoint has no weights in groups, or no such layer.
    """
    if int4_layers(open_container(path)):
        checkpoint = open_int4(path)
        for note in checkpoint.notes:
            stderr.print(note, highlight=False)
        name = layer or checkpoint.layers[0]
        try:
            operands, _ = from_int4(checkpoint.layer(name), scale_bits)
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: layer {name}: {error}") from None
        return name, operands, False
    model, _ = load_model(path)
    if model.config.linear != "mixpe":
        raise InputError(
            f"{path} is a {model.config.linear} model, without weights in groups; give a GPTQ or AWQ checkpoint or one "
            f"of 'nomul train --kind mixpe'"
        )
    layers = linears(model)
    name = layer or next(iter(layers))
    if name not in layers:
        raise InputError(f"{path} has no layer {name!r}; {suggest(name, list(layers))}")
    grouped = layers[name].grouped
    assert grouped is not None
    return name, grouped.operands(), True


def grouped_product(config: Any, tokens: int, *, whole: bool) -> Product:
    """Return a layer of the committed MixPE model, in groups of a configuration, and vectors that the model gives it.

    The vectors are cut to whole groups, so that no step is padding. With `whole`, the same weights are INT8 under one
    scale.
    """
    path = checkpoints.path("tiny_mixpe")
    model, _ = load_model(path)
    name, layer = next((name, layer) for name, layer in linears(model).items() if name.endswith("down_proj"))
    assert layer.grouped is not None
    real = layer.grouped.dequantise()
    width = min(real.shape[1], config.n_in_max)
    width = width // config.group * config.group if 0 < config.group <= width else width
    rows = min(real.shape[0], config.n_out_max)
    real = real[:rows, :width]
    vectors = record(path, name, checkpoints.sample_text(), tokens).long()[:, :width]
    if whole:
        return Product((real * (127 / real.abs().max())).round().to(torch.int8), vectors)
    codes = quantise(real, config.group or width)
    scales = codes.group_scales.long() >> max(0, 8 - config.scale_bits)
    bias = 0 if config.codes == "signed" else 8
    zeros = torch.full_like(scales, bias)
    return Product(Operands(codes.codes + bias, zeros, scales, codes.group), vectors)


def choose_grouped(
    engine: str,
    settings: Sequence[str],
    target: str | None,
    *,
    path: Path | None,
    layer: str | None,
    activations: Path | None,
    tokens: int,
    seed: int,
) -> tuple[str, Any, Product, str]:
    """Return (layer, configuration, product, where its vectors come from) of a layer in groups.

    The engine's group and codes are the layer's, unless settings say otherwise.
    """
    scale_bits = configure(engine, ["group=0", *settings], target).scale_bits
    path = path or checkpoints.path("tiny_mixpe")
    name, operands, speaks = read_grouped(path, layer, scale_bits)
    signed = int(operands.codes.min()) < 0 or int(operands.zeros.min()) < 0
    group = 0 if operands.group >= operands.shape[1] else operands.group
    found = [f"group={group}", f"codes={'signed' if signed else 'unsigned'}"]
    config = configure(engine, [*found, *settings], target)
    if activations is not None:
        vectors, source = load_activations(activations)[:tokens], str(activations)
    elif speaks:
        vectors, source = record(path, name, checkpoints.sample_text(), tokens).long(), "the model on the sample text"
    else:
        most = 1 << (config.act_bits - 1)
        random = torch.Generator().manual_seed(seed)
        vectors = torch.randint(-most, most, (tokens, operands.shape[1]), generator=random)
        source = f"random, seed {seed}"
    return name, config, Product(operands, vectors), source


def check_grouped(
    engine: str, settings: Sequence[str], target: str | None, *, simulator: str, bus: str, stall: float, **choice: Any
) -> dict[str, Any]:
    """Simulate an engine on one layer in groups; return the figures that `nomul check --json` prints.

    What `choose_grouped` takes, `choice` says.
    """
    name, config, product, source = choose_grouped(engine, settings, target, **choice)
    stderr.print(f"simulating {engine} on {name} with {simulator}; activations: {source}", highlight=False)
    seed = choice["seed"]
    figures = check_product(engine, config, product, simulator=simulator, bus=bus, stall=stall, seed=seed)
    return {"engine": engine, "layer": name, "group": product.weight.group, **figures}
