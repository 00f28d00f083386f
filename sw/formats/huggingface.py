"""Ternary layers of a Hugging Face BitNet model: packed weights, or master weights that are ternarised here; a writer.

Packed: every two-dimensional uint8 `<layer>.weight`, with its `<layer>.weight_scale` (`sw.formats.bitnet`).
Master: a model that config.json calls BitNet and that keeps float weights, as microsoft/bitnet-b1.58-2B-4T-bf16 and
1bitLLM/bitnet_b1_58-3B do; its seven projections per decoder layer are ternarised by absmean.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sw.console import new_folder
from sw.errors import InputError
from sw.formats import bitnet
from sw.formats.architecture import Architecture, is_bitnet, projection_shapes
from sw.formats.container import Container, read_json_object, write_container
from sw.formats.ternary import TernaryLayer

FLOATS = ("BF16", "F16", "F32")
"""Types that master weights may have."""


@dataclass(frozen=True, eq=False)
class TernarySource:
    """Where the ternary layers of a container are, and how one is read.

    Members
    -------
    kind : `bitnet` or `bitnet-master`.
    shapes : layer name -> (n_out, n_in).
    tensors : names of the container's tensors that the layers are made of.
    notes : sentences about how the file is read.
    read : decodes one layer of `shapes`.
    """

    kind: str
    shapes: dict[str, tuple[int, int]]
    tensors: set[str]
    notes: tuple[str, ...]
    read: Callable[[str], TernaryLayer]


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json of a model's directory, or of the directory that holds a file; empty if there is none."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    return read_json_object(file) if file.is_file() else {}


def ternary_source(container: Container, config: Mapping[str, Any]) -> TernarySource:
    """Find the ternary layers of a Hugging Face container.

    `config` decides the direction of the scale and, where it has an architecture, checks every projection's shape.
    Raises `InputError` when there are none, when a scale is missing or wrong, or when a shape contradicts `config`.
    """
    expected = projection_shapes(Architecture.from_config(config)) if "hidden_size" in config else {}
    packed = [
        name.removesuffix(".weight")
        for name in container
        if name.endswith(".weight") and container.dtype(name) == "U8" and len(container.shape(name)) == 2
    ]
    if packed:
        return _packed(container, config, packed, expected)
    if is_bitnet(config) and expected:
        return _master(container, expected)
    raise InputError(
        "there are no ternary layers here: no uint8 weights with a weight_scale, "
        "and no config.json that says the float weights belong to a BitNet model"
    )


def save_bitnet(
    path: Path | str, layers: Iterable[TernaryLayer], tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    """Write a directory with config.json and model.safetensors that transformers reads as linear_class autobitlinear.

    The scales multiply; each is kept as bfloat16 if that holds it exactly, otherwise as float32. The directory appears
    complete or not at all. Raises `InputError` if it is there and not empty, or if a layer's outputs are no multiple
    of four, since transformers has no place for their number.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is already there; the Hugging Face layout needs a new or empty directory")
    stored: dict[str, Tensor] = {}
    for layer in layers:
        if layer.n_out % bitnet.TRITS_PER_BYTE:
            raise InputError(
                f"layer {layer.name} has {layer.n_out} outputs; the Hugging Face layout needs a multiple of four"
            )
        stored[f"{layer.name}.weight"] = bitnet.pack(layer.weight)
        scale = torch.tensor([layer.scale], dtype=torch.float32)
        exact = torch.equal(scale.bfloat16().float(), scale)
        stored[f"{layer.name}.weight_scale"] = scale.bfloat16() if exact else scale
    stored |= tensors
    quantization = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
    text = json.dumps({**config, "quantization_config": quantization}, indent=2) + "\n"
    try:
        with new_folder(path) as complete:
            write_container(complete / "model.safetensors", stored, {"format": "pt"})
            (complete / "config.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from None


def _packed(
    container: Container, config: Mapping[str, Any], names: list[str], expected: Mapping[str, tuple[int, int]]
) -> TernarySource:
    scales: dict[str, float] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for name in names:
        if f"{name}.weight_scale" not in container:
            raise InputError(f"layer {name} has no weight_scale; packed BitNet weights need one per layer")
        scales[name] = bitnet.read_scale(name, container[f"{name}.weight_scale"])
        rows, n_in = container.shape(f"{name}.weight")
        shapes[name] = expected.get(name, (rows * bitnet.TRITS_PER_BYTE, n_in))
        needed = (-(-shapes[name][0] // bitnet.TRITS_PER_BYTE), shapes[name][1])
        if needed != (rows, n_in):
            raise InputError(
                f"layer {name} has packed weights of {[rows, n_in]}, "
                f"but {list(shapes[name])} of config.json packs into {list(needed)}"
            )
    direction, note = bitnet.scale_direction(config, list(scales.values()))

    def read(name: str) -> TernaryLayer:
        try:
            weight = bitnet.unpack(container[f"{name}.weight"], shapes[name][0])
        except InputError as error:
            raise InputError(f"layer {name}: {error}") from None
        return TernaryLayer(name, weight, direction.factor(scales[name]))

    own = {f"{name}.{part}" for name in names for part in ("weight", "weight_scale")}
    return TernarySource("bitnet", shapes, own, (note,), read)


def _master(container: Container, expected: dict[str, tuple[int, int]]) -> TernarySource:
    for name, shape in expected.items():
        weight = f"{name}.weight"
        if weight not in container:
            raise InputError(f"layer {name} is missing: config.json needs a tensor {weight} of {list(shape)}")
        if container.dtype(weight) not in FLOATS or container.shape(weight) != shape:
            raise InputError(
                f"the tensor {weight} is {container.dtype(weight)} {list(container.shape(weight))}, "
                f"but {' or '.join(FLOATS)} {list(shape)} is needed"
            )

    def read(name: str) -> TernaryLayer:
        return bitnet.ternarise(name, container[f"{name}.weight"])

    note = "the weights are float master weights, ternarised by absmean as the model does at run time"
    return TernarySource("bitnet-master", expected, {f"{name}.weight" for name in expected}, (note,), read)
