"""Checkpoints with ternary layers: Nomul's dense file, the Hugging Face BitNet layout and GGUF, behind one reader.

The dense file is one safetensors container. Its metadata are `format` (`nomul-dense-1`), `config` (a JSON object) and
`layers` (a JSON object from layer name to [n_out, n_in], or [n_out, n_in, group] of a layer with several scales). Each
layer has `<layer>.weight`, uint8 [n_out, ceil(n_in / 5)] in the code of `nomul.formats.dense`, and
`<layer>.weight_scale`, float32 [1] or [n_out, ceil(n_in / group)], which multiplies.
Tensors `files/<name>` are files, as the tokenizer's. All other tensors are kept as they are. docs/formats.md has worked
examples.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from nomul.errors import InputError
from nomul.formats import bitnet, companions, dense, huggingface
from nomul.formats.container import Container, open_container, write_container
from nomul.formats.gguf_model import GgufModel
from nomul.formats.ternary import TernaryLayer

FORMAT = "nomul-dense-1"
"""Value of `format` in the metadata of a dense file."""


Layer = TypeVar("Layer")


@dataclass(frozen=True, eq=False)
class OpenCheckpoint(Generic[Layer]):
    """An open checkpoint of layers of one kind; they are read and decoded when they are asked for.

    Members
    -------
    path : what was opened.
    kind : how it stores its layers, in a word.
    config : the model's configuration; empty if there is none.
    shapes : layer name -> (n_out, n_in), in the order of the file.
    tensors : all tensors that are not part of such a layer (embeddings, norms), by name, as they are stored.
    files : files of the model that go into a copy of it (tokenizer and generation), by name, uint8 [bytes].
    notes : sentences about how the file was read that a user should see.
    read : returns one layer; use `layer` instead, which names the alternatives when there is none.
    """

    path: Path
    kind: str
    config: dict[str, Any]
    shapes: dict[str, tuple[int, int]]
    tensors: Mapping[str, Tensor]
    files: Mapping[str, Tensor]
    notes: tuple[str, ...]
    read: Callable[[str], Layer]

    @property
    def layers(self) -> list[str]:
        """Names of the layers."""
        return list(self.shapes)

    def layer(self, name: str) -> Layer:
        """Read one layer; `InputError` names the closest layers if there is none of that name."""
        if name not in self.shapes:
            raise InputError(f"{self.path} has no layer {name!r}; {suggest(name, self.layers)}")
        try:
            return self.read(name)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None


class Checkpoint(OpenCheckpoint[TernaryLayer]):
    """An open checkpoint of ternary layers.

    Its `kind` is `nomul-dense`, `bitnet` (packed weights), `bitnet-master` (float weights that are ternarised here) or
    `gguf`.
    """

    def read_layers(self, advance: Callable[[], None] = lambda: None) -> Iterator[TernaryLayer]:
        """Read all layers, one after the other; call `advance` after each, as a progress bar needs."""
        for name in self.layers:
            yield self.layer(name)
            advance()


def suggest(name: str, allowed: list[str]) -> str:
    """Return a phrase that names what `name` may have meant, or what there is."""
    close = difflib.get_close_matches(name, allowed, n=3, cutoff=0.5)
    close = close or [other for other in allowed if name and name in other][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not allowed:
        return "it has no such layers at all"
    shown = ", ".join(allowed[:8])
    return f"it has {shown}" + (f" and {len(allowed) - 8} more" if len(allowed) > 8 else "")


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a dense file, a Hugging Face BitNet safetensors file, a GGUF file, or a directory of one of these.

    For a Hugging Face file, config.json is read from the directory that holds it, if it is there. INT4 layers of a GGUF
    file are no layers of what is returned.
    Raises `InputError` if the path holds no checkpoint with ternary layers, or a broken one.
    """
    container = open_container(path)
    if isinstance(container, GgufModel):
        return _open_gguf(container)
    if container.metadata.get("format", "").startswith("nomul-"):
        return _open_dense(container)
    return _open_huggingface(container)


