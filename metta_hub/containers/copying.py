"""Bytes from files to a file, through one small buffer, digested and checked on the way.

Whatever is written (safetensors, a PyTorch zip, a restored `.pt`) is a sequence of parts: literal bytes, and ranges
of files. Reading into one reused buffer of 1 MiB is faster than copy_file_range or mmap here, because offsets in
these files are not page-aligned, and memory stays flat however large the model is.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, Self

from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers import strided
from metta_hub.errors import ChecksumError

#: Bytes read and written at a time: 64 KiB take 1.6 times as long, 16 MiB are erratic.
BLOCK = 1 << 20

#: Buffers in turn, so that one can be digested while the next ones are filled and written.
_BUFFERS = 3


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written or read to its end.

    Attributes:
        size: bytes.
        sha256: hexadecimal; empty when it was not asked for.
    """

    size: int
    sha256: str


class Checksum:
    """A CRC-32 taken while bytes pass by.

    Attributes:
        value: the checksum of what has passed so far.
    """

    __slots__ = ("_expected", "_member", "_path", "_remaining", "value")

    def __init__(self, storage: Storage, member: str) -> None:
        self._path = storage.path
        self._member = member
        self._expected = storage.crc32
        self._remaining = storage.size
        self.value = 0

    def update(self, data: memoryview) -> None:
        """Let `data` pass.

        Raises:
            ChecksumError: it was the last of the storage, and the whole is not what was recorded.
        """
        self.value = zlib.crc32(data, self.value)
        self._remaining -= len(data)
        if self._remaining == 0 and self._expected not in {None, self.value}:
            reason = f"the bytes of '{self._member}' are damaged: their checksum differs from the recorded one"
            raise ChecksumError(self._path, self._member, reason)


class Range(NamedTuple):
    """So many bytes of a file.

    Attributes:
        path: the file.
        offset: where they start.
        size: how many.
        checksum: sees them pass; None when nobody asks.
        at_once: whether the part after this one needs the checksum; else it is taken in a thread of its own.
    """

    path: Path
    offset: int
    size: int
    checksum: Checksum | None = None
    at_once: bool = False


Part = bytes | Range


class Files:
    """Files open for reading, by path; closed together."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def read_into(self, target: memoryview, path: Path, offset: int) -> None:
        """Fill `target` from `offset` on.

        Raises:
            SourceChangedError: the file ends before that.
        """
        descriptor = self._open.get(path)
        if descriptor is None:
            descriptor = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        strided.read_into(descriptor, target, offset, path)


class _Block(NamedTuple):
    """A filled buffer, and which of its stretches pass which checksum."""

    data: memoryview
    passing: list[tuple[Checksum, int, int]]

    def check(self) -> None:
        for checksum, start, stop in self.passing:
            checksum.update(self.data[start:stop])


def _blocks(parts: Iterable[Part], files: Files, take: Callable[[], memoryview]) -> Iterator[_Block]:
    """Fill the buffers that `take` gives, each to the brim except for the last."""
    buffer, filled = take(), 0
    passing: list[tuple[Checksum, int, int]] = []
    for part in parts:
        done, size = 0, len(part) if isinstance(part, bytes) else part.size
        while done < size:
            count = min(size - done, BLOCK - filled)
            target = buffer[filled : filled + count]
            if isinstance(part, bytes):
                target[:] = part[done : done + count]
            else:
                files.read_into(target, part.path, part.offset + done)
                if part.checksum is not None and part.at_once:
                    part.checksum.update(target)
                elif part.checksum is not None:
                    passing.append((part.checksum, filled, filled + count))
            done += count
            filled += count
            if filled == BLOCK:
                yield _Block(buffer, passing)
                buffer, filled, passing = take(), 0, []
    if filled:
        yield _Block(buffer[:filled], passing)


class _Output:
    """A file being written. A thread digests each block while the next ones are read and written."""

    def __init__(self, path: Path, *, hashed: bool) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._sha256 = hashlib.sha256() if hashed else None
        self._size = 0
        self._buffers = 0
        self._todo: SimpleQueue[_Block | None] = SimpleQueue()
        self._done: SimpleQueue[memoryview] = SimpleQueue()
        self._thread: Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._join()
        os.close(self._descriptor)

    def take(self) -> memoryview:
        """A buffer to fill: a new one, or one that is written and digested."""
        if self._buffers < _BUFFERS:
            self._buffers += 1
            return memoryview(bytearray(BLOCK))
        if self._thread is None:
            # Only now: what fits into the first buffers is digested sooner than a thread starts.
            self._thread = Thread(target=self._digest_all, name="metta_hub-digest", daemon=True)
            self._thread.start()
        buffer = self._done.get()
        if self._failure is not None:
            raise self._failure
        return buffer

    def put(self, block: _Block) -> None:
        """Write a block, and have it digested."""
        left = block.data
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._size += len(block.data)
        self._todo.put(block)

    def finish(self) -> Written:
        """What was written, once everything is digested."""
        if self._thread is None:
            self._todo.put(None)
            self._digest_all()
        self._join()
        if self._failure is not None:
            raise self._failure
        return Written(self._size, self._sha256.hexdigest() if self._sha256 else "")

    def _join(self) -> None:
        if self._thread is not None:
            self._todo.put(None)
            self._thread.join()
            self._thread = None

    def _digest_all(self) -> None:
        """Digest blocks until None comes; after a failure, only give the buffers back."""
        while (block := self._todo.get()) is not None:
            try:
                if self._failure is None:
                    if self._sha256 is not None:
                        self._sha256.update(block.data)
                    block.check()
            except Exception as error:  # noqa: BLE001 - raised again where blocks are put
                self._failure = error
            self._done.put(block.data)


def write(parts: Iterable[Part], path: Path, *, hashed: bool = True) -> Written:
    """Write `parts` to `path`, which is created or overwritten; neither synced nor renamed.

    Args:
        parts: made while they are written, so they may depend on checksums that passed `at_once`.
        path: a temporary file of the caller's; half written when something is raised.
        hashed: whether `Written.sha256` is wanted: it takes longer than copying.

    Raises:
        ChecksumError: a storage does not have its recorded checksum.
        SourceChangedError: a file ended too early.
        OSError: a file cannot be read, or `path` not be written.
    """
    with Files() as files, _Output(path, hashed=hashed) as output:
        for block in _blocks(parts, files, output.take):
            output.put(block)
        return output.finish()


def digest(path: Path) -> Written:
    """Size and sha256 of a file."""
    with path.open("rb", buffering=0) as file:
        sha256 = hashlib.file_digest(file, "sha256")
        return Written(file.tell(), sha256.hexdigest())


def covers(tensor: TensorInfo, storage: Storage) -> bool:
    """Whether the values of `tensor`, in order, are all the bytes of its storage."""
    return tensor.contiguous and tensor.nbytes == storage.size


def tensor_parts(tensor: TensorInfo, storage: Storage) -> Iterable[Part]:
    """The values of `tensor`, which looks into `storage`, in row-major order.

    A recorded checksum is compared on the way when the values are the whole storage.
    """
    if not tensor.contiguous:
        return strided.gather(tensor, storage)
    checked = storage.crc32 is not None and covers(tensor, storage)
    checksum = Checksum(storage, tensor.name) if checked else None
    return [Range(storage.path, storage.offset + tensor.offset, tensor.nbytes, checksum)]


def verify(storages: Mapping[str, Storage]) -> None:
    """Read storages to the end and compare their checksums with the recorded ones.

    Raises:
        ChecksumError: one differs.
    """
    parts = [
        Range(storage.path, storage.offset, storage.size, Checksum(storage, key))
        for key, storage in storages.items()
        if storage.crc32 is not None
    ]
    buffer = memoryview(bytearray(BLOCK))
    with Files() as files:
        for block in _blocks(parts, files, lambda: buffer):
            block.check()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One name of two weight tables.

    Attributes:
        name: the tensor's.
        equal: whether dtype, shape and every byte of the values are the same on both sides.
        detail: the first thing that differs; empty when equal.
    """

    name: str
    equal: bool
    detail: str = ""


