"""What a model's directory or file holds: kind, architecture, layers, sizes, and what Nomul does not support of it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomul.errors import InputError
from nomul.formats.architecture import Architecture, is_bitnet, model_type, projection_shapes
from nomul.formats.checkpoint import Checkpoint, OpenCheckpoint, open_checkpoint
from nomul.formats.companions import companions, notes_beside
from nomul.formats.container import Container, open_container
from nomul.formats.gguf_blocks import Layer
from nomul.formats.gguf_model import GgufModel
from nomul.formats.huggingface import FLOATS, read_config, refuse_foreign
from nomul.formats.int4_checkpoint import Int4Checkpoint, int4_layers, open_int4
from nomul.formats.support import Features, check_tensors, features, unsupported

KINDS = {
    "nomul-dense": "Nomul's dense file, five trits in a byte",
    "bitnet": "BitNet, packed ternary weights",
    "bitnet-master": "BitNet, float master weights",
    "gptq": "GPTQ, group-wise INT4",
    "awq": "AWQ, group-wise INT4",
    "compressed-tensors": "compressed-tensors (pack-quantized), group-wise INT4",
    "gguf": "GGUF, layers in blocks with a scale each",
    "float": "float weights, not quantised",
}
"""What a model can be, and how it is described."""


class MixedCheckpoint(OpenCheckpoint[Layer]):
    """An open checkpoint whose layers are ternary and INT4; its `kind` is `gguf`."""


@dataclass(frozen=True)
class Survey:
    """What was found; `as_json` has the same under the same names.

    Members
    -------
    path, kind : what was opened, and one of `KINDS`.
    architecture : None where there is no config.json with an architecture.
    features : what its decoder has beyond Llama's.
    layers : name -> (n_out, n_in) of the quantised layers (of all projections for `float`).
    parameters : weights of the model, logical ones (a packed byte counts as the weights in it), scales apart.
    ternary_parameters, int4_parameters : weights in ternary and in INT4 layers.
    bytes : size of the files that hold the tensors.
    unsupported : one sentence for each thing that Nomul's models do not have.
    unknown : those of them that the model's config or tensors ask for, so that no dense file is made of it.
    notes : sentences about how the files are read.
    """

    path: Path
    kind: str
    architecture: Architecture | None
    features: Features
    layers: dict[str, tuple[int, int]]
    parameters: int
    ternary_parameters: int
    int4_parameters: int
    bytes: int
    unsupported: tuple[str, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the survey as a JSON object."""
        apart = ("unknown", "features")
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                  if field.name not in apart} | dataclasses.asdict(self.features)  # fmt: skip
        architecture = self.architecture and dataclasses.asdict(self.architecture)
        layers = [{"name": name, "n_out": n_out, "n_in": n_in} for name, (n_out, n_in) in self.layers.items()]
        return values | {
            "path": str(self.path),
            "architecture": architecture,
            "layers": layers,
            "unsupported": list(self.unsupported),
            "notes": list(self.notes),
        }


def open_model(path: Path | str) -> Checkpoint | Int4Checkpoint | MixedCheckpoint | None:
    """Open what a path holds, ternary, INT4 or both; None for float weights that were not trained to be ternary.

    Raises `InputError` for everything that is no checkpoint, or a broken one.
    """
    container = open_container(path)
    if isinstance(container, GgufModel):
        return _open_gguf(container)
    if int4_layers(container):
        return open_int4(path)
    if not container.metadata.get("format", "").startswith("nomul-"):
        try:
            refuse_foreign(container, read_config(container.path))
        except InputError as error:
            raise InputError(f"{container.path}: {error}") from None
        if _is_float(container):
            return None
    return open_checkpoint(path)


def _open_gguf(model: GgufModel) -> Checkpoint | Int4Checkpoint | MixedCheckpoint | None:
    if model.ternary and model.int4:
        files = companions(model)
        return MixedCheckpoint(
            model.path, "gguf", dict(model.config), model.layers, model.others, files, model.notes, model.read_layer
        )
    if model.int4:
        return open_int4(model.path)
    return open_checkpoint(model.path) if model.ternary else None


