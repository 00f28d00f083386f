"""compressed-tensors in the format pack-quantized, as llm-compressor and vLLM store W4A16: INT4 in groups.

Per layer, with nibble i being bits 4i+3..4i of a word and every stored code being 8 more than the signed one:

* `weight_packed` [n_out, ceil(n_in / 8)], nibble i of column c is input 8c + i;
* `weight_scale` [n_out, groups]; one group for the strategy `channel`;
* `weight_zero_point` [ceil(n_out / 8), groups], nibble i of row r is output 8r + i; absent where it is symmetric;
* `weight_shape`, the two numbers n_out and n_in.

Source: compressed-tensors, compressors/pack_quantized.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.container import Container
from nomul.formats.int4 import CODES_PER_WORD, Int4Layer, group_size_of, nibbles
from nomul.formats.settings import keys, unknown

METHOD, FORMAT = "compressed-tensors", "pack-quantized"
"""`quant_method` and `format` of config.json."""

PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
"""Tensors of a layer."""

KNOWN = keys("quant_method format config_groups ignore quantization_status version global_compression_ratio")
EMPTY = keys("kv_cache_scheme sparsity_config moe_sparsity_config transform_config")
"""Keys of `quantization_config` that are read or change nothing, and those that must be null or empty."""

GROUP = keys("targets weights format")
WEIGHTS = keys(
    "num_bits type strategy group_size symmetric actorder dynamic observer observer_kwargs zp_dtype scale_dtype"
)
"""Keys of a group in `config_groups`, and of its `weights`, that are read, or that the tensors answer."""


def check_settings(settings: Mapping[str, Any]) -> int | None:
    """Return the group size that a `quantization_config` says, if it is one.

    Raises `InputError` that names the first setting which asks for anything but 4-bit integer weights.
    """
    form = settings.get("format", FORMAT)
    if form != FORMAT:
        raise InputError(f"the format of {METHOD} is {form!r}; supported is {FORMAT!r}")
    for key in EMPTY:
        value = settings.get(key)
        if value and value != {"format": "dense"}:
            raise InputError(f"quantization_config.{key} is {value!r}, which is not supported")
    _refuse_unknown(settings, KNOWN | EMPTY, "")
    sizes = set()
    for name, stored in _object(settings, "config_groups", "").items():
        where = f"config_groups.{name}."
        group = _object({name: stored}, name, "config_groups.")
        if group.get("format", FORMAT) not in (FORMAT, None):
            raise InputError(f"quantization_config.{where}format is {group['format']!r}; supported is {FORMAT!r}")
        _refuse_unknown(group, GROUP, where)
        weights = _object(group, "weights", where)
        for key, allowed in {"num_bits": (4,), "type": ("int",), "strategy": ("group", "channel")}.items():
            if weights.get(key, allowed[0]) not in allowed:
                said = " and ".join(map(repr, allowed))
                raise InputError(f"quantization_config.{where}weights.{key} is {weights[key]!r}; supported: {said}")
        if weights.get("dynamic"):
            raise InputError(f"quantization_config.{where}weights.dynamic is {weights['dynamic']!r}; supported: False")
        _refuse_unknown(weights, WEIGHTS, f"{where}weights.")
        sizes.add(weights.get("group_size"))
    size = sizes.pop() if len(sizes) == 1 else None
    return size if type(size) is int else None


def layer_shape(container: Container, name: str) -> tuple[int, int]:
    """Return (n_out, n_in) of a layer; `InputError` if its `weight_shape` does not fit its packed codes."""
    for part in ("weight_scale", "weight_shape"):
        if f"{name}.{part}" not in container:
            raise InputError(f"layer {name} has no tensor {name}.{part}")
    shape = container[f"{name}.weight_shape"].flatten().tolist()
    packed, dtype = container.shape(f"{name}.weight_packed"), container.dtype(f"{name}.weight_packed")
    if dtype != "I32" or len(shape) != 2 or packed != (shape[0], -(-shape[1] // CODES_PER_WORD)):
        raise InputError(
            f"layer {name}: weight_packed is {dtype} {list(packed)} and weight_shape {shape}, "
            f"but I32 [n_out, ceil(n_in / {CODES_PER_WORD})] and [n_out, n_in] are needed"
        )
    return shape[0], shape[1]


def read_layer(container: Container, name: str, group_size: int | None) -> Int4Layer:
    """Decode one layer; `InputError` for shapes that do not fit and for inputs that were reordered."""
    n_out, n_in = layer_shape(container, name)
    scales = container[f"{name}.weight_scale"]
    if scales.ndim != 2:
        raise InputError(f"layer {name}: weight_scale is {list(scales.shape)}, but [n_out, groups] is needed")
    size = group_size_of(name, n_in, scales.shape[1], group_size)
    order = container.get(f"{name}.weight_g_idx")
    if order is not None and not torch.equal(order.long(), torch.arange(n_in) // size):
        raise InputError(f"layer {name}: weight_g_idx reorders the inputs (actorder), which is not supported")
    codes = nibbles(container[f"{name}.weight_packed"]).flatten(1)[:, :n_in].contiguous()
    return Int4Layer(name, codes, _zeros(container, name, n_out, scales), scales, size)


def _zeros(container: Container, name: str, n_out: int, scales: Tensor) -> Tensor:
    stored = container.get(f"{name}.weight_zero_point")
    if stored is None:
        return torch.full(scales.shape, 8, dtype=torch.uint8)
    if stored.dtype != torch.int32 or stored.shape != (-(-n_out // CODES_PER_WORD), scales.shape[1]):
        raise InputError(
            f"layer {name}: weight_zero_point is {stored.dtype} {list(stored.shape)}, but torch.int32 "
            f"{[-(-n_out // CODES_PER_WORD), scales.shape[1]]} is needed"
        )
    return nibbles(stored.T).flatten(1).T[:n_out].contiguous()


def _object(settings: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = settings.get(key) or {}
    if not isinstance(value, Mapping):
        raise InputError(f"quantization_config.{where}{key} is {value!r}, but a JSON object is needed")
    return value


def _refuse_unknown(settings: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for phrase in unknown(settings, known, f"quantization_config.{where}"):
        raise InputError(phrase)
