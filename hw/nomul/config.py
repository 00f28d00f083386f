"""Configuration fields: a frozen dataclass whose every field states its range, and refuses what is outside it."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["INPUT_BITS", "FieldError", "check_inputs", "describe", "parameter", "refuse", "validate"]

INPUT_BITS = (1 << 16) - 256
"""Most bits of all streams into a component: Amaranth numbers a design's inputs in 16 bits, and a bus has others."""


def parameter(
    default: Any, doc: str, *, low: int | None = None, high: int | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """Declare one field of a configuration dataclass.

    Parameters
    ----------
    default : int, str or None
        Value when the user names none; None is a value that the configuration derives.
    doc : str
        Meaning, in one phrase, with units.
    low, high : int, optional
        Inclusive range of an integer field.
    choices : tuple of str
        Allowed values of a string field.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


class FieldError(ValueError):
    """A field of a configuration is wrong: it names the field, the value and what is allowed."""

    def __init__(self, config: object, field: str, allowed: str) -> None:
        self.field, self.value, self.allowed = field, getattr(config, field), allowed
        super().__init__(f"{type(config).__name__} field {field!r} is {self.value!r}; allowed: {allowed}")


def refuse(config: object, field: str, allowed: str) -> None:
    """Raise the `FieldError` that every wrong field ends in."""
    raise FieldError(config, field, allowed)


def describe(field: dataclasses.Field[Any]) -> str:
    """Say in words what a field allows, for example '2 to 5' or 'half, full'."""
    metadata = field.metadata
    if metadata["choices"]:
        return ", ".join(metadata["choices"])
    allowed = f"{metadata['low']} to {metadata['high']}"
    return f"{allowed}, or none to derive it" if field.default is None else allowed


def validate(config: Any) -> None:
    """Check every field of a configuration against its declaration.

    Raises
    ------
    ValueError
        If a field has the wrong type or is out of its range.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None and field.default is None:
            continue
        if field.metadata["choices"]:
            valid = value in field.metadata["choices"]
        else:
            valid = (
                isinstance(value, int)
                and not isinstance(value, bool)
                and field.metadata["low"] <= value <= field.metadata["high"]
            )
        if not valid:
            refuse(config, field.name, describe(field))


def check_inputs(config: Any, field: str, bits: Callable[[Any], int]) -> None:
    """Refuse a field with which the streams into a component are too wide, and say the largest that is possible.

    Parameters
    ----------
    config
        A configuration whose fields are checked one by one already.
    field : str
        An integer field on which the width depends.
    bits : callable
        Bits of the streams together, of a configuration.
    """
    if bits(config) > INPUT_BITS:
        trial, value = copy.copy(config), getattr(config, field)
        while value > 1 and bits(trial) > INPUT_BITS:
            value -= 1
            object.__setattr__(trial, field, value)
        refuse(config, field, f"at most {value}, as the streams into it have {bits(config):,} of {INPUT_BITS:,} bits")
