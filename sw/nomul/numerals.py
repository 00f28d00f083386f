"""Numbers as people type them: ASCII digits and nothing else, where Python also reads 1_0, other scripts and nan."""

import math
import re

__all__ = ["read_integer", "read_number"]


def read_integer(text: str) -> int:
    """Return the whole number that a text is; ValueError if it is none."""
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def read_number(text: str) -> float:
    """Return the decimal number that a text is, with or without an exponent; ValueError if it is none or too large."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) or not math.isfinite(float(text)):
        raise ValueError(f"{text!r} is no number")
    return float(text)
