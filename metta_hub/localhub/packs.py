"""Packs that a push sends, looked through before anything is kept of them in memory.

The layout is that of git's pack format: `PACK`, version, count, then for each object its type and size, for a delta
what it is based on, and a zlib stream. A delta begins with the sizes of its base and of what it makes.
"""

import struct
import zlib
from typing import IO

from metta_hub.localhub.errors import UnprocessableError

_HEADER = struct.Struct(">4sII")
_VERSIONS = (2, 3)
_OFS_DELTA, _REF_DELTA = 6, 7
_BASE_ID = 20
_SIZE_BITS = 64
_BLOCK = 4096
_OUT = 64 * 1024
_MALFORMED = "the pack is damaged"


def check_sizes(pack: IO[bytes], limit: int) -> None:
    """Refuse a pack with an object of more than `limit` bytes, however small it is in the pack.

    Args:
        pack: the pack, from where the file stands; it stands there again afterwards.
        limit: bytes of an object.

    Raises:
        UnprocessableError: an object is larger, or this is no pack.
    """
    start = pack.tell()
    header = pack.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise UnprocessableError(_MALFORMED)
    magic, version, count = _HEADER.unpack(header)
    if magic != b"PACK" or version not in _VERSIONS:
        raise UnprocessableError(_MALFORMED)
    for _ in range(count):
        _check_object(pack, limit)
    pack.seek(start)


def _check_object(pack: IO[bytes], limit: int) -> None:
    first = _byte(pack)
    kind, size, shift = first >> 4 & 7, first & 15, 4
    more = first & 128
    while more and shift < _SIZE_BITS:
        byte = _byte(pack)
        size |= (byte & 127) << shift
        shift += 7
        more = byte & 128
    _check(size, limit)
    if kind == _OFS_DELTA:
        while _byte(pack) & 128:
            pass
    elif kind == _REF_DELTA:
        pack.seek(_BASE_ID, 1)
    beginning = _inflate(pack, size)
    if kind in (_OFS_DELTA, _REF_DELTA):
        _, rest = _number(beginning)
        made, _ = _number(rest)
        _check(made, limit)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise UnprocessableError(f"a file in it has {size} bytes, over {limit}: use git-lfs")


def _byte(pack: IO[bytes]) -> int:
    found = pack.read(1)
    if not found:
        raise UnprocessableError(_MALFORMED)
    return found[0]


def _inflate(pack: IO[bytes], size: int) -> bytes:
    """Pass over a zlib stream of `size` bytes; its first block."""
    stream = zlib.decompressobj()
    beginning = b""
    count = 0
    waiting = b""
    while not stream.eof:
        block = waiting or pack.read(_BLOCK)
        if not block:
            raise UnprocessableError(_MALFORMED)
        try:
            out = stream.decompress(block, _OUT)
        except zlib.error:
            raise UnprocessableError(_MALFORMED) from None
        waiting = stream.unconsumed_tail
        beginning = beginning or out
        count += len(out)
        if count > size:
            raise UnprocessableError(_MALFORMED)
    if count != size:
        raise UnprocessableError(_MALFORMED)
    pack.seek(-len(stream.unused_data), 1)
    return beginning


def _number(data: bytes) -> tuple[int, bytes]:
    """A number at the beginning of a delta, seven bits a byte, and what follows it."""
    value = 0
    for position, byte in enumerate(data[:10]):
        value |= (byte & 127) << 7 * position
        if not byte & 128:
            return value, data[position + 1 :]
    raise UnprocessableError(_MALFORMED)
