"""The tokenizer in the metadata of a GGUF file, as the files by which Hugging Face's libraries read it.

`tokenizer.ggml.model` is `gpt2` (byte-level BPE, with merges and the name of a pattern that splits the text first) or
`llama` (SentencePiece BPE: a score for each token, and the pair of highest score is merged first). Both become BPE of
the library `tokenizers`; the merges of the second are all pairs of tokens that make a token, best score first.

Tokens have a type: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Control tokens are special; unused
ones only fill the embedding, and are left out.

Sources: llama.cpp, src/llama-vocab.cpp; gguf-py, gguf/constants.py; SentencePiece, src/bpe_model.cc.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.companions import Files

PREFIX = "tokenizer.ggml."
"""What the keys of the tokenizer begin with."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

PATTERNS = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3"), _WORDS % r"\p{N}{1,3}"),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _WORDS % r"\p{N}"),
    "gpt-2": None,
}
"""Values of `tokenizer.ggml.pre` that are read, with the pattern that splits text; None is the one of GPT-2 itself."""

UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 2, 3, 4, 5
"""Types of tokens that are treated apart."""

SPACE = "\u2581"
"""What SentencePiece writes for a space."""


def tokenizer_files(metadata: Mapping[str, Any]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return the files, made when they are asked for, by name; and a sentence for a tokenizer that is not read."""
    readers: dict[str, Callable[[], Tensor]] = {}
    untold: tuple[str, ...] = ()
    if f"{PREFIX}model" in metadata:
        reason = _unread(metadata)
        if reason is None:
            readers["tokenizer.json"] = partial(_octets, _tokenizer, metadata)
            readers["tokenizer_config.json"] = partial(_octets, _config, metadata)
            readers["generation_config.json"] = partial(_octets, _generation, metadata)
        else:
            untold = (f"the tokenizer is left out: {reason}",)
    if "tokenizer.chat_template" in metadata:
        readers["chat_template.jinja"] = partial(_octets, _template, metadata)
    return Files(readers), untold


def _unread(metadata: Mapping[str, Any]) -> str | None:
    """Say why a tokenizer is not read; None for one that is."""
    model, pre = metadata[f"{PREFIX}model"], metadata.get(f"{PREFIX}pre")
    if model not in ("gpt2", "llama"):
        return f"{PREFIX}model is {model!r}; Nomul reads 'gpt2' and 'llama'"
    needed = ("tokens", "merges", "pre") if model == "gpt2" else ("tokens", "scores")
    for key in needed:
        if f"{PREFIX}{key}" not in metadata:
            return f"the metadata has no {PREFIX}{key}, which '{model}' needs"
    if model == "gpt2" and pre not in PATTERNS:
        return f"{PREFIX}pre is {pre!r}; Nomul reads {', '.join(PATTERNS)}"
    return None


def _octets(make: Callable[[Mapping[str, Any]], str], metadata: Mapping[str, Any]) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(make(metadata).encode("utf-8")), np.uint8))


def _tokenizer(metadata: Mapping[str, Any]) -> str:
    tokens: list[str] = metadata[f"{PREFIX}tokens"]
    types = metadata.get(f"{PREFIX}token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise InputError(f"{PREFIX}token_type has {len(types)} numbers for {len(tokens)} tokens")
    vocabulary = {token: place for place, token in enumerate(tokens) if types[place] != UNUSED}
    byte_level = metadata[f"{PREFIX}model"] == "gpt2"
    try:
        found = _byte_level(metadata, vocabulary) if byte_level else _sentencepiece(metadata, vocabulary)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the tokenizer in the metadata is broken: {error}") from None
    for place, token in enumerate(tokens):
        if types[place] in (UNKNOWN, CONTROL):
            found.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif types[place] == USER_DEFINED:
            found.add_tokens([AddedToken(token, special=False, normalized=False)])
    bos = _special(metadata, "bos")
    if _adds_bos(metadata) and bos is not None:
        template = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A {tokens[bos]}:1 $B:1",
            special_tokens=[(tokens[bos], bos)],
        )
        own = [processors.ByteLevel(trim_offsets=False)] if byte_level else []
        found.post_processor = processors.Sequence([*own, template])
    return found.to_str()


def _byte_level(metadata: Mapping[str, Any], vocabulary: dict[str, int]) -> Tokenizer:
    pre = metadata[f"{PREFIX}pre"]
    pairs = [tuple(merge.split(" ", 1)) for merge in metadata[f"{PREFIX}merges"]]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise InputError(f"{PREFIX}merges has {wrong[0]!r}, which is no pair of tokens")
    found = Tokenizer(BPE(vocabulary, pairs, ignore_merges=PATTERNS[pre] == PATTERNS["llama-bpe"]))
    pattern = PATTERNS[pre]
    splits = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated", False)]
    octets = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    found.pre_tokenizer = pre_tokenizers.Sequence([*splits, octets])
    if pattern == PATTERNS["qwen2"]:
        found.normalizer = normalizers.NFC()
    found.decoder = decoders.ByteLevel()
    found.post_processor = processors.ByteLevel(trim_offsets=False)
    return found


def _sentencepiece(metadata: Mapping[str, Any], vocabulary: dict[str, int]) -> Tokenizer:
    scores: list[float] = metadata[f"{PREFIX}scores"]
    ranked = []
    for token, place in vocabulary.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                ranked.append((-scores[place], place, vocabulary[left], left, right))
    pairs = [(left, right) for *_, left, right in sorted(ranked)]
    unknown = _special(metadata, "unknown")
    name = next((token for token, place in vocabulary.items() if place == unknown), None)
    found = Tokenizer(BPE(vocabulary, pairs, unk_token=name, fuse_unk=True, byte_fallback=True))
    prefix = metadata.get(f"{PREFIX}add_space_prefix", True)
    first = [normalizers.Prepend(SPACE)] if prefix else []
    found.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    found.decoder = decoders.Sequence(steps)
    return found


def _special(metadata: Mapping[str, Any], name: str) -> int | None:
    place = metadata.get(f"{PREFIX}{name}_token_id")
    if place is None and name == "unknown" and metadata[f"{PREFIX}model"] == "llama":
        place = 0
    count = len(metadata[f"{PREFIX}tokens"])
    if place is not None and not 0 <= place < count:
        raise InputError(f"{PREFIX}{name}_token_id is {place}, but there are {count} tokens")
    return place


def _adds_bos(metadata: Mapping[str, Any]) -> bool:
    """Say whether text begins with the first token; where the file does not say, as llama.cpp takes it."""
    usual = metadata[f"{PREFIX}model"] == "llama" or PATTERNS[metadata[f"{PREFIX}pre"]] == PATTERNS["llama-bpe"]
    return bool(metadata.get(f"{PREFIX}add_bos_token", usual))


def _config(metadata: Mapping[str, Any]) -> str:
    tokens = metadata[f"{PREFIX}tokens"]
    said: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": _adds_bos(metadata)}
    for name, theirs in (("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")):
        place = _special(metadata, name)
        if place is not None:
            said[f"{theirs}_token"] = tokens[place]
    return json.dumps(said | {"clean_up_tokenization_spaces": False}, indent=2, ensure_ascii=False) + "\n"


def _generation(metadata: Mapping[str, Any]) -> str:
    """Return the ids of special tokens; a text ends with the end of a turn too."""
    ends = [place for place in (_special(metadata, "eos"), _special(metadata, "eot")) if place is not None]
    said: dict[str, Any] = {"bos_token_id": _special(metadata, "bos"), "pad_token_id": _special(metadata, "padding")}
    said["eos_token_id"] = list(dict.fromkeys(ends)) if len(set(ends)) > 1 else (ends[0] if ends else None)
    return json.dumps({key: value for key, value in said.items() if value is not None}, indent=2) + "\n"


def _template(metadata: Mapping[str, Any]) -> str:
    return str(metadata["tokenizer.chat_template"])
