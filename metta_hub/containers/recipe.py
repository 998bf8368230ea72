"""The recipe of a `.pt`: its bytes that are not tensor bytes. With a mirror of the tensors it gives the file back.

A recipe is
    eight bytes "METTAHR" and the version, 1;
    the size of the `.pt` in bytes, the length of the body in bytes, each eight bytes little-endian;
    the sha256 of the `.pt`, 32 bytes;
    the body, compressed with bz2: one implementation everywhere, so the same file gives the same recipe everywhere.
The body is one line of JSON, a newline, and the literal bytes one after the other. The line is a list of what the
`.pt` consists of: a number is so many literal bytes; [name, start, size] is so many bytes of that tensor's values.

A new version: add its reader beside this one, and keep a recipe of the old version in the tests.
"""

import bz2
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from metta_hub.checkpoint import Weights
from metta_hub.containers import copying, torch_file
from metta_hub.containers.blocks import Files, Part, Range, Written
from metta_hub.containers.torch_file import TorchFile
from metta_hub.errors import ChecksumError, FormatError

_HEAD = Struct("<8sQQ32s")
_MAGIC = b"METTAHR\x01"

#: Most literal bytes and segments: a `.pt` with more of them is not worth a recipe.
MAX_BODY = 32 << 20
MAX_SEGMENTS = 500_000

_MAX_SIZE = (1 << 63) - 1

#: A recipe over this part of its `.pt` is not worth keeping: the `.pt` itself is.
_WORTHWHILE_PART = 10


class _Segment(NamedTuple):
    """A stretch of the `.pt`: bytes of a tensor, or literal ones where the name is None."""

    name: str | None
    start: int
    size: int


@dataclass(frozen=True)
class Recipe:
    """A recipe that was looked at.

    Attributes:
        size: of the `.pt`, in bytes.
        sha256: of the `.pt`, hexadecimal.
        segments: what it consists of.
        literals: its bytes that are not tensor bytes.
        container: which of torch's two the `.pt` is.
        pickle: the one of its tensors, which is among the literals.
    """

    size: int
    sha256: str
    segments: tuple[_Segment, ...] = field(repr=False)
    literals: bytes = field(repr=False)
    container: str
    pickle: bytes = field(repr=False)


def worthwhile(size: int, pt_size: int) -> bool:
    """Whether a recipe of `size` bytes is worth keeping for a `.pt` of `pt_size` bytes."""
    return 0 < size * _WORTHWHILE_PART <= pt_size


# --- making ---


