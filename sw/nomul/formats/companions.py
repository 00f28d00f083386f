"""What lies beside a model's weights: files that a copy of the model keeps, and what is not read and hence said."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.container import INDEX, Container

PREFIX = "files/"
"""What the names of a dense file's tensors begin with that are files: `files/tokenizer.json`, uint8 [bytes]."""

KEPT = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json", "merges.txt",
    "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
)  # fmt: skip
"""Files that make a model speak, by the names that transformers gives them."""

USED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
"""Those of them that turn text into tokens and back."""

READ = ("config.json", "quantize_config.json", "quant_config.json", INDEX)
"""Files beside the weights that are read."""

METADATA = ("format", "config", "layers", "index.total_size", "index.total_parameters")
"""Keys of a container's metadata that are known."""


class Files(Mapping[str, Tensor]):
    """Files by name, read when they are asked for."""

    def __init__(self, readers: dict[str, Callable[[], Tensor]]) -> None:
        self._readers = readers

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def companions(container: Container) -> Mapping[str, Tensor]:
    """Return the kept files of a model by name, each as uint8 [bytes]: from within its file, or from its folder.

    A folder counts if it has a config.json. Raises `InputError` for a file in a dense file that is none of `KEPT`.
    """
    if container.kept is not None:
        return container.kept
    readers: dict[str, Callable[[], Tensor]] = {}
    for tensor in container:
        if not tensor.startswith(PREFIX):
            continue
        name = tensor.removeprefix(PREFIX)
        if name not in KEPT or container.dtype(tensor) != "U8" or len(container.shape(tensor)) != 1:
            raise InputError(
                f"{container.path}: the tensor {tensor} is no file that Nomul knows; allowed are U8 vectors called "
                f"{PREFIX}NAME, NAME being one of {', '.join(KEPT)}"
            )
        readers[name] = partial(container.__getitem__, tensor)
    folder = _folder(container)
    if folder and not readers:
        readers = {name: partial(_octets, folder / name) for name in KEPT if (folder / name).is_file()}
    return Files(readers)


def _octets(file: Path) -> Tensor:
    return torch.from_numpy(np.fromfile(file, np.uint8))


def notes_beside(container: Container, *, kept: bool) -> tuple[str, ...]:
    """Return a sentence for what lies in a model's folder and metadata without being read.

    `kept` says whether the kept files go into the copy that is being made.
    """
    notes = [
        f"the metadata of the file says {key} = {value[:60]!r}, which Nomul does not know and does not use"
        for key, value in container.metadata.items()
        if key not in METADATA
    ]
    beside = [name for name in companions(container) if kept or name not in USED]
    if beside:
        notes.append(f"{', '.join(beside)}: {'kept as they are' if kept else 'not used'}")
    folder = _folder(container)
    if folder:
        known = {*KEPT, *READ, *(file.name for file in container.files)}
        others = sorted(file.name for file in folder.iterdir() if file.name not in known and file.name[0] != ".")
        if others:
            more = f" and {len(others) - 8} more" if len(others) > 8 else ""
            notes.append(f"in the same folder and not read: {', '.join(others[:8])}{more}")
    return tuple(notes)


def _folder(container: Container) -> Path | None:
    if container.kept is not None:
        return None
    folder = container.path if container.path.is_dir() else container.path.parent
    return folder if (folder / "config.json").is_file() else None
