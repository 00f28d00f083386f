"""Safetensors containers: one file, or a directory of shards, as one lazy mapping from name to tensor.

Nothing is read but headers until a tensor is asked for. Every fault of a file becomes one `InputError`.
"""

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nomul.errors import InputError
from nomul.files import plain_file, replace_file

INDEX = "model.safetensors.index.json"
"""The file of a Hugging Face directory that says which shard holds which tensor."""

FOREIGN = {b"PK\x03\x04": "PyTorch (zip)", b"\x80\x02": "PyTorch (pickle)"}
"""First bytes of files that hold weights in other formats, and what these are called."""

REMEDY = "it reads the safetensors files that such a file is made from"
"""What would do instead of them."""

_BITS = {"BOOL": 8, "BF16": 16} | {f"{kind}{bits}": bits for kind in "UIF" for bits in (8, 16, 32, 64)}


class Container(Mapping[str, Tensor]):
    """The tensors of one or more safetensors files, read when they are asked for; layer 2 comes before layer 10.

    Parameters
    ----------
    path : the file or directory that was opened, for messages.
    files : shards, in order; a name that occurs in two of them is an error.

    Raises `InputError` when a file is missing, truncated or no safetensors file.
    """

    kept: Mapping[str, Tensor] | None = None
    """Files of the model that its container itself has, so that none beside it count."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = path
        self.files = files
        self.metadata: dict[str, str] = {}
        found: dict[str, Any] = {}
        for file in files:
            shard = _open_file(file)
            self.metadata |= shard.metadata() or {}
            for name in shard.keys():  # noqa: SIM118 (a shard is no mapping)
                if name in found:
                    raise InputError(f"{file} holds the tensor {name}, which another shard of {path} holds too")
                found[name] = shard
        self._shards = dict(sorted(found.items(), key=lambda item: _natural(item[0])))

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor; `KeyError` if there is none of that name."""
        shard = self._shards[name]
        try:
            return shard.get_tensor(name)
        except SafetensorError as error:
            raise InputError(f"{self.path}: the tensor {name} cannot be read: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return tuple(self._shards[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Return the type of a tensor as safetensors writes it (`U8`, `BF16`, `F32`, ...), without reading it."""
        return self._shards[name].get_slice(name).get_dtype()

    def numel(self, name: str) -> int:
        """Return the number of elements of a tensor without reading it."""
        return math.prod(self.shape(name))

    def nbytes(self, name: str) -> int:
        """Return the number of bytes of a tensor's data without reading it."""
        return self.numel(name) * _BITS.get(self.dtype(name), 8) // 8

    def without(self, names: set[str]) -> Mapping[str, Tensor]:
        """Return the same mapping less the tensors in `names`, still read when they are asked for."""
        return _Subset(self, [name for name in self if name not in names])


class _Subset(Mapping[str, Tensor]):
    def __init__(self, container: Container, names: list[str]) -> None:
        self._container = container
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._container[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_container(path: Path | str) -> Container:
    """Open a safetensors or GGUF file, or a directory with `model.safetensors.index.json` or one file of these kinds.

    A directory's GGUF file counts where it has no safetensors file. Raises `InputError` when there is nothing to open
    or when a shard that the index names is missing or incomplete.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; a checkpoint is a safetensors file or a directory that holds some")
    gguf = _gguf_file(path)
    if gguf is not None:
        status = gguf.stat()
        return _open_gguf(gguf, status.st_mtime_ns, status.st_size)
    if not path.is_dir():
        return Container(path, [path])
    if (path / INDEX).exists():
        return _open_index(path)
    files = sorted(path.glob("*.safetensors"))
    if not files:
        others = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
        found = f"only {', '.join(others)}" if others else "none"
        raise InputError(f"{path} is a directory without a checkpoint: it needs *.safetensors files and has {found}")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{path} holds {names} but no {INDEX} that says which of them belong to the model")
    return Container(path, files)


def _gguf_file(path: Path) -> Path | None:
    """Return the GGUF file that a path is or holds; `InputError` if it holds several, and nothing else."""
    if path.is_file():
        with path.open("rb") as stream:
            return path if stream.read(4) == b"GGUF" else None
    files = sorted(path.glob("*.gguf"))
    if not files or (path / INDEX).exists() or any(path.glob("*.safetensors")):
        return None
    if len(files) > 1:
        raise InputError(f"{path} holds {', '.join(file.name for file in files)}; name one of them")
    return files[0]


@functools.lru_cache(maxsize=1)
def _open_gguf(path: Path, modified: int, size: int) -> Container:
    # It is a container itself, so that it needs this module. A command opens its model several times, and the metadata
    # of one may take a second.
    from nomul.formats.gguf_model import GgufModel

    return GgufModel(path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds; `InputError` if it holds anything else."""
    return json_object(plain_file(path).read_bytes(), str(path))


def json_object(content: bytes, name: str) -> dict[str, Any]:
    """Return the JSON object, in UTF-8, that a file called `name` holds; `InputError` if it holds anything else."""
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{name} holds a JSON {type(value).__name__} where an object is needed")
    return value


def write_container(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> bool:
    """Write a safetensors file, never half of it, and the same bytes for the same content.

    Returns True if the file changed. Raises `InputError` if it cannot be written.
    """

    def write(file: Path) -> None:
        # The library makes files that only their owner may read; keep the mode that a new file would have.
        file.touch()
        mode = file.stat().st_mode
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata=metadata)
        file.chmod(mode)
        _sort_metadata(file)

    try:
        return replace_file(Path(path), write)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be written: {error}") from None


def _sort_metadata(file: Path) -> None:
    # The library writes the metadata in random order; sorted, equal checkpoints are equal files.
    with file.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) != length:
            raise AssertionError(f"{file}: the sorted header has {len(text)} bytes instead of {length}")
        stream.seek(8)
        stream.write(text)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _open_file(file: Path) -> Any:
    if not file.is_file():
        raise InputError(f"{file} is not a file; a safetensors file is needed")
    if file.stat().st_size == 0:
        raise InputError(f"{file} is empty; a safetensors file is needed")
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        with file.open("rb") as stream:
            start = stream.read(4)
        for magic, kind in FOREIGN.items():
            if start.startswith(magic):
                raise InputError(f"{file} is a {kind} file, which Nomul does not read; {REMEDY}") from None
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise InputError(f"{file} is truncated or no safetensors file: {reason}") from None


def _open_index(path: Path) -> Container:
    index = read_json_object(path / INDEX)
    weight_map, described = index.get("weight_map"), index.get("metadata")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InputError(f"{path / INDEX} has no object weight_map from tensor to file")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{path / INDEX} names the shard {name!r}; a shard is a file beside the index")
        if not (path / name).is_file():
            raise InputError(f"{path / INDEX} names the shard {name}, which is missing from {path}")
    container = Container(path, [path / name for name in names])
    missing = [tensor for tensor in weight_map if tensor not in container]
    if missing:
        raise InputError(
            f"{path}: the shard {weight_map[missing[0]]} lacks the tensor {missing[0]} that the index names "
            f"({len(missing)} such tensors in all)"
        )
    if isinstance(described, dict):
        container.metadata |= {f"index.{key}": str(value) for key, value in described.items()}
    return container
