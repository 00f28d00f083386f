"""The cores as the host sees them: a configuration from text, and operands as their streams take them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.config import describe
from nomul.cores.discover import find_core
from nomul.errors import InputError
from nomul.formats.mixpe import GroupQuantized
from nomul.numerals import read_integer

__all__ = ["choose_variant", "configure", "pack_activations", "pack_weights", "parse_setting"]


def _integers(what: str, values: Tensor | npt.NDArray[Any]) -> Tensor:
    """Return a tensor or an array of integers as a tensor; `InputError` for numbers of another kind."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    if tensor.is_floating_point() or tensor.is_complex():
        raise InputError(f"the {what} are {tensor.dtype}; integers are needed")
    return tensor


def pack_weights(
    engine: str, config: Any, weight: Tensor | npt.NDArray[Any] | GroupQuantized, mode: int = 0
) -> npt.NDArray[np.uint8]:
    """Return the transfers of one token's weights, uint8 [transfers, bytes], little-endian.

    Weights are integers [n_out, n_in], a tensor or an array; cores of grouped weights take `GroupQuantized` as well.
    Raises `InputError` for other numbers, and for weights that the engine's mode does not have.
    """
    pack = find_core(engine).pack
    if pack is None:
        raise InputError(f"core {engine} has no packer (field pack of its Core), so that no weights can be given to it")
    return pack(config, weight if isinstance(weight, GroupQuantized) else _integers("weights", weight), mode)


def pack_activations(config: Any, activations: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the transfers of activation vectors, uint8 [transfers, bytes], little-endian.

    Parameters
    ----------
    config : MatmulConfig
        Says how many lanes of how many bits a transfer has, lane 0 in the lowest bits.
    activations : Tensor or array
        Integers [tokens, n_in]; each vector is padded with zeros to whole transfers.

    Raises
    ------
    InputError
        If an activation is not a number of `act_bits` bits.
    """
    activations = _integers("activations", activations).long()
    low, high = -(1 << (config.act_bits - 1)), (1 << (config.act_bits - 1)) - 1
    outside = (activations < low) | (activations > high)
    if outside.any():
        token, index = outside.nonzero()[0].tolist()
        raise InputError(
            f"activation {index} of token {token} is {activations[token, index]}; allowed: {low} to {high} "
            f"(act_bits = {config.act_bits})"
        )
    tokens, n_in = activations.shape
    transfers = -(-n_in // config.activation_lanes)
    padded = torch.nn.functional.pad(activations.long(), (0, transfers * config.activation_lanes - n_in))
    lanes = padded.reshape(tokens * transfers, config.activation_lanes).numpy()
    bits = (lanes[:, :, None] >> np.arange(config.act_bits)) & 1
    return np.packbits(bits.reshape(len(lanes), -1).astype(np.uint8), axis=1, bitorder="little")


def parse_setting(engine: str, setting: str) -> tuple[str, Any]:
    """Turn 'field=value' into a field of an engine's configuration.

    Raises
    ------
    InputError
        If there is no '=', the field does not exist, or the value is not of its type.
    """
    name, equals, text = setting.partition("=")
    fields = {field.name: field for field in dataclasses.fields(find_core(engine).gateware.config)}
    if not equals:
        raise InputError(f"setting {setting!r} has no '='; write it as field=value, for example tables=16")
    if name not in fields:
        kind = "engine" if find_core(engine).multiplies else "unit"
        raise InputError(f"{kind} {engine} has no field {name!r}; its fields are {', '.join(fields)}")
    field = fields[name]
    if field.metadata["choices"]:
        return name, text
    if text == "none" and field.default is None:
        return name, None
    try:
        return name, read_integer(text)
    except ValueError:
        raise InputError(f"field {name!r} is {text!r}; allowed: {describe(field)}") from None


def choose_variant(engine: str, settings: Sequence[str]) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """Return the core that the fields of a core's variants choose, the other settings, and those fields.

    The last is empty for cores without variants.

    Raises
    ------
    InputError
        If there is no such core, or a field of its variants has a value that does not exist or go with the others.
    """
    engine, variants = find_core(engine).name, find_core(engine).variants
    chosen, rest = {name: next(iter(values)) for name, values in variants.items()}, []
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in variants:
            rest.append(setting)
            continue
        if text not in variants[name]:
            raise InputError(f"field {name!r} of {engine} is {text!r}; allowed: {', '.join(variants[name])}")
        chosen[name] = text
    meaning: dict[str, str] = {}
    for name, text in chosen.items():
        meaning |= variants[name][text]
    core = meaning.pop("core", engine)
    known = {field.name for field in dataclasses.fields(find_core(core).gateware.config)}
    for name, text in chosen.items():
        if not variants[name][text].keys() - {"core"} <= known:
            others = ", ".join(f"{other} = {value!r}" for other, value in chosen.items() if other != name)
            allowed = [value for value, fields in variants[name].items() if fields.keys() - {"core"} <= known]
            raise InputError(f"field {name!r} of {engine} is {text!r}; with {others} allowed: {', '.join(allowed)}")
    return core, (*rest, *(f"{name}={value}" for name, value in meaning.items())), chosen


def configure(engine: str, settings: Sequence[str] = (), target: str | None = None) -> Any:
    """Return the configuration of an engine or a unit from 'field=value' settings.

    Parameters
    ----------
    engine : str
        Name of the engine.
    settings : sequence of str
        'field=value', later ones overriding earlier ones.
    target : str, optional
        Technology, overriding the field `target`.

    Raises
    ------
    InputError
        If the engine or a field does not exist, or a value is not allowed.
    """
    config = find_core(engine).gateware.config
    values = dict(parse_setting(engine, setting) for setting in settings)
    if target is not None:
        values["target"] = target
    try:
        return config(**values)
    except ValueError as error:
        raise InputError(str(error)) from None
