"""safetensors files: read strictly, and written as safetensors' own writer writes them, byte for byte.

Eight bytes give the length of a JSON header, little-endian; the header names tensors and says where their bytes lie
in what follows it. Source: the format's description in safetensors 0.8, and its Rust crate for the order of writing.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metta_hub.checkpoint import BITS, Storage, TensorInfo, Weights
from metta_hub.containers import copying
from metta_hub.containers.blocks import Part, Written
from metta_hub.containers.dtypes import RANK
from metta_hub.containers.pickles import paused_gc
from metta_hub.errors import FormatError

#: What `containers.sniff` and `Origin.container` call these files.
CONTAINER = "safetensors"

#: Longest header, in bytes: the limit of safetensors' own reader.
MAX_HEADER = 100_000_000

#: Most tensors, dimensions of one, and the largest number in a header.
MAX_TENSORS = 200_000
_MAX_DIMENSIONS = 64
_MAX_NUMBER = (1 << 63) - 1

#: Most of these marks that a header may have per tensor: brackets, numbers of a shape and offsets, five texts.
_MOST = {b"{": 1, b"[": 2, b",": _MAX_DIMENSIONS + 5, b'"': 12}

_PREFIX = 8
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Attributes:
        weights: the tensors, in the order of their bytes, each in a storage of its own name.
        metadata: the free text beside them.
    """

    weights: Weights
    metadata: Mapping[str, str]


def read(path: Path) -> Weights:
    """The tensors of a file, in the order of their bytes.

    Raises:
        FormatError: it is damaged, cut short, or claims something impossible.
    """
    return look(path).weights


def look(path: Path) -> Header:
    """The whole header of a file.

    Raises:
        FormatError: it is damaged, cut short, or claims something impossible.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_PREFIX)
        return parse(start + file.read(header_size(start, size, path) - _PREFIX), size, path)


def header_size(start: bytes, size: int, path: Path | str) -> int:
    """How many of the first bytes of a file `parse_header` needs.

    Args:
        start: its first bytes, eight or more.
        size: of the whole file, in bytes.
        path: the file, for errors.

    Raises:
        FormatError: the header cannot be that long.
    """
    if size < _PREFIX or len(start) < _PREFIX:
        raise FormatError(path, f"it has {size} bytes; a safetensors file has more than {_PREFIX}")
    length = int.from_bytes(start[:_PREFIX], "little")
    if length > MAX_HEADER:
        raise FormatError(path, f"its header claims {length:,} bytes; {MAX_HEADER:,} is the limit")
    if length > size - _PREFIX:
        raise FormatError(path, f"the file is incomplete: its header claims {length:,} bytes, it has {size:,} in all")
    return _PREFIX + length


def parse_header(start: bytes, size: int, path: Path | str) -> Weights:
    """The tensors of a file of which only the beginning is at hand.

    Args:
        start: at least the first `header_size` bytes.
        size: of the whole file, in bytes.
        path: the file; the storages name it, so reading their bytes needs it to be a local one.

    Raises:
        FormatError: it is damaged, cut short, or claims something impossible.
    """
    return parse(start, size, path).weights


def parse(start: bytes, size: int, path: Path | str) -> Header:
    """As `parse_header`, with the metadata."""
    data_start = header_size(start, size, path)
    if len(start) < data_start:
        raise FormatError(path, f"of its header of {data_start:,} bytes, {len(start):,} are there")
    with paused_gc():
        entries = _loads(start[_PREFIX:data_start], path)
        metadata = _metadata(entries.pop(_METADATA, {}), path)
        placed = sorted(
            (_tensor(name, entry, path) for name, entry in entries.items()), key=lambda item: (item[1], item[2])
        )
        _check_places(placed, size - data_start, path)
        storages = {tensor.name: Storage(Path(path), data_start + begin, end - begin) for tensor, begin, end in placed}
    return Header(Weights(tuple(tensor for tensor, _, _ in placed), storages), metadata)


# --- the header ---


def _loads(header: bytes, path: Path | str) -> dict[str, Any]:
    """The header's JSON object. What would take much memory is counted before it is parsed."""
    if header[:1] != b"{":
        raise FormatError(path, "its header does not begin with '{'")
    if any(header.count(mark) > most * MAX_TENSORS + 100 for mark, most in _MOST.items()):
        raise FormatError(path, f"its header has more than {MAX_TENSORS:,} tensors")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise FormatError(path, f"its header holds the key '{twice}' twice")
        return found

    def constant(name: str) -> None:
        raise FormatError(path, f"its header holds {name}, which is not JSON")

    try:
        loaded = json.loads(header.decode(), object_pairs_hook=unique, parse_constant=constant)
    except UnicodeDecodeError:
        raise FormatError(path, "its header is not UTF-8") from None
    except RecursionError:
        raise FormatError(path, "its header is nested too deeply") from None
    except ValueError as error:
        raise FormatError(path, f"its header is not JSON: {error}") from None
    return dict(loaded)


