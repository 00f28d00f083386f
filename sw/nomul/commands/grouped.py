"""Weights in groups for `nomul check` and `nomul pack`: a layer of a MixPE model, or of a checkpoint of INT4 layers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from nomul.catalog import configure, parse_setting
from nomul.commands.operands import find_mode
from nomul.commands.wanted import Named, Wanted
from nomul.console import stderr
from nomul.cores.discover import find_core
from nomul.errors import InputError
from nomul.formats import fp16
from nomul.formats.checkpoint import OpenCheckpoint, open_checkpoint, suggest
from nomul.formats.container import open_container
from nomul.formats.gguf_model import GgufModel
from nomul.formats.int4 import Int4Layer
from nomul.formats.int4_checkpoint import int4_layers, open_int4
from nomul.formats.mixpe import GroupQuantized
from nomul.formats.ternary import TernaryLayer
from nomul.model import checkpoints
from nomul.model.activations import record
from nomul.model.store import linears, load_model
from nomul.quantize.mixpe import from_int4, from_ternary, lost_scales, quantise, scale_width
from nomul.sim.product import Product

__all__ = ["Grouped", "choose_grouped", "grouped_product", "read_grouped"]


Scaled = TypeVar("Scaled", TernaryLayer, Int4Layer)


@dataclass(frozen=True, eq=False)
class Grouped:
    """A layer in groups: its name, its integers, and what became of its real scales."""

    name: str
    operands: GroupQuantized
    speaks: bool
    """Whether the checkpoint is a model that can say the layer's inputs."""

    scale_bits: int
    """Width of the integer scales."""

    lost: int
    """How many group scales became 0 without being 0."""


def read_grouped(path: Path, layer: str | None, scale_bits: int | None = None) -> Grouped:
    """Read a layer; its integer scales are as wide as it needs (`scale_width`) if `scale_bits` is not given.

    Raises `InputError` if the checkpoint has no weights in groups, or no such layer.
    """
    container = open_container(path)
    int4, both = int4_layers(container), isinstance(container, GgufModel) and bool(container.ternary)
    if int4 and not (both and layer not in (None, *int4)):
        packed = open_int4(path)
        return _quantised(packed, packed.layer(packed.layers[0] if layer is None else layer), scale_bits, from_int4)
    ternary = open_checkpoint(path)
    named = layer or next(iter(ternary.layers), "")
    found = ternary.layer(named) if named in ternary.shapes else None
    if found is not None and not found.uniform:
        return _quantised(ternary, found, scale_bits, from_ternary)
    model, _ = load_model(path)
    if model.config.linear != "mixpe":
        raise InputError(
            f"{path} is a {model.config.linear} model, without weights in groups; give a checkpoint of INT4 or "
            f"of ternary weights with scales by group or row, or one of 'nomul train --kind mixpe'"
        )
    layers = linears(model)
    name = next(iter(layers)) if layer is None else layer
    if name not in layers:
        raise InputError(f"{path} has no layer {name!r}; {suggest(name, list(layers))}")
    grouped = layers[name].grouped
    assert grouped is not None
    return Grouped(name, grouped.operands(), True, 8 if scale_bits is None else scale_bits, 0)


def _quantised(
    checkpoint: OpenCheckpoint[Scaled],
    layer: Scaled,
    scale_bits: int | None,
    quantised: Callable[[Scaled, int], tuple[GroupQuantized, Tensor]],
) -> Grouped:
    """Return a layer of a checkpoint, whose scales are real, with integer ones."""
    for note in checkpoint.notes:
        stderr.print(note, highlight=False)
    scales = layer.scales
    try:
        bits = scale_width(scales) if scale_bits is None else scale_bits
        operands, _ = quantised(layer, bits)
        lost = lost_scales(scales, bits)
    except InputError as error:
        raise InputError(f"{checkpoint.path}: layer {layer.name}: {error}") from None
    if lost:
        what = f"{lost} of {scales.numel()} group scales are 0 in {bits} bits, so far below the largest of their row"
        stderr.print(what, highlight=False)
    return Grouped(layer.name, operands, False, bits, lost)


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
    return Product(GroupQuantized(codes.codes + bias, zeros, scales, codes.group), vectors)


def choose_grouped(named: Named, wanted: Wanted) -> tuple[Grouped, Any, Product, str]:
    """Return (what was read, configuration, product, where its vectors come from) of a layer in groups.

    What the layer needs (`Core.group_fields`) is the layer's, unless settings say otherwise.
    """
    path = wanted.checkpoint or checkpoints.path("tiny_mixpe")
    given = dict(parse_setting(named.engine, setting) for setting in named.settings)
    grouped = read_grouped(path, wanted.layer, given.get("scale_bits"))
    operands, group_fields = grouped.operands, find_core(named.engine).group_fields
    assert group_fields is not None
    found = [f"{name}={value}" for name, value in group_fields(operands, grouped.scale_bits, given).items()]
    config = configure(named.engine, [*found, *named.settings], named.target)
    number = find_mode(named.engine, config, wanted.mode)
    most = 1 << (config.act_bits - 1)
    vectors, source = wanted.vectors.choose(path, grouped.name, grouped.speaks, operands.shape[1], range(-most, most))
    if config.modes[number].activation_format == "fp16":
        vectors, source = fp16.to_words(vectors), f"{source}, in FP16"
    return grouped, config, Product(operands, vectors, number), source
