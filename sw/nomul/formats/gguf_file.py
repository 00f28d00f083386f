"""GGUF files: the metadata, and the raw bytes of each tensor, mapped into memory. What they mean is said elsewhere.

The container is read by `gguf`, the library that llama.cpp publishes; version 3 of the format, and 2, which differs in
nothing that is read here. Two steps of the library's reader are replaced:

* It makes arrays of all tensors at once, and raises on a type that its release does not list (0.19 knows neither Q2_0
  nor what bitnet.cpp and Prism added). Here a tensor keeps the number of its type, and its bytes are bounded by the
  file, so that one such tensor costs the others nothing.
* It makes several arrays of each element of a list, which takes 14 s for the tokens and merges of Qwen3. Here a list
  stays one run of bytes until it is asked for.

Source: ggml, docs/gguf.md; gguf-py, gguf/gguf_reader.py.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, ReaderField

from nomul.errors import InputError
from nomul.files import plain_file

VERSIONS = (2, 3)
"""Versions of the format that are read."""

_LIST_HEAD = 12
"""Bytes in front of the elements of a list: their type and number."""

Octets = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor as the file has it.

    Members
    -------
    name : as llama.cpp calls it.
    type : the number of its type in ggml.
    shape : as in PyTorch, [n_out, n_in] of a layer: the file has the dimensions in the other order.
    start : where its bytes begin, from the beginning of the file.
    space : bytes to where the next tensor begins, or to the end of the file.
    last : whether no tensor follows.
    """

    name: str
    type: int
    shape: tuple[int, ...]
    start: int
    space: int
    last: bool

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class _Reader(GGUFReader):
    """The library's reader, which keeps what the file says of its tensors instead of making arrays of them."""

    infos: list[ReaderField]

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind = GGUFValueType(self._get(orig_offs, np.uint32)[0])
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        start = orig_offs + _LIST_HEAD
        if kind == GGUFValueType.STRING:
            end = _end_of_strings(self.data, start, count)
        else:
            end = start + count * np.dtype(self.gguf_scalar_to_np[kind]).itemsize
        if end > len(self.data):
            raise ValueError("a list ends beyond the end of the file")
        return end - orig_offs, [self.data[start:end]], [0], [GGUFValueType.ARRAY, kind]

    def _build_tensors(self, start_offs: int, fields: list[ReaderField]) -> None:
        self.infos = fields
        self.tensors = []


class GgufFile(Mapping[str, Any]):
    """An open GGUF file: a mapping from key to value of its metadata, and its tensors.

    Members
    -------
    path : the file.
    tensors : by name, in the order of the file.
    alignment : multiple of bytes at which tensors begin.

    Raises `InputError` for a file that is cut short, is no GGUF file, or is one that is not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_start(path)
        try:
            reader = _Reader(path)
            infos = [_info(field) for field in reader.infos]
        except Exception as error:
            # The library reads beyond the end of a short file without asking; numpy then says one thing or another.
            raise InputError(f"{path} is cut short, or is no GGUF file: {error or type(error).__name__}") from None
        self.alignment = int(reader.alignment)
        self._data = reader.data
        self._fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        self.tensors = self._bounded(infos, int(reader.data_offset))

    def __getitem__(self, key: str) -> Any:
        """Return a value; a float32 as the shortest decimal that it is, so that 1e-5 is 1e-5."""
        field = self._fields[key]
        try:
            value = self._list(field) if field.types[0] == GGUFValueType.ARRAY else field.contents()
        except Exception as error:
            raise InputError(f"{self.path}: the value of {key} cannot be read: {error}") from None
        if field.types[-1] == GGUFValueType.FLOAT32:
            short = [float(str(np.float32(number))) for number in (value if isinstance(value, list) else [value])]
            return short if isinstance(value, list) else short[0]
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def read(self, tensor: RawTensor, octets: int) -> Octets:
        """Return that many bytes of a tensor, read-only and mapped."""
        return self._data[tensor.start : tensor.start + octets]

    def padded(self, octets: int) -> int:
        """Return what a tensor of that many bytes takes where another follows."""
        return -(-octets // self.alignment) * self.alignment

    def _list(self, field: ReaderField) -> list[Any]:
        octets, kind = field.parts[-1], field.types[-1]
        if kind != GGUFValueType.STRING:
            return octets.view(GGUFReader.gguf_scalar_to_np[kind]).tolist()
        whole, ends = octets.tobytes(), [0]
        while ends[-1] < len(whole):
            ends.append(ends[-1] + 8 + int.from_bytes(whole[ends[-1] : ends[-1] + 8], "little"))
        return [whole[start + 8 : end].decode("utf-8") for start, end in itertools.pairwise(ends)]

    def _bounded(self, infos: list[tuple[str, int, tuple[int, ...], int]], data: int) -> dict[str, RawTensor]:
        size = len(self._data)
        starts = sorted({data + offset for *_, offset in infos})
        found: dict[str, RawTensor] = {}
        for name, kind, shape, offset in infos:
            start = data + offset
            if name in found:
                raise InputError(f"{self.path} has two tensors called {name}")
            if 0 in shape or not shape:
                raise InputError(f"{self.path}: the tensor {name} has the shape {list(shape)}, which is empty")
            if start > size:
                raise InputError(f"{self.path} is cut short: {name} begins at byte {start:,} of {size:,}")
            last = start == starts[-1]
            end = size if last else starts[starts.index(start) + 1]
            found[name] = RawTensor(name, kind, shape, start, end - start, last)
        return found


def _end_of_strings(data: Octets, start: int, count: int) -> int:
    """Return where a list of strings ends; each has its length in front."""
    view, size = data.data, len(data)
    for _ in range(count):
        if start + 8 > size:
            break
        start += 8 + int.from_bytes(view[start : start + 8], "little")
    else:
        return start
    raise ValueError("a list of strings ends beyond the end of the file")


def _check_start(path: Path) -> None:
    plain_file(path)
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start.startswith(b"GGUF"):
        raise InputError(f"{path} is no GGUF file: it does not begin with GGUF")
    if len(start) < 8:
        raise InputError(f"{path} is cut short: it has {len(start)} bytes")
    version = int.from_bytes(start[4:], "little")
    if version & 0xFFFF == 0:
        raise InputError(f"{path} is a GGUF file in big-endian byte order, which Nomul does not read")
    if version not in VERSIONS:
        said = " and ".join(map(str, VERSIONS))
        raise InputError(f"{path} is a GGUF file of version {version}; Nomul reads the versions {said}")


def _info(field: ReaderField) -> tuple[str, int, tuple[int, ...], int]:
    """Return (name, number of the type, shape, offset) of a tensor."""
    _, name, count, sizes, kind, offset = field.parts
    if len(sizes) != int(count[0]):
        raise ValueError("the list of tensors ends early")
    shape = tuple(int(size) for size in reversed(sizes.tolist()))
    return bytes(name).decode("utf-8"), int(kind[0]), shape, int(offset[0])