def make(found: TorchFile, original: Written) -> bytes:
    """Make the recipe of a plain `.pt`.

    Args:
        found: the file, read.
        original: its size and sha256.

    Returns:
        The recipe; empty when more than 32 MiB of the file are not tensor bytes, or those are compressed.

    Raises:
        NotPlainError: the file is not plain.
        SourceChangedError: it became shorter meanwhile.
    """
    if any(storage.deflated is not None for storage in found.weights.storages.values()):
        return b""
    segments = _segments(found)
    literal = [(at, segment.size) for at, segment in _placed(segments) if segment.name is None]
    listed = [segment.size if segment.name is None else list(segment) for segment in segments]
    line = json.dumps(listed, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
    length = len(line) + sum(size for _, size in literal)
    if length > MAX_BODY or len(segments) > MAX_SEGMENTS:
        return b""
    body = bytearray(line)
    with Files() as files:
        for at, size in literal:
            piece = bytearray(size)
            files.read_into(memoryview(piece), found.path, at)
            body += piece
    head = _HEAD.pack(_MAGIC, original.size, length, bytes.fromhex(original.sha256))
    return head + bz2.compress(bytes(body))


def _segments(found: TorchFile) -> list[_Segment]:
    """Cut the file into values of contiguous tensors, and the rest."""
    weights = found.weights
    stretches = sorted(
        (weights.storages[tensor.storage].offset + tensor.offset, -tensor.nbytes, index)
        for index, tensor in enumerate(weights.tensors)
        if tensor.contiguous and tensor.nbytes and not tensor.marked
    )
    segments: list[_Segment] = []
    reached = 0
    for begin, negative, index in stretches:
        end = begin - negative
        if end <= reached:
            continue  # tied, or a view of what is there already
        start = max(begin, reached)
        if start > reached:
            segments.append(_Segment(None, 0, start - reached))
        segments.append(_Segment(weights.tensors[index].name, start - begin, end - start))
        reached = end
    if reached < found.size:
        segments.append(_Segment(None, 0, found.size - reached))
    return segments


def _placed(segments: list[_Segment] | tuple[_Segment, ...]) -> Iterator[tuple[int, _Segment]]:
    at = 0
    for segment in segments:
        yield at, segment
        at += segment.size


# --- reading ---


def look(recipe: bytes, path: Path | str) -> Recipe:
    """Read a recipe.

    Args:
        recipe: its bytes.
        path: where they come from, for errors.

    Raises:
        FormatError: it is damaged, of a later version, or claims something impossible.
    """
    size, sha256, line, literals = _unpack(recipe, path)
    segments = _parse(line, path)
    if sum(segment.size for segment in segments) != size:
        raise FormatError(path, f"its segments do not add up to the {size:,} bytes of its .pt")
    if sum(segment.size for segment in segments if segment.name is None) != len(literals):
        raise FormatError(path, "its literal bytes are not as many as its segments name")
    return Recipe(size, sha256, segments, literals, *_pickle(segments, literals, size, path))


def _unpack(recipe: bytes, path: Path | str) -> tuple[int, str, bytes, bytes]:
    """Size and sha256 of the `.pt`, the line of JSON, and the literal bytes."""
    if len(recipe) < _HEAD.size or recipe[:7] != _MAGIC[:7]:
        raise FormatError(path, "it is not a recipe")
    magic, size, length, sha256 = _HEAD.unpack_from(recipe)
    if magic != _MAGIC:
        hint = "pip install --upgrade metta-hub"
        raise FormatError(path, f"it is a recipe of version {magic[7]}; this metta_hub reads version 1", hint=hint)
    if length > MAX_BODY:
        raise FormatError(path, f"its body claims {length:,} bytes; {MAX_BODY:,} is the limit")
    decompressor = bz2.BZ2Decompressor()
    try:
        body = decompressor.decompress(recipe[_HEAD.size :], max_length=length + 1)
    except (OSError, EOFError):
        raise FormatError(path, "its body is damaged") from None
    if len(body) != length or not decompressor.eof or decompressor.unused_data:
        raise FormatError(path, f"its body is not the {length:,} bytes that it claims")
    line, _, literals = body.partition(b"\n")
    return size, sha256.hex(), line, literals


def _parse(line: bytes, path: Path | str) -> tuple[_Segment, ...]:
    if line.count(b"[") > MAX_SEGMENTS or line.count(b",") > 4 * MAX_SEGMENTS:
        raise FormatError(path, f"it has more than {MAX_SEGMENTS:,} segments")
    try:
        listed = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError(path, "its list of segments is damaged") from None
    if type(listed) is not list:
        raise FormatError(path, "its list of segments is damaged")
    return tuple(_segment(item, path) for item in listed)


def _segment(item: object, path: Path | str) -> _Segment:
    """A literal stretch is a number, one of a tensor [name, start, size]."""
    if type(item) is int and 0 < item <= _MAX_SIZE:
        return _Segment(None, 0, item)
    if type(item) is list and list(map(type, item)) == [str, int, int]:
        name, start, size = item
        if start >= 0 and 0 < size <= _MAX_SIZE:
            return _Segment(name, start, size)
    raise FormatError(path, "its list of segments is damaged")


def _pickle(segments: tuple[_Segment, ...], literals: bytes, size: int, path: Path | str) -> tuple[str, bytes]:
    """Container and pickle: found as in the `.pt` itself, for all that it says of itself lies in literal bytes."""
    starts: list[int] = []
    places: list[tuple[int, int]] = []
    taken = 0
    for at, segment in _placed(segments):
        if segment.name is None:
            starts.append(at)
            places.append((taken, taken + segment.size))
            taken += segment.size

    def read(count: int, offset: int) -> bytes:
        index = bisect_right(starts, offset) - 1
        if index < 0:
            return b""
        begin, end = places[index]
        begin += offset - starts[index]
        return literals[begin : min(end, begin + count)]

    return torch_file.pickle_in(read, size, path)


# --- giving the .pt back ---


def restore(recipe: bytes, mirror: Weights, path: Path, source: Path | str = "recipe") -> Written:
    """Write the `.pt` that a recipe was made of.

    Args:
        recipe: its bytes.
        mirror: the tensors, contiguous.
        path: as `copying.write` takes it.
        source: where the recipe comes from, for errors.

    Raises:
        FormatError: the recipe is damaged, or needs a tensor that the mirror does not have like this.
        ChecksumError: what came out is not what the recipe was made of; `path` then holds it all the same.
    """
    found = look(recipe, source)
    written = copying.write(_parts(found, mirror, source), path)
    if written.sha256 != found.sha256:
        reason = "with this mirror it does not give back the .pt it was made of: the sha256 differs"
        raise ChecksumError(source, path.name, reason, hint="the mirror or the recipe was changed after the push")
    return written


def _parts(found: Recipe, mirror: Weights, source: Path | str) -> list[Part]:
    needed = sum(segment.size for segment in found.segments if segment.name is not None)
    if needed > sum(tensor.nbytes for tensor in mirror.tensors):
        raise FormatError(source, f"it needs {needed:,} bytes of tensors, more than the mirror has")
    parts: list[Part] = []
    taken = 0
    for segment in found.segments:
        if segment.name is None:
            parts.append(found.literals[taken : taken + segment.size])
            taken += segment.size
            continue
        tensor = mirror.by_name.get(segment.name)
        if tensor is None:
            raise FormatError(source, f"it needs the tensor '{segment.name}', which the mirror does not have")
        storage = mirror.storages[tensor.storage]
        as_it_is = tensor.contiguous and not tensor.marked and storage.deflated is None
        if not as_it_is or segment.start + segment.size > tensor.nbytes:
            raise FormatError(source, f"it needs more of the tensor '{segment.name}' than the mirror has")
        parts.append(Range(storage.path, storage.offset + tensor.offset + segment.start, segment.size))
    return parts
