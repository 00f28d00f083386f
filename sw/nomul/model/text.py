"""Text as tokens: the characters of a model, the split into training and validation, and windows of a context."""

from pathlib import Path

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.files import plain_file

TRAINING_SHARE = 0.9
"""The first 90 % of the characters train, the rest validates."""


def read_text(path: Path) -> str:
    """Read a UTF-8 text file; raise `InputError` if it is no file, not UTF-8 or empty."""
    try:
        text = plain_file(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: byte {error.start} is wrong") from None
    if not text:
        raise InputError(f"{path} is empty; it must hold text")
    return text


def encode(text: str, characters: str) -> Tensor:
    """Return the tokens of `text`, int64 `[len(text)]`; raise `InputError` that names an unknown character."""
    codes = {character: index for index, character in enumerate(characters)}
    try:
        return torch.tensor([codes[character] for character in text], dtype=torch.int64)
    except KeyError as error:
        known = "".join(sorted(characters))
        position = text.index(error.args[0])
        raise InputError(
            f"the character {error.args[0]!r} at position {position} is not one of the model's {len(known)}: {known!r}"
        ) from None


def decode(tokens: Tensor, characters: str) -> str:
    """Return the text of tokens `[n]`."""
    return "".join(characters[token] for token in tokens.tolist())


def split(text: str) -> tuple[str, str]:
    """Return the training and the validation part of a text: the first 90 % of the characters, and the rest."""
    cut = int(len(text) * TRAINING_SHARE)
    return text[:cut], text[cut:]


def windows(tokens: Tensor, context: int) -> list[tuple[Tensor, Tensor]]:
    """Cut tokens into consecutive windows: inputs and targets, each `[count, length]`.

    Every token but the first is a target exactly once, predicted from those before it in its window. All windows have
    `context` inputs, except that the last may be shorter; that one, if it exists, is a second pair of one row.
    Raises `InputError` if there are fewer than two tokens.
    """
    if len(tokens) < 2:
        raise InputError(f"the text has {len(tokens)} token; at least 2 are needed to predict one")
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(inputs) // context * context
    pairs = []
    if whole:
        pairs.append((inputs[:whole].view(-1, context), targets[:whole].view(-1, context)))
    if whole < len(inputs):
        pairs.append((inputs[whole:][None], targets[whole:][None]))
    return pairs