def _metadata(value: object, path: Path | str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FormatError(path, f"its {_METADATA} is not text by name")
    return value


def _tensor(name: str, entry: object, path: Path | str) -> tuple[TensorInfo, int, int]:
    """A tensor, and where its bytes begin and end in the data."""
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise FormatError(path, f"the header's entry for '{name}' is not dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise FormatError(path, f"the tensor '{name}' has the dtype {dtype!r}, which torch does not have")
    if not (_are_numbers(shape) and _are_numbers(offsets) and len(shape) <= _MAX_DIMENSIONS and len(offsets) == 2):  # noqa: PLR2004 - begin, end
        raise FormatError(path, f"the tensor '{name}' has a shape or offsets that no tensor can have")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise FormatError(path, f"the name {name!r} is not text") from None
    begin, end = offsets
    bits = math.prod(shape) * BITS[dtype]
    if bits != (end - begin) * 8:
        claim = f"takes {-(-bits // 8):,} bytes by its dtype and shape, {end - begin:,} by its offsets"
        raise FormatError(path, f"the tensor '{name}' {claim}")
    return TensorInfo(name, dtype, tuple(shape), _contiguous(shape), name, 0), begin, end


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= _MAX_NUMBER for number in value)


def _contiguous(shape: list[int]) -> tuple[int, ...]:
    """Steps of a row-major tensor, as torch gives them: a dimension of size 0 counts as 1."""
    steps = []
    step = 1
    for size in reversed(shape):
        steps.append(step)
        step *= max(1, size)
    return tuple(reversed(steps))


def _check_places(placed: list[tuple[TensorInfo, int, int]], size: int, path: Path | str) -> None:
    """The tensors must fill the data from end to end."""
    reached = 0
    for tensor, begin, end in placed:
        if begin < reached:
            raise FormatError(path, f"the tensor '{tensor.name}' overlaps another")
        if begin > reached:
            raise FormatError(path, f"{begin - reached:,} bytes before the tensor '{tensor.name}' belong to nothing")
        reached = end
    if reached > size:
        raise FormatError(path, f"the file is incomplete: it has {size:,} of {reached:,} bytes of tensors")
    if reached < size:
        raise FormatError(path, f"{size - reached:,} bytes follow its last tensor")


# --- writing ---


def write(weights: Weights, path: Path, *, hashed: bool = True, bare: bool = False) -> Written:
    """Write every tensor under its own name, tied ones too; the same table gives the same bytes.

    Checksums that the source records are compared on the way.

    Args:
        weights: any strides; none may be named `__metadata__`.
        path: as `copying.write` takes it.
        hashed: whether `Written.sha256` is wanted.
        bare: leave out the note that the tensors are PyTorch's.

    Raises:
        FormatError: a name cannot stand in the header.
        ChecksumError: a storage does not have its recorded checksum; `path` is then half written.
        SourceChangedError: a source file ended too early.
    """
    ordered = sorted(weights.tensors, key=lambda tensor: (-RANK[tensor.dtype], tensor.name))
    unchecked = {key: storage for key, storage in weights.storages.items() if storage.crc32 is not None}
    written = copying.write(_parts(weights, ordered, unchecked, _header(ordered, path, bare=bare)), path, hashed=hashed)
    copying.verify(unchecked)
    return written


def _parts(weights: Weights, ordered: list[TensorInfo], unchecked: dict[str, Storage], header: bytes) -> Iterator[Part]:
    """The file from its first byte to its last; takes from `unchecked` what is checked on the way."""
    yield header
    for tensor in ordered:
        storage = weights.storages[tensor.storage]
        if storage.deflated is not None:
            unchecked.pop(tensor.storage, None)  # inflating checks
        for part in copying.tensor_parts(tensor, storage):
            if not isinstance(part, bytes) and part.checksum is not None:
                unchecked.pop(tensor.storage, None)
            yield part


def _header(ordered: list[TensorInfo], path: Path, *, bare: bool) -> bytes:
    entries: dict[str, object] = {} if bare else {_METADATA: {"format": "pt"}}
    position = 0
    for tensor in ordered:
        if tensor.name == _METADATA:
            raise FormatError(path, f"a tensor cannot be named '{_METADATA}' in a safetensors file")
        end = position + tensor.nbytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (position, end)}
        position = end
    try:
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise FormatError(path, "a name of a tensor is not text, so it cannot stand in a safetensors file") from None
    text += b" " * (-len(text) % _PREFIX)
    return len(text).to_bytes(_PREFIX, "little") + text
