"""The values of a tensor in row-major order, whatever its strides: without numpy, and in bounded memory.

A dimension is a pair (size, step): how many elements, and how many elements apart they lie.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

from metta_hub.checkpoint import BITS, Storage, TensorInfo
from metta_hub.errors import SourceChangedError

Dimensions = Sequence[tuple[int, int]]

#: Bytes of values gathered at a time.
_TILE = 4 << 20

#: Gaps larger than this are skipped and not read.
_PAGE = 4096

#: Formats of memoryview for elements of so many bytes: only their width matters.
_FORMATS: Mapping[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


def gather(tensor: TensorInfo, storage: Storage) -> Iterator[bytes]:
    """The values of `tensor` as contiguous bytes, at most 4 MiB at a time.

    Raises:
        SourceChangedError: the file ended before the storage did.
    """
    descriptor = os.open(storage.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield from gather_from(descriptor, storage.offset, tensor, storage.path)
    finally:
        os.close(descriptor)


def gather_from(descriptor: int, start: int, tensor: TensorInfo, path: Path) -> Iterator[bytes]:
    """As `gather`, from an open file in which the storage starts at `start`; `path` is named in errors."""
    if not tensor.elements:
        return
    itemsize = BITS[tensor.dtype] // 8
    for dimensions, first in tiles(merged(tensor.shape, tensor.stride), _TILE // itemsize):
        at = start + tensor.offset + first * itemsize
        compact, steps = _read(descriptor, path, at, itemsize, dimensions)
        yield _arrange(compact, [(size, steps[step]) for size, step in dimensions], itemsize)


def stretches(tensor: TensorInfo, most: int) -> list[tuple[int, int]]:
    """Where the values of `tensor` lie in its storage: (start, stop) in bytes.

    A view of more than `most` pieces counts as none: who asks for the unused bytes then gets too many.
    """
    if tensor.contiguous:
        return [(tensor.offset, tensor.offset + tensor.nbytes)]
    itemsize = BITS[tensor.dtype] // 8
    far_first = sorted(zip(tensor.shape, tensor.stride, strict=True), key=lambda dimension: -dimension[1])
    spread = [(size, step) for size, step in far_first if step]
    *outer, (size, step) = merged([size for size, _ in spread], [step for _, step in spread]) or [(1, 1)]
    if step != 1:
        outer, size = [*outer, (size, step)], 1
    if math.prod(count for count, _ in outer) > most:
        return []
    starts = (sum(indices) for indices in product(*(range(0, count * by, by) for count, by in outer)))
    return [(tensor.offset + at * itemsize, tensor.offset + (at + size) * itemsize) for at in starts]


def merged(shape: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """The dimensions, outermost first, without those of size 1, and joined where one continues the other."""
    result: list[tuple[int, int]] = []
    for size, step in zip(shape, stride, strict=True):
        if size == 1:
            continue
        if result and result[-1][1] == size * step:
            size *= result.pop()[0]  # noqa: PLW2901 - the joined dimension takes its place
        result.append((size, step))
    return result


def tiles(dimensions: Dimensions, limit: int) -> Iterator[tuple[Dimensions, int]]:
    """Cut into pieces of at most `limit` elements, in row-major order; each with the offset of its first element."""
    if math.prod(size for size, _ in dimensions) <= limit:
        yield dimensions, 0
        return
    (size, step), *inner = dimensions
    rows = max(1, limit // math.prod(size for size, _ in inner))
    for first in range(0, size, rows):
        taken = min(rows, size - first)
        outer = [(taken, step)] if taken > 1 else []
        for piece, offset in tiles([*outer, *inner], limit):
            yield piece, first * step + offset


def _read(
    descriptor: int, path: Path, start: int, itemsize: int, dimensions: Dimensions
) -> tuple[memoryview, dict[int, int]]:
    """Read every element once, in the order of the file.

    Returns:
        The elements without gaps, and for each step in the file the step among them.
    """
    # Step 0 repeats elements; dimensions of one step walk the same line, one from where the other has come to.
    spread: dict[int, int] = {}
    for size, step in dimensions:
        if step:
            spread[step] = spread.get(step, 1) + size - 1
    steps = {0: 0}
    count = 1
    for step in sorted(spread):
        steps[step] = count
        count *= spread[step]
    far_first = sorted(spread, reverse=True)
    *outer, line = merged([spread[step] for step in far_first], far_first) or [(1, 1)]
    elements = memoryview(bytearray(count * itemsize))
    position = 0
    for indices in product(*(range(0, size * step, step) for size, step in outer)):
        stop = position + line[0] * itemsize
        _read_line(descriptor, elements[position:stop], start + sum(indices) * itemsize, line[1], itemsize, path)
        position = stop
    return elements.cast(_FORMATS[itemsize]), steps


def _read_line(descriptor: int, target: memoryview, offset: int, step: int, itemsize: int, path: Path) -> None:
    """Read elements that lie `step` apart: what is between them too, unless it is more than a page."""
    if step == 1:
        read_into(descriptor, target, offset, path)
        return
    at_once = max(1, _TILE // (step * itemsize)) if step * itemsize <= _PAGE else 1
    for first in range(0, len(target), at_once * itemsize):
        piece = target[first : first + at_once * itemsize]
        count = len(piece) // itemsize
        span = memoryview(bytearray(((count - 1) * step + 1) * itemsize))
        read_into(descriptor, span, offset + first * step, path)
        piece.cast(_FORMATS[itemsize])[:] = span.cast(_FORMATS[itemsize])[::step]


def read_into(descriptor: int, target: memoryview, offset: int, path: Path) -> None:
    """Fill `target` from `offset` on.

    Raises:
        SourceChangedError: the file ends before that.
    """
    while target:
        count = os.preadv(descriptor, [target], offset)
        if not count:
            raise SourceChangedError(path, f"it ended at byte {offset:,} while it was read")
        target = target[count:]
        offset += count


def _arrange(source: memoryview, dimensions: Dimensions, itemsize: int) -> bytes:
    """Elements of `source` in row-major order of `dimensions`: one slice per line along the longest of them."""
    count = math.prod(size for size, _ in dimensions)
    result = bytearray(count * itemsize)
    target = memoryview(result).cast(_FORMATS[itemsize])
    to_steps = [math.prod(size for size, _ in dimensions[index + 1 :]) for index in range(len(dimensions))]
    lines = sorted(zip(dimensions, to_steps, strict=True), key=lambda line: line[0][0])
    (length, step), to_step = lines.pop() if lines else ((1, 1), 1)
    for indices in product(*(range(size) for (size, _), _ in lines)):
        at = sum(index * dimension[1] for index, (dimension, _) in zip(indices, lines, strict=True))
        to = sum(index * to for index, (_, to) in zip(indices, lines, strict=True))
        if step:
            line = source[at : at + (length - 1) * step + 1 : step]
        else:
            line = memoryview(source[at : at + 1].tobytes() * length).cast(_FORMATS[itemsize])
        target[to : to + (length - 1) * to_step + 1 : to_step] = line
    return bytes(result)
