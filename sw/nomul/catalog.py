"""The engines as the host sees them: a configuration from text, and operands as their streams take them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.config import describe
from nomul.engines import ENGINES
from nomul.errors import InputError
from nomul.formats import baseline, boothflex, boothflex_bs, bwta, fp16, mixpe, tint, tlmm
from nomul.names import canonical
from nomul.numerals import read_integer
from nomul.units import UNITS

__all__ = ["FORMS", "choose_form", "configure", "pack_activations", "pack_weights", "parse_setting"]


def _pack_tlmm(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    sizes = {"group": config.group, "tables": config.tables, "rows": config.rows}
    if config.weights == "dense":
        return tlmm.pack_dense(weight, **sizes, units=config.units)
    return tlmm.pack(weight, **sizes, half=config.table == "half")


def _pack_tint(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    corrected = config.act_bits if config.trees else None
    steps = tint.steps(weight, lanes=config.lanes_in, rows=config.rows, corrected=corrected)
    return tint.pack_dense(steps, config.units) if config.weights == "dense" else tint.pack(steps, corrected)


def _pack_baseline(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    return baseline.pack(baseline.steps(weight, lanes=config.lanes_in, rows=config.rows), config.trees)


def _pack_boothflex(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    ternary = config.modes[mode].name == "ternary"
    steps = boothflex.steps(weight, lanes=config.lanes_in, rows=config.rows, ternary=ternary)
    return boothflex.pack(steps, config.trees)


def _pack_boothflex_bs(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    (low, high), sizes = config.modes[mode].weights, {"lanes": config.lanes_in, "rows": config.rows}
    digits = (high.bit_length() + 2) // 2
    return boothflex_bs.pack(boothflex_bs.steps(weight, **sizes, digits=digits, low=low, high=high))


def _pack_bwta(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    binary = config.weight_bits == 1
    steps = bwta.steps(weight, lanes=config.lanes_in, rows=config.rows, binary=binary)
    return bwta.pack(steps, binary=binary, lines=config.trees)


def mixpe_layout(config: Any) -> mixpe.Layout:
    """Return what the packer of MixPE's stream knows of a configuration."""
    return mixpe.Layout(
        lanes=config.lanes_in, rows=config.rows, turn=config.turn, group=config.group or None,
        signed=config.codes == "signed",
        recoding=config.digits, scale_bits=config.scale_bits, transfer=config.activation_lanes,
        delay=config.entry_delay, drain=config.drain, act_bits=config.act_bits, correction_bits=config.correction_bits,
        fold=config.fold, code_bits=config.code_bits, lined=config.lined,
    )  # fmt: skip


def _pack_mixpe(config: Any, weight: Tensor | mixpe.Operands, mode: int) -> npt.NDArray[np.uint8]:
    operands = mixpe.matrix(weight, config.group or None) if isinstance(weight, Tensor) else weight
    return mixpe.pack(operands, mixpe_layout(config))


def _pack_fp16(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    return fp16.pack(weight, lanes=1, rows=config.rows, bits=16)


def _pack_mixpe_fp16(config: Any, weight: Tensor, mode: int) -> npt.NDArray[np.uint8]:
    return fp16.pack(weight, lanes=config.lanes_in, rows=config.rows, bits=4)


PACKERS: dict[str, Callable[[Any, Any, int], npt.NDArray[np.uint8]]] = {
    "tlmm": _pack_tlmm,
    "tint": _pack_tint,
    "baseline": _pack_baseline,
    "boothflex": _pack_boothflex,
    "boothflex_bs": _pack_boothflex_bs,
    "bwta": _pack_bwta,
    "mixpe": _pack_mixpe,
    "fp16": _pack_fp16,
    "mixpe_fp16": _pack_mixpe_fp16,
}
"""The packer of each engine's weight stream: (configuration, int8 [n_out, n_in], mode) -> uint8 [transfers, bytes].

MixPE's takes operands in groups (`nomul.formats.mixpe.Operands`) as well.
"""


def _integers(what: str, values: Tensor | npt.NDArray[Any]) -> Tensor:
    """Return a tensor or an array of integers as a tensor; `InputError` for numbers of another kind."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    if tensor.is_floating_point() or tensor.is_complex():
        raise InputError(f"the {what} are {tensor.dtype}; integers are needed")
    return tensor


def pack_weights(
    engine: str, config: Any, weight: Tensor | npt.NDArray[Any] | mixpe.Operands, mode: int = 0
) -> npt.NDArray[np.uint8]:
    """Return the transfers of one token's weights, uint8 [transfers, bytes], little-endian.

    Weights are integers [n_out, n_in], a tensor or an array; MixPE takes `Operands` in groups as well. Raises
    `InputError` for other numbers, and for weights that the engine's mode does not have.
    """
    return PACKERS[engine](config, weight if isinstance(weight, mixpe.Operands) else _integers("weights", weight), mode)


def pack_activations(config: Any, activations: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the transfers of activation vectors, uint8 [transfers, bytes], little-endian.

    Parameters
    ----------
    config : EngineConfig
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
    fields = {field.name: field for field in dataclasses.fields((ENGINES | UNITS)[engine].config)}
    if not equals:
        raise InputError(f"setting {setting!r} has no '='; write it as field=value, for example tables=16")
    if name not in fields:
        kind = "engine" if engine in ENGINES else "unit"
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


FORMS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "mixpe": ({"weight": "int4", "activation": "int8"}, {"int8": "mixpe", "fp16": "mixpe_fp16"}),
}
"""Engines under one name: what the fields that choose one are by default, and the engine of each activation."""


def choose_form(engine: str, settings: Sequence[str]) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """Return the engine that `weight` and `activation` among the settings choose, the other settings, and the two.

    The last is empty for engines that have one form.

    Raises
    ------
    InputError
        If one of the two is none that the engine has.
    """
    engine = canonical(engine, ENGINES | UNITS)
    if engine not in FORMS:
        return engine, tuple(settings), {}
    chosen, engines = FORMS[engine]
    chosen, rest = dict(chosen), []
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in chosen:
            rest.append(setting)
            continue
        allowed = tuple(engines) if name == "activation" else ("int4", "ternary")
        if text not in allowed:
            raise InputError(f"field {name!r} of {engine} is {text!r}; allowed: {', '.join(allowed)}")
        chosen[name] = text
    if chosen["weight"] == "ternary":
        if chosen["activation"] != "int8":
            raise InputError(f"field 'weight' of {engine} is 'ternary'; with activation = 'fp16' allowed: int4")
        rest.append("weight=ternary")
    return engines[chosen["activation"]], tuple(rest), chosen


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
    engine = canonical(engine, ENGINES | UNITS)
    if engine not in ENGINES | UNITS:
        raise InputError(
            f"no engine is called {engine!r}; the engines are {', '.join(ENGINES)}; the units {', '.join(UNITS)}"
        )
    values = dict(parse_setting(engine, setting) for setting in settings)
    if target is not None:
        values["target"] = target
    try:
        return (ENGINES | UNITS)[engine].config(**values)
    except ValueError as error:
        raise InputError(str(error)) from None
