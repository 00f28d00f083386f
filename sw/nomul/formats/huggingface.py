"""Ternary layers of a Hugging Face BitNet model: packed weights, or master weights that are ternarised here; a writer.

Packed: every two-dimensional uint8 `<layer>.weight`, with its `<layer>.weight_scale` (`nomul.formats.bitnet`); or the
same as floats that are -1, 0 and +1, which transformers saves of a packed model that it has loaded.
Master: a model that config.json calls BitNet and that keeps float weights, as microsoft/bitnet-b1.58-2B-4T-bf16 and
1bitLLM/bitnet_b1_58-3B do; its seven projections per decoder layer are ternarised by absmean.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.files import new_folder
from nomul.formats import bitnet
from nomul.formats.architecture import Architecture, is_bitnet, model_type, projection_shapes, quantization
from nomul.formats.container import Container, read_json_object, write_container
from nomul.formats.support import SUB_NORMS, standard_name, standard_tensors
from nomul.formats.ternary import TernaryLayer

FLOATS = ("BF16", "F16", "F32")
"""Types that master weights may have, and trits that were not packed."""

METHODS = ("bitnet", "gptq", "awq")
"""Values of `quant_method` that are read."""

FOREIGN = {
    ".weight_scale_inv": "block-wise FP8",
    ".quant_state.bitsandbytes__nf4": "bitsandbytes",
    ".W_q": "HQQ",
}
"""How the names of tensors end that belong to other formats, for files without a config.json."""

WRITTEN = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
"""`quantization_config` of what is written."""

LASTING = ("modules_to_not_convert", "use_rms_norm", "rms_norm_eps")
"""Keys of `quantization_config` that hold for a model however its weights are stored."""


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
    refuse_foreign(container, config)
    expected = projection_shapes(Architecture.from_config(config)) if "hidden_size" in config else {}
    floats = FLOATS if is_bitnet(config) else ()
    coded = [
        name.removesuffix(".weight")
        for name in container
        if name.endswith(".weight")
        and len(container.shape(name)) == 2
        and (container.dtype(name) == "U8" or (container.dtype(name) in floats and f"{name}_scale" in container))
    ]
    if coded:
        return _coded(container, config, coded, expected)
    if is_bitnet(config) and expected:
        return _master(container, config, expected)
    raise InputError(
        "there are no ternary layers here: no uint8 weights with a weight_scale, "
        "and no config.json that says the float weights belong to a BitNet model"
    )


def refuse_foreign(container: Container, config: Mapping[str, Any]) -> None:
    """Raise `InputError`, which names the format, for weights in one that is not read."""
    settings = quantization(config)
    method = settings.get("quant_method")
    remedy = "it reads 'bitnet', and of 4 bits 'gptq', 'awq' and 'compressed-tensors' in the format 'pack-quantized'"
    if method == "compressed-tensors" and settings.get("format") == "pack-quantized":
        return
    if method is not None and method not in METHODS:
        form = f" in the format {settings['format']!r}" if settings.get("format") else ""
        raise InputError(f"quant_method is {method!r}{form}, which Nomul does not read; {remedy}")
    for ending, format_name in FOREIGN.items():
        found = next((name for name in container if name.endswith(ending)), None)
        if found:
            raise InputError(f"the tensor {found} is one of {format_name}, which Nomul does not read; {remedy}")


def transformers_config(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return a config.json by which transformers computes what Nomul reads, for a model with tensors of these names.

    What has a default that depends on `model_type` is said; a model with SubLN is transformers' BitNet, whatever it was
    called. A config without an architecture stays as it is.
    """
    if "hidden_size" not in config:
        return dict(config)
    architecture = Architecture.from_config(config)
    explicit = {**config, "model_type": model_type(config), **dataclasses.asdict(architecture)}
    if any(f".{norm}." in standard_name(name) for name in names for norm in SUB_NORMS.values()):
        explicit |= {"model_type": "bitnet", "architectures": ["BitNetForCausalLM"]}
    return explicit


