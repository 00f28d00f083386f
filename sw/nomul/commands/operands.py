"""What commands multiply: layers of a checkpoint and vectors for them, in the form that an engine's mode takes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.cores.discover import cores, find_core
from nomul.engines.matmul import Mode
from nomul.errors import InputError
from nomul.files import plain_file
from nomul.formats import fp16
from nomul.formats.checkpoint import Checkpoint, open_checkpoint
from nomul.model import checkpoints
from nomul.model.activations import record
from nomul.model.operators import OPERATORS, attention_operands

__all__ = ["LayerOperands", "Vectors", "choose_operands", "find_mode", "load_activations"]

HEADS = ("lm_head", "model.embed_tokens")
"""Where a checkpoint keeps the INT8 matrix of its head, first choice first."""


def load_activations(file: Path) -> Tensor:
    """Read activations, integers [tokens, n_in], from an .npy file."""
    plain_file(file)
    try:
        # Mapped, so that nothing is set aside for what a header promises and the file does not hold.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception:
        raise InputError(f"{file} is cut short, or is not an .npy file of numbers") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"{file} holds {found}; activations are integers [tokens, n_in]")
    if array.dtype == np.uint64:
        array = array.clip(max=1 << 62)
    return torch.from_numpy(array.astype(np.int64))


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Where vectors come from: a file, the model that reads a prompt or a text of ours, or random numbers."""

    file: Path | None = None
    prompt: str | None = None
    tokens: int = 4
    seed: int = 0

    def choose(self, path: Path, layer: str, speaks: bool, n_in: int, values: range) -> tuple[Tensor, str]:
        """Return (activations [tokens, n_in], where they come from).

        `speaks` says whether the checkpoint at `path` is a model that reads a text if no prompt is given.
        """
        if self.file is not None:
            if self.prompt is not None:
                raise InputError("--prompt and --activations are both given; vectors come from one of them")
            return load_activations(self.file)[: self.tokens], str(self.file)
        if self.prompt is not None:
            return record(path, layer, self.prompt, self.tokens).long(), "the model on the prompt"
        if speaks:
            return record(path, layer, checkpoints.sample_text(), self.tokens).long(), "the model on the sample text"
        random = torch.Generator().manual_seed(self.seed)
        drawn = values.start + values.step * torch.randint(len(values), (self.tokens, n_in), generator=random)
        return drawn, f"random, seed {self.seed}"


ANY = Vectors()


def find_mode(engine: str, config: Any, name: str | None) -> int:
    """Return the number of an engine's mode, the first without a name; InputError if there is none of that name."""
    names = [mode.name for mode in config.modes]
    if name is not None and name not in names:
        raise InputError(f"engine {engine} so configured has no mode {name!r}; its modes are {', '.join(names)}")
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
    first = heads if heads and not ternary else checkpoint.layers
    if layer is None and not first:
        raise InputError(f"{checkpoint.path} has no ternary layers, so that there is no weight to multiply")
    name = first[0] if layer is None else layer
    if ternary or name in checkpoint.shapes or f"{name}.weight" not in checkpoint.tensors:
        found = checkpoint.layer(name)
        if found.group < found.n_in:
            able = " and ".join(core for core in cores() if find_core(core).in_groups({}))
            raise InputError(
                f"layer {name} has a scale for each {found.share}, which this core does not apply; {able} do"
            )
        rows = "" if found.uniform else "; the scale of each row stays outside"
        return name, found.weight, f"ternary, as they are{rows}"
    values = checkpoint.tensors[f"{name}.weight"].double()
    if values.ndim != 2 or values.numel() == 0:
        raise InputError(f"{name}.weight has shape {list(values.shape)}; a layer's weights are a matrix")
    levels = high if high > 1 else -low
    codes = (values * (levels / max(values.abs().max().item(), 1e-30))).round().clamp(low, high)
    return name, codes.to(torch.int8), f"quantised to {low} to {high} with one scale"


@dataclasses.dataclass(frozen=True)
class LayerOperands:
    """A layer of a checkpoint and vectors for it, as an engine multiplies them in one of its modes."""

    layer: str
    mode: int
    weight: Tensor
    """int8 [n_out, n_in]."""

    activations: Tensor
    """Integers [tokens, n_in]."""

    weight_source: str
    activation_source: str
    """What was done to the weights, and where the vectors come from, in words."""


def choose_operands(
    engine: str,
    config: Any,
    path: Path,
    layer: str | None = None,
    mode: str | None = None,
    vectors: Vectors = ANY,
) -> LayerOperands:
    """Return the operands that a checkpoint has for an engine.

    A layer LAYER.self_attn.scores or .values is an operator of attention.

    Raises
    ------
    InputError
        If the engine has no such mode, or the checkpoint no such layer.
    """
    checkpoint = open_checkpoint(path)
    operator = (layer or "").rpartition(".")[2]
    if layer and operator in OPERATORS:
        number = find_mode(engine, config, mode or OPERATORS[operator])
        text = checkpoints.sample_text() if vectors.prompt is None else vectors.prompt
        said = "the model on the sample text" if vectors.prompt is None else "the model on the prompt"
        weight, operands = attention_operands(path, layer, text, vectors.tokens)
        return LayerOperands(layer, number, weight, operands, "the model's keys or values", said)
    number = find_mode(engine, config, mode)
    name, weight, done = choose_weights(checkpoint, layer, config.modes[number])
    chosen = config.modes[number]
    speaks = "characters" in checkpoint.config and name in checkpoint.shapes
    operands, source = vectors.choose(path, name, speaks, weight.shape[1], chosen.activation_values)
    if chosen.weight_format == "fp16":
        weight, done = fp16.to_words(weight), f"{done}, in FP16"
    if chosen.activation_format == "fp16":
        operands, source = fp16.to_words(operands), f"{source}, in FP16"
    return LayerOperands(name, number, weight, operands, done, source)
