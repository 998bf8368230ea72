"""The machinery under `copying`: parts, the blocks that they are read into, and the file that the blocks go to.

Reading into a reused buffer of 1 MiB and writing that is faster than copy_file_range or mmap here, because offsets in
these files are not page-aligned, and memory stays flat however large a model is.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, Self

from metta_hub.checkpoint import Storage
from metta_hub.containers import inflating, strided
from metta_hub.errors import ChecksumError

if TYPE_CHECKING:
    import hashlib

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
    """So many bytes of a file, or of what a file holds deflated.

    Attributes:
        source: the file, or a deflated storage, of whose inflated bytes they are.
        offset: where they start.
        size: how many.
        checksum: sees them pass; None when nobody asks.
        at_once: whether the part after this one needs the checksum; else it may be taken later.
    """

    source: Path | Storage
    offset: int
    size: int
    checksum: Checksum | None = None
    at_once: bool = False


Part = bytes | Range


class Files:
    """Files open for reading; closed together. What lies deflated in one is inflated once, into a nameless file."""

    def __init__(self) -> None:
        self._open: dict[Path | Storage, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def read_into(self, target: memoryview, source: Path | Storage, offset: int) -> None:
        """Fill `target` from `offset` on.

        Raises:
            ChecksumError: what lies deflated is not what was recorded.
            SourceChangedError: the file ends before that.
        """
        descriptor = self._open.get(source)
        if descriptor is None:
            descriptor = self._open[source] = _opened(source)
        if os.preadv(descriptor, [target], offset) != len(target):
            path = source.path if isinstance(source, Storage) else source
            strided.read_into(descriptor, target, offset, path)  # it takes what comes, and says where the file ends


def _opened(source: Path | Storage) -> int:
    return inflating.spilled(source) if isinstance(source, Storage) else os.open(source, os.O_RDONLY | os.O_CLOEXEC)


class Block(NamedTuple):
    """A filled buffer, and which of its stretches pass which checksum."""

    data: memoryview
    passing: list[tuple[Checksum, int, int]]

    def check(self) -> None:
        """Let the stretches pass their checksums."""
        for checksum, start, stop in self.passing:
            checksum.update(self.data[start:stop])


def blocks_of(parts: Iterable[Part], files: Files, take: Callable[[], memoryview], *, defer: bool) -> Iterator[Block]:
    """Fill the buffers that `take` gives, each to the brim except for the last.

    Args:
        parts: literal bytes, and ranges of files.
        files: opens them.
        take: gives a buffer of `BLOCK` bytes.
        defer: leave checksums to `Block.check`, but for those that are needed at once.
    """
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
                files.read_into(target, part.source, part.offset + done)
                if part.checksum is not None and defer and not part.at_once:
                    passing.append((part.checksum, filled, filled + count))
                elif part.checksum is not None:
                    part.checksum.update(target)
            done += count
            filled += count
            if filled == BLOCK:
                yield Block(buffer, passing)
                buffer, filled, passing = take(), 0, []
    if filled:
        yield Block(buffer[:filled], passing)


def _new_sha256() -> "hashlib._Hash":
    import hashlib  # loading OpenSSL takes longer than reading most headers

    return hashlib.sha256()


class Output:
    """A file being written. A thread digests each block while the next ones are read and written."""

    def __init__(self, path: Path, *, hashed: bool) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._sha256 = _new_sha256() if hashed else None
        self._size = 0
        self._buffers = 0
        self._todo: SimpleQueue[Block | None] = SimpleQueue()
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
            thread = Thread(target=self._digest_all, name="metta_hub-digest", daemon=True)
            thread.start()
            self._thread = thread
        buffer = self._done.get()
        if self._failure is not None:
            raise self._failure
        return buffer

    def put(self, block: Block) -> None:
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


class ChecksumsAhead:
    """The CRC-32s of storages, in order, found by a thread that reads ahead of whoever copies them.

    So the checksum that a zip has after a member is known when the member has just been copied.
    """

    def __init__(self, storages: Sequence[Storage]) -> None:
        self._storages = storages
        self._found: SimpleQueue[int | Exception] = SimpleQueue()
        self._stopped = False
        self._thread = Thread(target=self._run, name="metta_hub-checksums", daemon=True)

    def __enter__(self) -> Self:
        if self._storages:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        if self._storages:
            self._thread.join()

    def next(self) -> int:
        """The checksum of the next storage.

        Raises:
            SourceChangedError: the file ended too early.
        """
        found = self._found.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _run(self) -> None:
        buffer = memoryview(bytearray(BLOCK))
        try:
            with Files() as files:
                for storage in self._storages:
                    self._found.put(self._crc32(storage, files, buffer))
        except Exception as error:  # noqa: BLE001 - raised again in `next`
            self._found.put(error)

    def _crc32(self, storage: Storage, files: Files, buffer: memoryview) -> int:
        checksum = Checksum(storage, storage.path.name)
        parts = [Range(storage.source, storage.offset, storage.size, checksum)]
        for _ in blocks_of(parts, files, lambda: buffer, defer=False):
            if self._stopped:
                break
        return checksum.value
