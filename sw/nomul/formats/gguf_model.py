"""A GGUF file as a container of a model: tensors under Hugging Face's names, and the layers whose weights are codes.

Projections in types of codes and scales (`nomul.formats.gguf_blocks.TYPES`) are layers, ternary or INT4; others are
refused, unless they are floats. Everything else (embeddings, norms, head) is dequantised when it is asked for.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats import gguf_blocks as blocks
from nomul.formats.architecture import Architecture, projection_shapes
from nomul.formats.container import Container
from nomul.formats.gguf_blocks import BlockType, Layer
from nomul.formats.gguf_file import GgufFile, RawTensor
from nomul.formats.gguf_names import Order, standard_name, unpermuted
from nomul.formats.gguf_settings import llama3_scaling, read_config
from nomul.formats.gguf_tokenizer import tokenizer_files
from nomul.formats.int4 import Int4Layer
from nomul.formats.ternary import TernaryLayer

FREQUENCIES = "rope_freqs.weight"
"""Divisors of the rotary frequencies, as the file calls them."""

FLOATS = ("F32", "F16", "BF16")
"""Types of tensors that are floats as they are."""

REMEDY = (
    "Nomul reads projections in Q1_0, Q2_0, TQ1_0, TQ2_0, I2_S and Q4_0; llama-quantize makes Q4_0 of the float file "
    "(--pure), or TQ2_0 where the model was trained to be ternary"
)
"""What would do instead of a type that is not read."""

_PROJECTION = re.compile(r"model\.layers\.[0-9]+\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj\.weight")
_HEADS = re.compile(r"\.([qk])_proj\.(weight|bias)$")


class GgufModel(Container):
    """An open GGUF file; its tensors are read and decoded when they are asked for.

    Members
    -------
    config : as config.json would say it.
    ternary, int4 : layer name -> (n_out, n_in), of the layers of each kind.
    notes : sentences about how the file is read.
    kept : the tokenizer's files, made from the metadata when they are asked for.

    Raises `InputError` for a broken file, an architecture or a rotation that is not read, and a projection in a type
    that does not map to codes and scales exactly.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = [path]
        self.metadata: dict[str, str] = {}
        self._file = file = GgufFile(path)
        self._raw: dict[str, RawTensor] = {}
        for raw in file.tensors.values():
            name = standard_name(raw.name)
            if name in self._raw:
                raise InputError(f"{path} has both {self._raw[name].name} and {raw.name}, which are the same tensor")
            self._raw[name] = raw
        try:
            self.config, self._kind = read_config(file, {name: raw.shape for name, raw in self._raw.items()})
            self._prism = self._is_prism()
            for raw in self._raw.values():
                self._check_size(raw)
            self._find_layers()
            self._read_frequencies()
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        self.kept, untold = tokenizer_files(file)
        self.notes = (*self._notes(), *untold)

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor, dequantised if it is quantised; `KeyError` if there is none of that name."""
        raw = self._raw[name]
        try:
            block = self._block(raw)
            found = blocks.dense(raw.type, self._file.read(raw, self._octets(raw)), raw.shape, block)
        except InputError as error:
            raise InputError(f"{self.path}: the tensor {raw.name}: {error}") from None
        order = self._order(name, raw)
        return found if order is None else found[torch.from_numpy(order)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._raw[name].shape

    def dtype(self, name: str) -> str:
        """Return the type of a tensor as ggml calls it (`F32`, `Q4_0`, ...), without reading it."""
        return blocks.type_name(self._raw[name].type)

    def nbytes(self, name: str) -> int:
        """Return the number of bytes of a tensor's data without reading it."""
        return self._octets(self._raw[name])

    def read_layer(self, name: str) -> Layer:
        """Decode one layer of `ternary` or `int4`; `InputError` for a scale or a code that means nothing."""
        raw = self._raw[f"{name}.weight"]
        block = self._block(raw)
        assert block is not None and len(raw.shape) == 2
        data = self._file.read(raw, self._octets(raw))
        order = self._order(f"{name}.weight", raw)
        return blocks.decode_layer(name, raw.type, data, (raw.shape[0], raw.shape[1]), block, order)

    def read_ternary(self, name: str) -> TernaryLayer:
        """Decode a ternary layer."""
        layer = self.read_layer(name)
        assert isinstance(layer, TernaryLayer)
        return layer

    def read_int4(self, name: str) -> Int4Layer:
        """Decode an INT4 layer."""
        layer = self.read_layer(name)
        assert isinstance(layer, Int4Layer)
        return layer

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """The layers of both kinds, in the order of the file."""
        both = {**self.ternary, **self.int4}
        return {name: both[name] for name in (tensor.removesuffix(".weight") for tensor in self._raw) if name in both}

    @property
    def others(self) -> Mapping[str, Tensor]:
        """All tensors that are no layer's."""
        return self.without({f"{name}.weight" for name in self.layers})

    def _block(self, raw: RawTensor) -> BlockType | None:
        return blocks.PRISM_Q2_0 if raw.type == blocks.Q2_0 and self._prism else blocks.TYPES.get(raw.type)

    def _octets(self, raw: RawTensor) -> int:
        found = blocks.size(raw.type, raw.shape, self._block(raw))
        return raw.space if found is None else found

    def _order(self, name: str, raw: RawTensor) -> Order | None:
        """Return which stored row each row of q or k is; None for a tensor that is stored as it was."""
        found = _HEADS.search(name)
        if not self._kind.permuted or not found:
            return None
        heads = self.config["num_attention_heads" if found[1] == "q" else "num_key_value_heads"]
        if heads < 1 or raw.shape[0] % (2 * heads):
            raise InputError(f"{raw.name} has {raw.shape[0]} rows, which {heads} heads of an even size do not make")
        return unpermuted(raw.shape[0], heads)

    def _is_prism(self) -> bool:
        """Say whether Q2_0 has blocks of 128, as in Prism's fork; `InputError` if the sizes do not tell."""
        possible = {False, True}
        for raw in self._raw.values():
            if raw.type == blocks.Q2_0:
                possible -= {prism for prism in possible if not self._fits(raw, prism)}
        if len(possible) == 1:
            return possible.pop()
        found = [raw for raw in self._raw.values() if raw.type == blocks.Q2_0]
        if not found:
            return False
        why = "are too small to tell" if possible else "do not tell"
        raise InputError(
            f"Q2_0 has blocks of 64 weights in llama.cpp, and of 128 in Prism's fork; the sizes of {found[0].name} and "
            f"of the others {why} which these are, so that they are not read"
        )

    def _fits(self, raw: RawTensor, prism: bool) -> bool:
        block = blocks.PRISM_Q2_0 if prism else blocks.TYPES[blocks.Q2_0]
        if raw.shape[-1] % block.weights:
            return False
        octets = blocks.size(raw.type, raw.shape, block)
        assert octets is not None
        return raw.space in (octets, self._file.padded(octets)) if raw.last else raw.space == self._file.padded(octets)

    def _check_size(self, raw: RawTensor) -> None:
        try:
            octets = blocks.size(raw.type, raw.shape, self._block(raw))
        except InputError as error:
            raise InputError(f"the tensor {raw.name}: {error}") from None
        if octets is None or (octets <= raw.space if raw.last else self._file.padded(octets) == raw.space):
            return
        if raw.last:
            raise InputError(f"the file is cut short: {raw.name} has {octets:,} bytes, and {raw.space:,} are there")
        raise InputError(
            f"the tensor {raw.name} is {blocks.type_name(raw.type)} {list(raw.shape)}, which takes "
            f"{self._file.padded(octets):,} bytes, but the next tensor begins after {raw.space:,}"
        )

    def _find_layers(self) -> None:
        expected = projection_shapes(Architecture.from_config(self.config))
        self.ternary: dict[str, tuple[int, int]] = {}
        self.int4: dict[str, tuple[int, int]] = {}
        for name, raw in self._raw.items():
            kind = blocks.type_name(raw.type)
            if raw.name.endswith((".scale", ".input_scale")):
                raise InputError(f"the tensor {raw.name} scales another one's products, which Nomul does not read")
            if not _PROJECTION.fullmatch(name) or kind in FLOATS:
                continue
            block = self._block(raw)
            if block is None or len(raw.shape) != 2:
                raise InputError(f"the tensor {raw.name} is {kind} {list(raw.shape)}, which is not read; {REMEDY}")
            layer = name.removesuffix(".weight")
            if raw.shape != expected.get(layer, raw.shape):
                raise InputError(
                    f"the tensor {raw.name} is {list(raw.shape)}, but the metadata need {list(expected[layer])}"
                )
            self._order(name, raw)
            twos = raw.type == blocks.Q2_0 and blocks.has_twos(
                self._file.read(raw, self._octets(raw)).reshape(-1, block.octets)
            )
            target = self.int4 if twos or kind == "Q4_0" else self.ternary
            target[layer] = (raw.shape[0], raw.shape[1])

    def _read_frequencies(self) -> None:
        if FREQUENCIES not in self._raw:
            return
        scaling = llama3_scaling(self[FREQUENCIES].flatten(), self.config["rope_theta"])
        if scaling is None or "rope_scaling" in self.config:
            # Under its own name it is a tensor without a known place, by which the model is refused.
            return
        self.config["rope_scaling"] = scaling
        del self._raw[FREQUENCIES]

    def _notes(self) -> Iterator[str]:
        if any(raw.type == blocks.I2_S for raw in self._raw.values()):
            yield "I2_S is read in the order that x86 writes; ARM has another, and nothing in the file says which it is"
        if self._prism:
            yield "Q2_0 has blocks of 128 weights here, as in Prism's fork of llama.cpp"
        names = sorted({blocks.type_name(raw.type) for raw in self._raw.values()} - {*FLOATS})
        if names:
            yield f"the types of its tensors are {', '.join(names)}, beside floats"
