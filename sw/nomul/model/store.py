"""Models as files: what readers of weights return becomes a model; a trained one, Nomul's dense file.

The configuration of our own files has entries that config.json does not know: `characters` (the tokens), `linear` (the
arithmetic of the projections), `activations`, `grids`, and, once calibrated, `integer` (the fixed-point positions of
the integer model).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.architecture import Architecture, is_bitnet, rope
from nomul.formats.checkpoint import Checkpoint, OpenCheckpoint, save_dense
from nomul.formats.huggingface import transformers_config, without_direction
from nomul.formats.inspection import open_any
from nomul.formats.rotary import Rotary
from nomul.formats.settings import unsupported_settings
from nomul.formats.support import features, standard_name, standard_tensors
from nomul.formats.ternary import TernaryLayer
from nomul.model.tokenizer import Tokenizer, find_tokenizer
from nomul.model.transformer import LINEARS, Linear, Transformer, TransformerConfig, rope_tables
from nomul.quantize.mixpe import PARTS, GroupedLayer

CODED = ("ternary", "bwta", "int4")
"""Kinds of projection whose codes a checkpoint has as layers."""

LINEAR_OF = {"nomul-dense": "ternary", "bitnet": "ternary", "bitnet-master": "ternary", "float": "float"}
"""Arithmetic of the projections by kind of checkpoint, where its config does not say; others are INT4."""


def to_hugging_face(config: TransformerConfig) -> dict[str, Any]:
    """Return the configuration as config.json names it, with our own entries."""
    return {
        "model_type": "bitnet" if config.sub_norms else "qwen3" if config.qk_norm else "llama",
        "hidden_size": config.width,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "rope_theta": config.rotary.theta,
        "rms_norm_eps": config.eps,
        "hidden_act": config.activation,
        "tie_word_embeddings": config.tied,
        "linear": config.linear,
        **({} if config.rotary.kind == "default" else {"rope_scaling": config.rotary.stored()}),
        **({} if config.activations == "int8" else {"activations": config.activations}),
        **({} if config.grids else {"grids": False}),
    }


def from_hugging_face(checkpoint: OpenCheckpoint[Any]) -> TransformerConfig:
    """Read the configuration of a checkpoint; raise `InputError` that names what this model cannot be."""
    config = checkpoint.config
    try:
        linear = config.get("linear") or LINEAR_OF.get(checkpoint.kind, "int4")
        if linear not in LINEARS:
            raise InputError(f"linear is {linear!r}, which is not supported; it must be one of {', '.join(LINEARS)}")
        if "hidden_size" not in config:
            raise InputError("there is no config.json with an architecture, so that it is no whole model")
        shape = Architecture.from_config(config)
        has = features(shape, checkpoint.tensors)
        characters = config.get("characters")
        if isinstance(characters, str) and shape.vocab_size != len(characters):
            raise InputError(f"vocab_size is {shape.vocab_size}, but 'characters' names {len(characters)}")
        for sentence in unsupported_settings(config, shape):
            raise InputError(f"{sentence[0].lower()}{sentence[1:-1]}")
        coded = "int8" if checkpoint.kind == "nomul-dense" or is_bitnet(config) else "float"
        return TransformerConfig(
            vocabulary=shape.vocab_size,
            width=shape.hidden_size,
            layers=shape.num_hidden_layers,
            heads=shape.num_attention_heads,
            kv_heads=shape.num_key_value_heads,
            head_dim=shape.head_dim,
            ffn=shape.intermediate_size,
            context=shape.max_position_embeddings,
            rotary=Rotary.read(rope(config), shape.rope_theta, shape.max_position_embeddings),
            eps=shape.rms_norm_eps,
            activation=shape.hidden_act,
            linear=linear,
            tied=shape.tie_word_embeddings,
            activations=config.get("activations", coded),
            grids=config.get("grids", "linear" in config),
            sub_norms=has.sub_norms,
            qk_norm=has.qk_norm,
            biases=has.biases,
        )
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from None


def linears(model: Transformer) -> dict[str, Linear]:
    """Return the projections of the decoder layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear) and name != "lm_head"}


@torch.no_grad()
def save_model(path: Path, model: Transformer, extra: dict[str, Any] | None = None) -> bool:
    """Write a model as one file, atomically; `extra` is added to its configuration. True if the file changed."""
    config = model.config
    coded = {f"{name}.weight" for name in linears(model)} if config.linear != "float" else set()
    tensors = {name: value.cpu() for name, value in model.state_dict().items() if name not in coded}
    layers: list[TernaryLayer] = []
    for name, module in linears(model).items():
        if config.linear == "float":
            continue
        if module.ternary is not None:
            layers.append(module.ternary)
            continue
        codes, scale = module.quantised()
        if config.linear == "mixpe":
            assert module.grouped is not None
            tensors |= {f"{name}.{part}": value for part, value in module.grouped.stored().items()}
        elif scale is not None:
            layers.append(TernaryLayer(name, codes.round().to(torch.int8).cpu(), scale.item()))
    if model.lm_head is None:
        tensors.pop("lm_head.weight", None)
    return save_dense(path, layers, tensors, to_hugging_face(config) | (extra or {}))