def without_direction(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config for a file whose scales multiply, whatever `quantization_config` says of the source's.

    What else that says stays: the modules that were never converted, and a norm in front of the others.
    """
    kept = {key: value for key, value in quantization(config).items() if key in LASTING and value not in (None, False)}
    rest = {key: value for key, value in config.items() if key != "quantization_config"}
    return rest | ({"quantization_config": {"quant_method": "bitnet", **kept}} if kept else {})


def save_bitnet(
    path: Path | str,
    layers: Iterable[TernaryLayer],
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    files: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a directory with config.json and model.safetensors that transformers reads as linear_class autobitlinear.

    The scales multiply; each is kept as bfloat16 if that holds it exactly, otherwise as float32. `files` are written
    beside. The directory appears complete or not at all. Raises `InputError` if it is there and not empty, if a layer's
    outputs are no multiple of four, since transformers has no place for their number, or if the model's arithmetic is
    not BitNet's.
    """
    path = Path(path)
    if config.get("linear", "ternary") != "ternary":
        raise InputError(f"linear is {config['linear']!r}; the Hugging Face layout is for ternary projections only")
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
    stored |= standard_tensors(tensors, tied=False) if "hidden_size" in config else tensors
    settings = {**quantization(without_direction(config)), **WRITTEN}
    text = json.dumps({**transformers_config(config, stored), "quantization_config": settings}, indent=2) + "\n"
    try:
        with new_folder(path) as complete:
            write_container(complete / "model.safetensors", stored, {"format": "pt"})
            (complete / "config.json").write_text(text, encoding="utf-8")
            for name, content in (files or {}).items():
                (complete / name).write_bytes(content.numpy().tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from None


def _coded(
    container: Container, config: Mapping[str, Any], names: list[str], expected: Mapping[str, tuple[int, int]]
) -> TernarySource:
    scales: dict[str, float] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for name in names:
        if f"{name}.weight_scale" not in container:
            raise InputError(f"layer {name} has no weight_scale; packed BitNet weights need one per layer")
        scales[name] = bitnet.read_scale(name, container[f"{name}.weight_scale"])
        rows, n_in = container.shape(f"{name}.weight")
        packing = bitnet.TRITS_PER_BYTE if container.dtype(f"{name}.weight") == "U8" else 1
        shapes[name] = expected.get(name, (rows * packing, n_in))
        needed = (-(-shapes[name][0] // packing), shapes[name][1])
        if needed != (rows, n_in):
            raise InputError(
                f"layer {name} has packed weights of {[rows, n_in]}, "
                f"but {list(shapes[name])} of config.json packs into {list(needed)}"
            )
    if _online(config):
        raise InputError(
            f"quantization_mode is 'online', which is for float master weights, but {names[0]} has a scale"
        )
    direction, note = bitnet.scale_direction(config, list(scales.values()))

    def read(name: str) -> TernaryLayer:
        stored = container[f"{name}.weight"]
        try:
            weight = bitnet.unpack(stored, shapes[name][0]) if stored.dtype == torch.uint8 else bitnet.trits(stored)
        except InputError as error:
            raise InputError(f"layer {name}: {error}") from None
        return TernaryLayer(name, weight, direction.factor(scales[name]))

    own = {f"{name}.{part}" for name in names for part in ("weight", "weight_scale")}
    return TernarySource("bitnet", shapes, own, (note,), read)


def _master(container: Container, config: Mapping[str, Any], expected: dict[str, tuple[int, int]]) -> TernarySource:
    for name, shape in expected.items():
        weight = f"{name}.weight"
        if weight not in container:
            raise InputError(f"layer {name} is missing: config.json needs a tensor {weight} of {list(shape)}")
        if container.dtype(weight) not in FLOATS or container.shape(weight) != shape:
            raise InputError(
                f"the tensor {weight} is {container.dtype(weight)} {list(container.shape(weight))}, "
                f"but {' or '.join(FLOATS)} {list(shape)} is needed"
            )
        for pattern in quantization(config).get("modules_to_not_convert") or ():
            if name.endswith(str(pattern)) or name.startswith(f"{pattern}."):
                raise InputError(
                    f"modules_to_not_convert has {pattern!r}, so that {name} is not ternary; all projections must be"
                )
    if quantization(config).get("quant_method") == "bitnet" and not _online(config):
        raise InputError(
            "quantization_mode is 'offline', so that the float weights are no masters to be ternarised, but no layer "
            "has a weight_scale"
        )

    def read(name: str) -> TernaryLayer:
        return bitnet.ternarise(name, container[f"{name}.weight"])

    note = "the weights are float master weights, ternarised by absmean as the model does at run time"
    return TernarySource("bitnet-master", expected, {f"{name}.weight" for name in expected}, (note,), read)


def _online(config: Mapping[str, Any]) -> bool:
    mode = quantization(config).get("quantization_mode", "offline")
    if mode not in ("online", "offline"):
        raise InputError(f"quantization_config.quantization_mode is {mode!r}; allowed are 'online' and 'offline'")
    return mode == "online"
