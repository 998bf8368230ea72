"""The records of a zip, as PyTorch writes them.

PyTorch leaves CRC and sizes in local headers at zero (flag bit 3) and puts a data descriptor after every member that
is not empty; it pads each local header with an extra field "FB", so that the data starts at a multiple of 64; and it
writes the end record in both widths. Sources: PKWARE's APPNOTE 6.3 (records, zip64), and torch 2.13's own files.
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

#: Where PyTorch starts the data of every member.
ALIGNMENT = 64

LOCAL = Struct("<4s5H3L2H")
CENTRAL = Struct("<4s4x4H3L4H4xHL")  # without versions, and of the attributes only what Unix puts there
DESCRIPTOR = Struct("<4s3L")
DESCRIPTOR64 = Struct("<4sL2Q")
END = Struct("<4s4H2LH")
END64 = Struct("<4sQ2H2L4Q")
LOCATOR64 = Struct("<4sLQL")
EXTRA = Struct("<HH")
U64 = Struct("<Q")

LOCAL_SIGNATURE, CENTRAL_SIGNATURE, DESCRIPTOR_SIGNATURE = b"PK\3\4", b"PK\1\2", b"PK\7\x08"
END_SIGNATURE, END64_SIGNATURE, LOCATOR64_SIGNATURE = b"PK\5\6", b"PK\6\6", b"PK\6\7"

MAX32 = 0xFFFFFFFF
MAX16 = 0xFFFF
FLAG_DESCRIPTOR, FLAG_UTF8 = 1 << 3, 1 << 11
FLAGS, FLAGS_EMPTY = FLAG_UTF8 | FLAG_DESCRIPTOR, FLAG_UTF8
EXTRA_ZIP64, EXTRA_PADDING = 1, int.from_bytes(b"FB", "little")
PADDING = b"Z" * 0x10000
#: Local headers up to their two lengths: torch writes no sizes, times or checksums there.
LENGTHS = Struct("<2H")
LOCAL_FIXED, LOCAL_FIXED_EMPTY = (
    LOCAL.pack(LOCAL_SIGNATURE, 0, flags, *[0] * 8)[: -LENGTHS.size] for flags in (FLAGS, FLAGS_EMPTY)
)
PADDINGS = tuple(EXTRA.pack(EXTRA_PADDING, length) + PADDING[:length] for length in range(ALIGNMENT))


class Member(NamedTuple):
    """One stored file in the zip.

    Attributes:
        name: with the folder that all members share.
        header: offset of its local header.
        offset: offset of its bytes.
        size: how many bytes.
        crc32: their recorded checksum; see `Archive.checksummed`.
        flags: zip's general purpose flags.
        packed: how many bytes they take in the file, deflated; None when they stand there as they are.
        mode: kind and permissions of the file that was packed; 0 where nobody recorded them.
    """

    name: str
    header: int
    offset: int
    size: int
    crc32: int
    flags: int
    packed: int | None = None
    mode: int = 0


def flags_of(size: int) -> int:
    """The flags that PyTorch gives a member of so many bytes."""
    return FLAGS if size else FLAGS_EMPTY


def end(members: Sequence[Member]) -> int:
    """Where the next member starts."""
    return members[-1].offset + members[-1].size + len(descriptor(members[-1])) if members else 0


def place(name: str, size: int, crc32: int, *, after: Sequence[Member]) -> tuple[Member, bytes]:
    """The next member, and the local header that goes before its bytes."""
    at = end(after)
    header = local_header(name.encode(), size, at)
    return Member(name, at, at + len(header), size, crc32, flags_of(size)), header


def local_header(name: bytes, size: int, offset: int) -> bytes:
    """The local header of a member at `offset`, padded so that its bytes start at a multiple of 64."""
    wide = b"" if size < MAX32 > offset else _wide_field(size, offset)
    bare = LOCAL.size + len(name) + len(wide) + EXTRA.size
    padding = PADDINGS[-(offset + bare) % ALIGNMENT]
    fixed = LOCAL_FIXED if size else LOCAL_FIXED_EMPTY
    return fixed + LENGTHS.pack(len(name), len(wide) + len(padding)) + name + wide + padding


def descriptor(member: Member) -> bytes:
    """The data descriptor after a member; empty after an empty one."""
    if not member.size:
        return b""
    record = DESCRIPTOR if member.size < MAX32 > member.header else DESCRIPTOR64
    packed = member.size if member.packed is None else member.packed
    return record.pack(DESCRIPTOR_SIGNATURE, member.crc32, packed, member.size)


def directory(members: Sequence[Member], start: int) -> bytes:
    """The central directory at `start` and the end records, which PyTorch always writes in both widths."""
    entries = [_central(member) for member in members]
    count, length = len(entries), sum(map(len, entries))
    stop = start + length
    made, needed = 0x031E, 0x002D
    entries.append(END64.pack(END64_SIGNATURE, 44, made, needed, 0, 0, count, count, length, start))
    entries.append(LOCATOR64.pack(LOCATOR64_SIGNATURE, 0, stop, 1))
    narrow = (min(count, MAX16), min(count, MAX16), min(length, MAX32), min(start, MAX32))
    entries.append(END.pack(END_SIGNATURE, 0, 0, *narrow, 0))
    return b"".join(entries)


def _central(member: Member) -> bytes:
    name, wide = member.name.encode(), _wide_field(member.size, member.header)
    size, header = min(member.size, MAX32), min(member.header, MAX32)
    lengths = len(name), len(wide), 0
    fixed = CENTRAL.pack(CENTRAL_SIGNATURE, member.flags, 0, 0, 0, member.crc32, size, size, *lengths, 0, 0, header)
    return fixed + name + wide


def _wide_field(size: int, offset: int) -> bytes:
    """The zip64 field: the two sizes when they need it, the offset when it does; empty when neither does."""
    if size < MAX32 > offset:
        return b""
    values = [size, size] * (size >= MAX32) + [offset] * (offset >= MAX32)
    return EXTRA.pack(EXTRA_ZIP64, 8 * len(values)) + b"".join(map(U64.pack, values))
