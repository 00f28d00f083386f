"""Configuration fields: a frozen dataclass whose every field states its range, and refuses what is outside it."""

import dataclasses
from typing import Any

__all__ = ["FieldError", "describe", "parameter", "refuse", "validate"]


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