def compare(one: Weights, other: Weights) -> list[Comparison]:
    """Compare values tensor by tensor, reading both sides once, in flat memory.

    Returns:
        A result for every name on either side: first those of `one`, in its order.
    """
    buffers = (memoryview(bytearray(BLOCK)), memoryview(bytearray(BLOCK)))
    results = []
    with Files() as files:
        for tensor in one.tensors:
            twin = other.by_name.get(tensor.name)
            detail = _table_difference(tensor, twin)
            if not detail and twin is not None:
                mine = _blocks(tensor_parts(tensor, one.storages[tensor.storage]), files, lambda: buffers[0])
                theirs = _blocks(tensor_parts(twin, other.storages[twin.storage]), files, lambda: buffers[1])
                detail = "" if _same_bytes(mine, theirs) else "the values differ"
            results.append(Comparison(tensor.name, not detail, detail))
    missing = [name for name in other.by_name if name not in one.by_name]
    return results + [Comparison(name, equal=False, detail="only on the second side") for name in missing]


def _table_difference(tensor: TensorInfo, twin: TensorInfo | None) -> str:
    if twin is None:
        return "only on the first side"
    if tensor.dtype != twin.dtype:
        return f"{tensor.dtype} on one side, {twin.dtype} on the other"
    if tensor.shape != twin.shape:
        return f"shape {list(tensor.shape)} on one side, {list(twin.shape)} on the other"
    return ""


def _same_bytes(mine: Iterator[_Block], theirs: Iterator[_Block]) -> bool:
    """Whether two streams of equal length agree; bytes compare ten times as fast as memoryviews do."""
    pairs = zip(mine, theirs, strict=True)
    return all(bytes(a.data) == bytes(b.data) for a, b in pairs)


def copy(source: Path, target: Path) -> Written:
    """Copy a whole file, and hash it on the way.

    Raises:
        SourceChangedError: `source` became shorter meanwhile.
    """
    return write([Range(source, 0, source.stat().st_size)], target)


def digest_bytes(content: bytes) -> Written:
    """Size and sha256 of bytes in memory."""
    return Written(len(content), hashlib.sha256(content).hexdigest())


def read_tensor(weights: Weights, tensor: TensorInfo) -> bytearray:
    """The values of a tensor in row-major order, in memory of their own.

    Raises:
        ChecksumError: they do not have the checksum that was recorded; views of a larger storage have none.
        SourceChangedError: the file ended too early.
    """
    storage = weights.storages[tensor.storage]
    values = bytearray(tensor.nbytes)
    left = memoryview(values)
    with Files() as files:
        for part in tensor_parts(tensor, storage):
            size = len(part) if isinstance(part, bytes) else part.size
            if isinstance(part, bytes):
                left[:size] = part
            else:
                files.read_into(left[:size], part.path, part.offset)
            left = left[size:]
    if storage.crc32 is not None and covers(tensor, storage):
        Checksum(storage, tensor.name).update(memoryview(values))
    return values