def save_copy(
    path: Path, checkpoint: Checkpoint, extra: dict[str, Any], advance: Callable[[], None] = lambda: None
) -> bool:
    """Write a ternary checkpoint as one dense file with its tokenizer; `extra` is added to its configuration.

    Nothing is computed anew: codes, scales and tensors are the checkpoint's. `advance` is called after each layer. True
    if the file changed.
    """
    config = checkpoint.config
    tied = bool(config.get("tie_word_embeddings"))
    if checkpoint.kind != "nomul-dense" and "hidden_size" in config:
        ours = {"activations": "int8" if is_bitnet(config) else "float", "grids": False}
        config = transformers_config(without_direction(config), checkpoint.tensors) | ours
    tensors = standard_tensors(checkpoint.tensors, tied)
    return save_dense(path, checkpoint.read_layers(advance), tensors, config | extra, checkpoint.files)


def load_model(path: Path) -> tuple[Transformer, dict[str, Any]]:
    """Read a model, ready to run, and its whole configuration.

    Nothing is set aside for a weight that a checkpoint has as codes. Raises `InputError` if the file is no checkpoint
    of a decoder, or if its tensors do not fit its config.
    """
    checkpoint = open_any(path)
    config = from_hugging_face(checkpoint)
    with torch.device("meta"):
        model = Transformer(config)
    model.cos, model.sin = rope_tables(config)
    projections = linears(model)
    if config.linear in CODED:
        _check_layers(checkpoint, projections)
        for name, module in projections.items():
            _freeze(checkpoint, name, module)
    elif config.linear == "mixpe":
        for name, module in projections.items():
            parts = {part: _tensor(checkpoint, f"{name}.{part}") for part in PARTS}
            try:
                grouped = GroupedLayer.restored(parts, module.weight.shape[1])
            except InputError as error:
                raise InputError(f"{path}: layer {name}: {error}") from None
            if grouped.codes.shape != module.weight.shape:
                raise InputError(
                    f"{path}: layer {name} is {list(grouped.codes.shape)}, not {list(module.weight.shape)}"
                )
            module.freeze_grouped(grouped)
    coded = {f"{name}.weight" for name in projections} if config.linear != "float" else set()
    stored = {standard_name(name): name for name in checkpoint.tensors}
    for name, value in model.state_dict().items():
        if name not in coded:
            parent, _, part = name.rpartition(".")
            owner = model.get_submodule(parent)
            read = _read(checkpoint, stored.get(name, name), value)
            if part in owner._parameters:
                owner.register_parameter(part, torch.nn.Parameter(read, requires_grad=False))
            else:
                owner.register_buffer(part, read)
    return model.eval(), checkpoint.config


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a checkpoint; `InputError` if it has none."""
    checkpoint = open_any(path)
    return find_tokenizer(checkpoint.config, checkpoint.files, str(path))


def _freeze(checkpoint: OpenCheckpoint[Any], name: str, module: Linear) -> None:
    layer = checkpoint.layer(name)
    if (layer.n_out, layer.n_in) != tuple(module.weight.shape):
        raise InputError(
            f"{checkpoint.path}: layer {name} is {[layer.n_out, layer.n_in]}, "
            f"but its config needs {list(module.weight.shape)}"
        )
    if isinstance(layer, TernaryLayer):
        module.freeze_ternary(layer)
    else:
        module.weight = torch.nn.Parameter(layer.dequantise(), requires_grad=False)


def _check_layers(checkpoint: OpenCheckpoint[Any], projections: dict[str, Linear]) -> None:
    missing = [name for name in projections if name not in checkpoint.shapes]
    surplus = [name for name in checkpoint.shapes if name not in projections and name != "lm_head"]
    if missing or surplus:
        what = f"has no layer {missing[0]}" if missing else f"has the layer {surplus[0]}, which the config does not"
        raise InputError(f"{checkpoint.path} {what}; its config and its tensors do not belong together")


def _tensor(checkpoint: OpenCheckpoint[Any], name: str) -> Tensor:
    if name not in checkpoint.tensors:
        raise InputError(f"{checkpoint.path} has no tensor {name}, which its config needs")
    return checkpoint.tensors[name]


def _read(checkpoint: OpenCheckpoint[Any], name: str, needed: Tensor) -> Tensor:
    value = _tensor(checkpoint, name)
    if value.shape != needed.shape:
        raise InputError(
            f"{checkpoint.path}: the tensor {name} is {list(value.shape)}, but its config needs {list(needed.shape)}"
        )
    if not bool(value.isfinite().all()):
        raise InputError(f"{checkpoint.path}: the tensor {name} holds a value that is not finite")
    return value.to(needed.dtype)