def save_dense(
    path: Path | str,
    layers: Iterable[TernaryLayer],
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    files: Mapping[str, Tensor] | None = None,
) -> bool:
    """Write a dense file, atomically; return True if the file changed.

    `layers` may be a generator, so that only packed weights are held in memory. Scales are rounded to float32. `files`
    are kept as tensors `files/<name>`, uint8 [bytes].
    Raises `InputError` for two layers of one name, a tensor whose name a layer needs, or a config that is not JSON.
    """
    shapes: dict[str, list[int]] = {}
    stored: dict[str, Tensor] = {}
    for layer in layers:
        if layer.name in shapes:
            raise InputError(f"two layers are named {layer.name}; each name may occur once in a dense file")
        shapes[layer.name] = [layer.n_out, layer.n_in, *([] if layer.uniform else [layer.group])]
        stored[f"{layer.name}.weight"] = dense.pack(layer.weight)
        stored[f"{layer.name}.weight_scale"] = layer.scales.flatten().float() if layer.uniform else layer.scales
    files = {f"{companions.PREFIX}{name}": content for name, content in (files or {}).items()}
    for name, tensor in (*tensors.items(), *files.items()):
        if name in stored:
            raise InputError(f"the tensor {name} has the name of a ternary layer's weight or scale")
        stored[name] = tensor
    try:
        text = json.dumps(config, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the config cannot be written as JSON: {error}") from None
    return write_container(path, stored, {"format": FORMAT, "config": text, "layers": json.dumps(shapes)})


def _open_dense(container: Container) -> Checkpoint:
    path, metadata = container.path, container.metadata
    if metadata["format"] != FORMAT:
        raise InputError(f"{path} has the format {metadata['format']!r}, but this version of Nomul reads {FORMAT!r}")
    config = _metadata_object(container, "config")
    shapes: dict[str, tuple[int, int]] = {}
    scales: dict[str, float] = {}
    groups: dict[str, int] = {}
    for name, shape in _metadata_object(container, "layers").items():
        if not (isinstance(shape, list) and len(shape) in (2, 3) and all(type(n) is int and n > 0 for n in shape)):
            raise InputError(
                f"{path}: layer {name} has the shape {shape}, but [n_out, n_in] or [n_out, n_in, group], all above 0, "
                "is needed"
            )
        n_out, n_in, *group = shape
        weight, scale = f"{name}.weight", f"{name}.weight_scale"
        for tensor, dtype, allowed in (
            (weight, "U8", [(n_out, dense.packed_length(n_in))]),
            (scale, "F32", [(n_out, -(-n_in // group[0]))] if group else [(1,), ()]),
        ):
            if tensor not in container:
                raise InputError(f"{path}: layer {name} has no tensor {tensor}")
            if container.dtype(tensor) != dtype or container.shape(tensor) not in allowed:
                raise InputError(
                    f"{path}: the tensor {tensor} is {container.dtype(tensor)} {list(container.shape(tensor))}, "
                    f"but {dtype} {list(allowed[0])} is needed"
                )
        if group:
            groups[name] = group[0]
        else:
            try:
                scales[name] = bitnet.read_scale(name, container[scale])
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
        shapes[name] = (n_out, n_in)

    def read(name: str) -> TernaryLayer:
        try:
            weight = dense.unpack(container[f"{name}.weight"], shapes[name][1])
        except InputError as error:
            raise InputError(f"layer {name}: {error}") from None
        if name in groups:
            return TernaryLayer(name, weight, container[f"{name}.weight_scale"], groups[name])
        return TernaryLayer(name, weight, scales[name])

    own = {f"{name}.{part}" for name in shapes for part in ("weight", "weight_scale")}
    files = companions.companions(container)
    own |= {f"{companions.PREFIX}{name}" for name in files}
    return Checkpoint(path, "nomul-dense", config, shapes, container.without(own), files, (), read)


def _open_huggingface(container: Container) -> Checkpoint:
    config = huggingface.read_config(container.path)
    try:
        source = huggingface.ternary_source(container, config)
    except InputError as error:
        raise InputError(f"{container.path}: {error}") from None
    tensors, files = container.without(source.tensors), companions.companions(container)
    return Checkpoint(container.path, source.kind, config, source.shapes, tensors, files, source.notes, source.read)


def _open_gguf(model: GgufModel) -> Checkpoint:
    if not model.ternary:
        found = "its layers are INT4" if model.int4 else "its projections are floats"
        raise InputError(f"{model.path}: there are no ternary layers here: {found}")
    files = companions.companions(model)
    return Checkpoint(
        model.path, "gguf", dict(model.config), model.ternary, model.others, files, model.notes, model.read_ternary
    )


def _metadata_object(container: Container, key: str) -> dict[str, Any]:
    if key not in container.metadata:
        raise InputError(f"{container.path} says it is {FORMAT} but has no {key!r} in its metadata")
    try:
        value = json.loads(container.metadata[key])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{container.path}: {key!r} in its metadata is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{container.path}: {key!r} in its metadata is a {type(value).__name__}, not a JSON object")
    return value
