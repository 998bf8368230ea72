"""Bytes that a zip holds deflated, as tools that pack a `.pt` again leave them: read as a stream, in flat memory."""

import os
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from metta_hub.checkpoint import Storage, TensorInfo
from metta_hub.containers import strided
from metta_hub.containers.zip_records import Member
from metta_hub.errors import ChecksumError, FormatError, SourceChangedError

#: Bytes of compressed data read at a time, and most bytes inflated at a time.
_READ = 64 << 10
_BLOCK = 1 << 20

#: Most bytes that are inflated into memory.
MAX_WHOLE = 64 << 20

#: deflate makes at most this many bytes of one.
MAX_RATIO = 1032


def blocks(storage: Storage) -> Iterator[bytes]:
    """All bytes of a deflated storage, at most 1 MiB at a time, and never more than it should have.

    Raises:
        ChecksumError: they are not as many as recorded, or do not have the recorded checksum; only after the last.
        SourceChangedError: the file ended before the storage did.
    """
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    left, crc32 = storage.size, 0
    for packed in chain(_packed(storage), [b""]):  # the last one asks for what the inflater has kept back
        if inflater.eof and packed:
            raise _damaged(storage, "it is longer than recorded")
        for block in _inflate(inflater, packed, storage):
            left -= len(block)
            if left < 0:
                raise _damaged(storage, "it is longer than recorded")
            crc32 = zlib.crc32(block, crc32)
            yield block
    if left or not inflater.eof or inflater.unused_data:
        raise _damaged(storage, f"of {storage.size:,} bytes {left:,} are missing")
    if storage.crc32 not in {None, crc32}:
        raise _damaged(storage, "its checksum differs from the recorded one")


def _inflate(inflater: "zlib._Decompress", packed: bytes, storage: Storage) -> Iterator[bytes]:
    while not inflater.eof:
        try:
            block = inflater.decompress(packed, _BLOCK)
        except zlib.error:
            raise _damaged(storage, "it cannot be inflated") from None
        packed = inflater.unconsumed_tail
        if block:
            yield block
        elif not packed:
            return


def _packed(storage: Storage) -> Iterator[bytes]:
    offset, left = storage.offset, storage.deflated or 0
    with storage.path.open("rb", buffering=0) as file:
        while left:
            piece = os.pread(file.fileno(), min(_READ, left), offset)
            if not piece:
                raise SourceChangedError(storage.path, f"it ended at byte {offset:,} while it was read")
            yield piece
            offset += len(piece)
            left -= len(piece)


def _damaged(storage: Storage, reason: str) -> ChecksumError:
    what = f"the compressed bytes at {storage.offset:,}"
    return ChecksumError(storage.path, what, f"{what} are damaged: {reason}")


def values(tensor: TensorInfo, storage: Storage) -> Iterator[bytes]:
    """The values of a tensor in row-major order; the whole storage is inflated and checked for it.

    Raises:
        ChecksumError: as `blocks`.
        SourceChangedError: as `blocks`.
    """
    if tensor.contiguous and storage.within is None:
        yield from _window(storage, tensor.offset, tensor.nbytes)
        return
    whole, start = (storage, 0) if storage.within is None else (storage.within, storage.offset)
    descriptor = spilled(whole)  # strided values are taken from all over it
    try:
        yield from strided.gather_from(descriptor, start, tensor, storage.path)
    finally:
        os.close(descriptor)


def spilled(storage: Storage) -> int:
    """Inflate a storage into a file without a name, which is gone when the descriptor that is returned is closed.

    Raises:
        ChecksumError: as `blocks`.
        SourceChangedError: as `blocks`.
    """
    from tempfile import TemporaryFile  # it loads much that nearly no file needs

    with TemporaryFile() as whole:
        for block in blocks(storage):
            whole.write(block)
        whole.flush()
        return os.dup(whole.fileno())


def beginning(read: Callable[[int, int], bytes], member: Member, count: int, path: Path | str) -> bytes:
    """The first bytes of a deflated member, without the rest; fewer when it has fewer.

    Raises:
        ChecksumError: it cannot be inflated.
    """
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    found, offset, end = bytearray(), member.offset, member.offset + (member.packed or 0)
    while len(found) < count and offset < end and not inflater.eof:
        packed = read(min(_READ, end - offset), offset)
        if not packed:
            raise SourceChangedError(path, f"it ended at byte {offset:,} while it was read")
        offset += len(packed)
        try:
            found += inflater.decompress(packed, count - len(found))
        except zlib.error:
            raise ChecksumError(path, member.name, f"{member.name} is damaged: it can't be inflated") from None
    return bytes(found)


def _window(storage: Storage, start: int, size: int) -> Iterator[bytes]:
    at = 0
    for block in blocks(storage):
        wanted = block[max(0, start - at) : max(0, start + size - at)]
        if wanted:
            yield wanted
        at += len(block)


def whole(packed: bytes, member: Member, path: Path | str) -> bytes:
    """The bytes of a small deflated member: exactly as many as recorded.

    Raises:
        ChecksumError: they are not.
        FormatError: they are too many.
    """
    if member.size > MAX_WHOLE:
        raise FormatError(path, f"its member '{member.name}' claims {member.size:,} bytes; {MAX_WHOLE:,} is the limit")
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        raw = inflater.decompress(packed, member.size + 1)
    except zlib.error:
        raise ChecksumError(path, member.name, f"its member '{member.name}' is damaged: it can't be inflated") from None
    if len(raw) != member.size or not inflater.eof or inflater.unused_data:
        raise ChecksumError(path, member.name, f"its member '{member.name}' is damaged: its size differs")
    return raw
