"""Trained models as files: Nomul's dense format with the model's configuration under Hugging Face names.

The configuration has three entries of our own: `characters` (the tokens), `linear` (the arithmetic of the
projections) and, once calibrated, `integer` (the fixed-point positions of the integer model).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.architecture import Architecture
from nomul.formats.checkpoint import Checkpoint, open_checkpoint, save_dense
from nomul.formats.settings import unsupported_settings
from nomul.formats.ternary import TernaryLayer
from nomul.model.transformer import LINEARS, Linear, Transformer, TransformerConfig
from nomul.quantize.mixpe import PARTS, GroupedLayer

CODED = ("ternary", "bwta")
"""Kinds of projection whose codes are trits, stored as the dense format's layers."""


def to_hugging_face(config: TransformerConfig) -> dict[str, Any]:
    """Return the configuration as config.json names it, with `characters` and `linear`."""
    return {
        "model_type": "bitnet",
        "hidden_size": config.width,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.eps,
        "hidden_act": config.activation,
        "tie_word_embeddings": config.tied,
        "characters": config.characters,
        "linear": config.linear,
    }


def from_hugging_face(config: dict[str, Any], source: str) -> TransformerConfig:
    """Read a configuration back; raise `InputError` that names what this model cannot be.

    `source` names the checkpoint in messages.
    """
    characters, linear = config.get("characters"), config.get("linear", "ternary")
    if not isinstance(characters, str):
        raise InputError(
            f"{source}: the config has no 'characters', so it is no character model; only those can be run"
        )
    if linear not in LINEARS:
        raise InputError(
            f"{source}: linear is {linear!r}, which is not supported; it must be one of {', '.join(LINEARS)}"
        )
    try:
        shape = Architecture.from_config(config)
        if shape.vocab_size != len(characters):
            raise InputError(f"vocab_size is {shape.vocab_size}, but 'characters' names {len(characters)}")
        found = TransformerConfig(
            characters=characters,
            width=shape.hidden_size,
            layers=shape.num_hidden_layers,
            heads=shape.num_attention_heads,
            kv_heads=shape.num_key_value_heads,
            head_dim=shape.head_dim,
            ffn=shape.intermediate_size,
            context=shape.max_position_embeddings,
            rope_theta=shape.rope_theta,
            eps=shape.rms_norm_eps,
            activation=shape.hidden_act,
            linear=linear,
            tied=shape.tie_word_embeddings,
        )
        for sentence in unsupported_settings(config, shape):
            raise InputError(f"{sentence[0].lower()}{sentence[1:-1]}")
        return found
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def linears(model: Transformer) -> dict[str, Linear]:
    """Return the projections of the decoder layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear) and name != "lm_head"}


@torch.no_grad()
def save_model(path: Path, model: Transformer, extra: dict[str, Any] | None = None) -> bool:
    """Write a model as one file, atomically; `extra` is added to its configuration. True if the file changed."""
    config = model.config
    tensors = {name: value.cpu() for name, value in model.state_dict().items()}
    layers: list[TernaryLayer] = []
    for name, module in linears(model).items():
        if config.linear == "float":
            continue
        del tensors[f"{name}.weight"]
        codes, scale = module.quantised()
        if config.linear == "mixpe":
            assert module.grouped is not None
            tensors |= {f"{name}.{part}": value for part, value in module.grouped.stored().items()}
        elif scale is not None:
            layers.append(TernaryLayer(name, codes.round().to(torch.int8).cpu(), scale.item()))
    if model.lm_head is None:
        tensors.pop("lm_head.weight", None)
    return save_dense(path, layers, tensors, to_hugging_face(config) | (extra or {}))


def load_model(path: Path) -> tuple[Transformer, dict[str, Any]]:
    """Read a model, ready to run, and its whole configuration.

    Raises `InputError` if the file is no checkpoint of a character model, or if its tensors do not fit its config.
    """
    checkpoint = open_checkpoint(path)
    config = from_hugging_face(checkpoint.config, str(path))
    model = Transformer(config)
    projections = linears(model)
    if config.linear in CODED:
        _check_layers(checkpoint, projections)
        for name, module in projections.items():
            layer = checkpoint.layer(name)
            if tuple(layer.weight.shape) != tuple(module.weight.shape):
                raise InputError(
                    f"{path}: layer {name} is {list(layer.weight.shape)}, "
                    f"but its config needs {list(module.weight.shape)}"
                )
            module.freeze(layer.weight.float(), torch.tensor(layer.scale))
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
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name not in coded:
                _copy(checkpoint, name, value)
    return model.eval(), checkpoint.config


def _check_layers(checkpoint: Checkpoint, projections: dict[str, Linear]) -> None:
    missing = [name for name in projections if name not in checkpoint.shapes]
    surplus = [name for name in checkpoint.shapes if name not in projections and name != "lm_head"]
    if missing or surplus:
        what = f"has no layer {missing[0]}" if missing else f"has the layer {surplus[0]}, which the config does not"
        raise InputError(f"{checkpoint.path} {what}; its config and its tensors do not belong together")


def _tensor(checkpoint: Checkpoint, name: str) -> Tensor:
    if name not in checkpoint.tensors:
        raise InputError(f"{checkpoint.path} has no tensor {name}, which its config needs")
    return checkpoint.tensors[name]


def _copy(checkpoint: Checkpoint, name: str, target: Tensor) -> None:
    value = _tensor(checkpoint, name)
    if value.shape != target.shape:
        raise InputError(
            f"{checkpoint.path}: the tensor {name} is {list(value.shape)}, but its config needs {list(target.shape)}"
        )
    if not bool(value.float().isfinite().all()):
        raise InputError(f"{checkpoint.path}: the tensor {name} holds a value that is not finite")
    target.copy_(value)
