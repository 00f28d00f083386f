"""Text as tokens: the characters of a model, or the tokenizer that it came with (`tokenizer.json`)."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.container import json_object
from nomul.model.text import encode

__all__ = ["CharacterTokenizer", "FileTokenizer", "Tokenizer", "find_tokenizer"]


class Tokenizer(Protocol):
    """Turns text into the tokens of a model and back."""

    unit: str
    """What a token is, in a word."""

    stops: frozenset[int]
    """Tokens that end a text."""

    def encode(self, text: str) -> Tensor:
        """Return the tokens of a text, int64 `[n]`; `InputError` that names what has no token."""

    def decoder(self) -> Callable[[int], str]:
        """Return a function that takes one token after another and returns the text that each adds."""


class CharacterTokenizer:
    """The tokenizer of the models that Nomul trains: character `i` of `characters` is token `i`."""

    unit = "character"
    stops: frozenset[int] = frozenset()

    def __init__(self, characters: str) -> None:
        if len(set(characters)) != len(characters) or len(characters) < 2:
            raise InputError("characters must name at least two different characters, each once")
        self.characters = characters

    def encode(self, text: str) -> Tensor:
        """Return the tokens of a text; `InputError` that names a character which is none of the model's."""
        return encode(text, self.characters)

    def decoder(self) -> Callable[[int], str]:
        """Return what gives the character of a token."""
        return self.characters.__getitem__


class FileTokenizer:
    """A tokenizer as Hugging Face's library keeps it, with the chat template of its model.

    Parameters
    ----------
    text : contents of `tokenizer.json`.
    settings : objects of `tokenizer_config.json` and `generation_config.json`, empty if there are none.
    template : the chat template (Jinja), if there is one.

    Raises `InputError` if the library cannot read the text.
    """

    unit = "token"

    def __init__(self, text: str, settings: Mapping[str, Any], template: str | None = None) -> None:
        from tokenizers import Tokenizer as Library

        try:
            self.library = Library.from_str(text)
        except Exception as error:
            raise InputError(f"tokenizer.json cannot be read: {str(error).splitlines()[0]}") from None
        self.settings, self.template = settings, template
        self.stops = self._stops()

    def _stops(self) -> frozenset[int]:
        """Return the tokens that end a text: those of generation_config.json, and the eos token by name."""
        numbers = self.settings.get("eos_token_id")
        found = {n for n in (numbers if isinstance(numbers, list) else [numbers]) if type(n) is int}
        name = _word(self.settings.get("eos_token"))
        token = self.library.token_to_id(name) if name else None
        return frozenset(found | ({token} if token is not None else set()))

    def encode(self, text: str) -> Tensor:
        """Return the tokens of a text, with the special tokens that the tokenizer adds."""
        return torch.tensor(self.library.encode(text).ids, dtype=torch.int64)

    def decoder(self) -> Callable[[int], str]:
        """Return what gives the text that each token adds; a character may need several tokens."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(self.library, token) or ""

    def chat(self, message: str) -> str:
        """Return a user's message as the model was taught to take it, ready for its answer.

        Raises `InputError` if the model has no chat template, or the template fails.
        """
        if self.template is None:
            raise InputError("the model has no chat template; leave --chat out to have the prompt continued")
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(reason: str) -> None:
            raise jinja2.TemplateError(reason)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        special = {name: _word(self.settings.get(name)) or "" for name in ("bos_token", "eos_token")}
        messages = [{"role": "user", "content": message}]
        try:
            chosen = environment.from_string(self.template)
            return chosen.render(messages=messages, add_generation_prompt=True, **special)
        except jinja2.TemplateError as error:
            raise InputError(f"the chat template cannot be used: {error}") from None


def _word(value: Any) -> str | None:
    """Return a token's text, which a config may give as an object."""
    return value.get("content") if isinstance(value, Mapping) else value if isinstance(value, str) else None


def find_tokenizer(config: Mapping[str, Any], files: Mapping[str, Tensor], source: str) -> Tokenizer:
    """Return a model's tokenizer, from its config (`characters`) or its files.

    `source` names the model in messages. Raises `InputError` if there is none, or one that cannot be read.
    """
    characters = config.get("characters")
    try:
        if isinstance(characters, str):
            return CharacterTokenizer(characters)
        if "tokenizer.json" not in files:
            kept = next((name for name in ("tokenizer.model", "vocab.json", "vocab.txt") if name in files), None)
            raise InputError(
                "there is no tokenizer.json, which turns text into tokens"
                + (f"; of {kept} transformers makes one: AutoTokenizer.from_pretrained(...).save_pretrained(...)"
                   if kept else "")
            )  # fmt: skip
        settings = {**_object(files, "tokenizer_config.json"), **_object(files, "generation_config.json")}
        template = _text(files, "chat_template.jinja") or settings.get("chat_template")
        return FileTokenizer(_text(files, "tokenizer.json") or "", settings, template)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _text(files: Mapping[str, Tensor], name: str) -> str | None:
    if name not in files:
        return None
    try:
        return files[name].numpy().tobytes().decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text") from None


def _object(files: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    return json_object(files[name].numpy().tobytes(), name) if name in files else {}