def open_any(path: Path | str) -> OpenCheckpoint[Any]:
    """Open a model of any weights; one of float weights has no layers, and all of its tensors in `tensors`."""
    model = open_model(path)
    if model is not None:
        return model
    container = open_container(path)
    config, files = _config(container), companions(container)

    def read(name: str) -> None:
        raise InputError(f"layer {name} is not quantised")

    return OpenCheckpoint(container.path, "float", config, {}, container.without(set()), files, (), read)


def survey(path: Path | str, *, kept: bool = False) -> Survey:
    """Say what a path holds, from the headers alone; no weight is decoded (of Q2_0 it is seen whether a code is 3).

    `kept` says, for the notes, whether the tokenizer's files go into a copy. Raises `InputError` for everything that is
    no checkpoint, or a broken one.
    """
    model = open_model(path)
    container = open_container(path)
    config = model.config if model else _config(container)
    kind = model.kind if model else "float"
    architecture = _architecture(config, kind)
    known = projection_shapes(architecture) if architecture else {}
    layers = model.shapes if model else {name: known[name] for name in known if f"{name}.weight" in container}
    unknown: list[str] = []
    found = Features()
    # A dense file may hold any model; whether it is one that Nomul runs, the reader of models says.
    if architecture and (kind != "nomul-dense" or _is_decoder(config, container)):
        try:
            check_tensors(architecture, container)
            found = features(architecture, container)
        except InputError as error:
            raise InputError(f"{container.path}: {error}") from None
        unknown = unsupported(config, architecture, container)
        if model_type(config) == "bitnet" and not found.sub_norms and kind != "nomul-dense":
            unknown.append("The model_type 'bitnet' has SubLN, but there are no tensors for it.")
        unquantised = [name for name in known if name not in layers]
        if unquantised:
            unknown.append(
                f"Projections that are not quantised are not supported: {unquantised[0]}"
                + (f" and {len(unquantised) - 1} more." if len(unquantised) > 1 else ".")
            )
    elif kind != "nomul-dense":
        unknown.append("There is no config.json with an architecture, so that only single layers can be used.")
    if kind == "float":
        unknown.append("The weights are float, and nothing says that they were trained to be ternary.")
    quantised = sum(n_out * n_in for n_out, n_in in model.shapes.values()) if model else 0
    int4 = sum(model.shapes[name][0] * model.shapes[name][1] for name in int4_layers(container)) if model else 0
    others = model.tensors if model else container
    return Survey(
        path=container.path,
        kind=kind,
        architecture=architecture,
        features=found,
        layers=dict(layers),
        parameters=quantised + sum(container.numel(name) for name in others),
        ternary_parameters=quantised - int4,
        int4_parameters=int4,
        bytes=sum(file.stat().st_size for file in container.files),
        unsupported=tuple(unknown),
        unknown=tuple(unknown),
        notes=(model.notes if model else ()) + notes_beside(container, kept=kept),
    )


def _architecture(config: Mapping[str, Any], kind: str) -> Architecture | None:
    if "hidden_size" not in config:
        return None
    try:
        return Architecture.from_config(config)
    except InputError:
        # A dense file may hold any model; its config is the model's own.
        if kind == "nomul-dense":
            return None
        raise


def _is_decoder(config: Mapping[str, Any], container: Container) -> bool:
    """Say whether a dense file, or any other, holds a decoder with ternary projections."""
    return config.get("linear", "ternary") == "ternary" and "model.embed_tokens.weight" in container


def _config(container: Container) -> dict[str, Any]:
    return dict(container.config) if isinstance(container, GgufModel) else read_config(container.path)


def _is_float(container: Container) -> bool:
    weights = [name for name in container if name.endswith("_proj.weight")]
    floats = all(container.dtype(name) in FLOATS for name in weights)
    return bool(weights) and floats and not is_bitnet(read_config(container.path))
