"""The zip structure of a PyTorch file, read strictly and written as PyTorch writes it.

Only stored members, one after the other without a byte between them: what two readers could understand differently
is refused. Sources: PKWARE's APPNOTE 6.3 (records and zip64), and torch 2.13's own files. PyTorch leaves CRC and sizes
in local headers at zero (flag bit 3) and puts a data descriptor after every member that is not empty, and pads each
local header with an extra field "FB" so that the data starts at a multiple of 64.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple

from metta_hub.errors import ChecksumError, FormatError

#: Gives at most so many bytes from an offset on; fewer at the end of what there is.
Read = Callable[[int, int], bytes]

#: Most members, and largest central directory in bytes.
MAX_MEMBERS = 200_000
MAX_DIRECTORY = 64 << 20

#: Where PyTorch starts the data of every member.
ALIGNMENT = 64

_LOCAL = Struct("<4s5H3L2H")
_CENTRAL = Struct("<4s4x4H3L4H6xL")  # without versions and attributes, which mean nothing here
_DESCRIPTOR = Struct("<4s3L")
_DESCRIPTOR64 = Struct("<4sL2Q")
_END = Struct("<4s4H2LH")
_END64 = Struct("<4sQ2H2L4Q")
_LOCATOR64 = Struct("<4sLQL")
_EXTRA = Struct("<HH")
_U64 = Struct("<Q")

_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _DESCRIPTOR_SIGNATURE = b"PK\3\4", b"PK\1\2", b"PK\7\x08"
_END_SIGNATURE, _END64_SIGNATURE, _LOCATOR64_SIGNATURE = b"PK\5\6", b"PK\6\6", b"PK\6\7"

_MAX32 = 0xFFFFFFFF
_MAX16 = 0xFFFF
_FLAG_DESCRIPTOR, _FLAG_UTF8 = 1 << 3, 1 << 11
_FLAGS, _FLAGS_EMPTY = _FLAG_UTF8 | _FLAG_DESCRIPTOR, _FLAG_UTF8
_EXTRA_ZIP64, _EXTRA_PADDING = 1, int.from_bytes(b"FB", "little")
_PADDING = b"Z" * 0x10000
_PADDINGS = tuple(_EXTRA.pack(_EXTRA_PADDING, length) + _PADDING[:length] for length in range(ALIGNMENT))


class Member(NamedTuple):
    """One stored file in the zip.

    Attributes:
        name: with the folder that all members share.
        header: offset of its local header.
        offset: offset of its bytes.
        size: how many bytes.
        crc32: their recorded checksum; see `Archive.checksummed`.
        flags: zip's general purpose flags.
    """

    name: str
    header: int
    offset: int
    size: int
    crc32: int
    flags: int


@dataclass(frozen=True, slots=True)
class Archive:
    """The members of a zip, in the order of their bytes.

    Attributes:
        members: every member.
        checksummed: whether checksums were recorded. torch can be told not to: then all of them are 0. When only
            some are 0, that is their checksum.
    """

    members: tuple[Member, ...]
    checksummed: bool


class _Entry(NamedTuple):
    """What the central directory says of a member; `when` is its time and date."""

    header: int
    size: int
    crc32: int
    flags: int
    when: int
    name: bytes


def look(read: Read, size: int, path: Path | str) -> Archive:
    """Find the members of a zip of `size` bytes.

    Raises:
        FormatError: it is not a zip, is cut short, holds compressed or encrypted members, names a member twice, has
            bytes outside of its members, or its records contradict each other.
    """
    try:
        start, end, count = _end(read, size, path)
        directory = read(end - start, start)
        if len(directory) != end - start:
            raise FormatError(path, "the file ends within its directory")
        entries = _entries(directory, count, path)
        members = _place(read, entries, start, path)
    except error:
        raise FormatError(path, "the zip archive is cut short") from None
    return Archive(members, checksummed=any(member.crc32 for member in members))


def _end(read: Read, size: int, path: Path | str) -> tuple[int, int, int]:
    """Where the central directory starts and ends, and how many entries it has."""
    tail_start = max(0, size - _END.size - _LOCATOR64.size - _END64.size)
    tail = read(size - tail_start, tail_start)
    if tail[-_END.size : -_END.size + 4] != _END_SIGNATURE or len(tail) < _END.size:
        _explain_missing_end(read, size, path)
    _, disk, first_disk, here, count, length, start, comment = _END.unpack(tail[-_END.size :])
    end = size - _END.size
    if tail[-_END.size - _LOCATOR64.size :][:4] == _LOCATOR64_SIGNATURE:
        end, *wide = _end64(tail, tail_start, path)
        narrow = (here, count, length, start)
        limits = (_MAX16, _MAX16, _MAX32, _MAX32)
        if any(a not in {b, limit} for a, b, limit in zip(narrow, wide, limits, strict=True)):
            raise FormatError(path, "its two end records contradict each other")
        here, count, length, start = wide
    if comment or disk or first_disk or here != count:
        raise FormatError(path, "the zip has a comment or several parts, which PyTorch never writes")
    if start + length != end:
        raise FormatError(path, "its directory does not end where its end record begins")
    if count > MAX_MEMBERS or length > MAX_DIRECTORY:
        raise FormatError(path, f"it claims {count:,} members; {MAX_MEMBERS:,} is the limit")
    return start, end, count


def _end64(tail: bytes, tail_start: int, path: Path | str) -> tuple[int, int, int, int, int]:
    """The zip64 end record: its offset, entries here, entries, directory size, directory start."""
    _, disk, at, disks = _LOCATOR64.unpack_from(tail, len(tail) - _END.size - _LOCATOR64.size)
    if disk or disks > 1 or at != tail_start or at + _END64.size != tail_start + len(tail) - 42:
        raise FormatError(path, "its zip64 end record is not where it should be")
    signature, length, _, _, disk, first_disk, here, count, size, start = _END64.unpack_from(tail)
    if signature != _END64_SIGNATURE or length != _END64.size - 12 or disk or first_disk:
        raise FormatError(path, "its zip64 end record is damaged")
    return at, here, count, size, start


def _explain_missing_end(read: Read, size: int, path: Path | str) -> None:
    """Say why there is no end record at the end."""
    if read(4, 0) != _LOCAL_SIGNATURE:
        raise FormatError(path, "it is not a zip archive")
    tail_start = max(0, size - _MAX16 - _END.size)
    found = read(size - tail_start, tail_start).rfind(_END_SIGNATURE)
    if found < 0:
        raise FormatError(path, "the file is cut short: the directory at its end is missing")
    raise FormatError(path, f"there are bytes after its end record at byte {tail_start + found:,}")


def _entries(directory: bytes, count: int, path: Path | str) -> list[_Entry]:
    """Read the central directory; sorted by where the members lie."""
    entries: list[_Entry] = []
    position = 0
    for _ in range(count):
        fixed = _CENTRAL.unpack_from(directory, position)
        signature, flags, method, time, date, crc, packed, size, named, extra, comment, disk, header = fixed
        name_at = position + _CENTRAL.size
        position = name_at + named + extra + comment
        name = directory[name_at : name_at + named]
        if signature != _CENTRAL_SIGNATURE or position > len(directory) or comment or disk:
            raise FormatError(path, "its directory is damaged")
        if method or packed != size or flags & ~(_FLAG_DESCRIPTOR | _FLAG_UTF8):
            _refuse_member(name, method, flags, path)
        if extra or _MAX32 in (size, header):
            size, header = _wide(directory[name_at + named : position], size, packed, header, path)
        entries.append(_Entry(header, size, crc, flags, time | date << 16, name))
    if position != len(directory):
        raise FormatError(path, "its directory holds more than its members")
    names = Counter(entry.name for entry in entries)
    if len(names) != len(entries):
        raise FormatError(path, f"it holds '{_text(names.most_common(1)[0][0], path)}' twice")
    entries.sort()
    return entries


def _refuse_member(name: bytes, method: int, flags: int, path: Path | str) -> None:
    shown = name.decode(errors="replace")
    if flags & 1:
        raise FormatError(path, f"its member '{shown}' is encrypted")
    if method:
        hint = "load it with torch and save it again with torch.save, which never compresses"
        raise FormatError(path, f"its member '{shown}' is compressed, which PyTorch never does", hint=hint)
    raise FormatError(path, f"its directory is damaged at member '{shown}'")


def _wide(extra: bytes, size: int, packed: int, header: int, path: Path | str) -> tuple[int, int]:
    """Size and offset of a member from the zip64 extra field of its directory entry."""
    saturated = [value == _MAX32 for value in (size, packed, header)]
    wide = _zip64_values(extra)
    if wide is None or len(wide) != sum(saturated) or len(extra) != 4 + 8 * len(wide):
        raise FormatError(path, "its directory has extra fields that PyTorch never writes")
    rest = iter(wide)
    size, packed, header = (
        next(rest) if full else value for full, value in zip(saturated, (size, packed, header), strict=True)
    )
    if size != packed:
        raise FormatError(path, "its directory gives a stored member two sizes")
    return size, header


def _zip64_values(extra: bytes) -> list[int] | None:
    """The values of a zip64 field at the start of `extra`; None when there is none."""
    if len(extra) < _EXTRA.size:
        return None
    kind, length = _EXTRA.unpack_from(extra)
    if kind != _EXTRA_ZIP64 or length % 8 or length > len(extra) - 4:
        return None
    return [_U64.unpack_from(extra, 4 + at)[0] for at in range(0, length, 8)]


def _place(read: Read, entries: Sequence[_Entry], end: int, path: Path | str) -> tuple[Member, ...]:
    """Find the bytes of every member; they and what belongs to them must fill everything up to `end`."""
    members: list[Member] = []
    previous: _Entry | None = None
    at, between = 0, b""
    for entry in entries:
        header_at, size, crc32, flags, when, raw = entry
        name = _text(raw, path)
        # Nearly always a descriptor and a header as PyTorch writes them stand here: then one comparison does.
        usual = local_header(raw, size, header_at)
        between += usual
        as_usual = header_at + len(usual) == at + len(between) and read(len(between), at) == between
        if as_usual and flags == (_FLAGS if size else _FLAGS_EMPTY) and not when:
            offset = header_at + len(usual)
        else:
            offset = header_at + _examine(read, at, previous, entry, path)
        at = offset + size
        if at > end:
            beyond = f"claims {size:,} bytes; {max(0, end - offset):,} are left"
            raise FormatError(path, f"its member '{name}' {beyond}")
        member = Member(name, header_at, offset, size, crc32, flags)
        members.append(member)
        previous, between = entry, descriptor(member)
    gap = _checked_gap(end - at, previous, path)
    if previous is not None:
        _check_descriptor(read(gap, at), previous, path)
    return tuple(members)


def _examine(read: Read, at: int, previous: _Entry | None, entry: _Entry, path: Path | str) -> int:
    """Check what stands between the end of a member and the bytes of the next; how long its local header is."""
    gap = _checked_gap(entry.header - at, previous, path)
    if previous is not None:
        _check_descriptor(read(gap, at), previous, path)
    fixed = _LOCAL.size + len(entry.name)
    local = read(fixed, entry.header)
    length = _extra_length(local, entry, path)
    extra = read(length, entry.header + fixed)
    if len(extra) < length:
        raise FormatError(path, f"the file ends within its member '{_text(entry.name, path)}'")
    _check_extra(extra, entry, path)
    return fixed + length


def _text(name: bytes, path: Path | str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise FormatError(path, f"the name of its member {name!r} is not UTF-8") from None


def _checked_gap(gap: int, previous: _Entry | None, path: Path | str) -> int:
    """`gap` bytes between two members: none, or exactly the first one's data descriptor."""
    if previous is None:
        if gap:
            raise FormatError(path, f"there are {gap:,} bytes before its first member")
        return gap
    name = _text(previous.name, path)
    if gap < 0:
        raise FormatError(path, f"its member '{name}' overlaps the next one")
    allowed = {_DESCRIPTOR.size, _DESCRIPTOR64.size} if previous.flags & _FLAG_DESCRIPTOR else {0}
    if gap not in allowed:
        raise FormatError(path, f"there are {gap:,} bytes after its member '{name}' that belong to nothing")
    return gap


def _check_descriptor(raw: bytes, entry: _Entry, path: Path | str) -> None:
    """A data descriptor repeats what the directory says; there is none (b"") without flag bit 3."""
    if not raw:
        return
    record = _DESCRIPTOR if len(raw) == _DESCRIPTOR.size else _DESCRIPTOR64
    if record.unpack(raw) != (_DESCRIPTOR_SIGNATURE, entry.crc32, entry.size, entry.size):
        raise FormatError(path, f"what stands after its member '{_text(entry.name, path)}' contradicts its directory")


def _extra_length(local: bytes, entry: _Entry, path: Path | str) -> int:
    """Bytes of extra fields in a local header, once the rest of it agrees with the directory."""
    signature, _, flags, method, time, date, crc, packed, size, named, extra = _LOCAL.unpack_from(local)
    same = (
        signature == _LOCAL_SIGNATURE
        and (flags, method, time | date << 16) == (entry.flags, 0, entry.when)
        and local[_LOCAL.size :] == entry.name
        and named == len(entry.name)
    )
    if flags & _FLAG_DESCRIPTOR:
        known = crc in {0, entry.crc32} and {packed, size} <= {0, entry.size, _MAX32}
    else:
        known = crc == entry.crc32 and {packed, size} <= {entry.size, _MAX32}
    if not (same and known):
        name = _text(entry.name, path)
        raise FormatError(path, f"the local header of its member '{name}' contradicts its directory")
    return int(extra)


def _check_extra(extra: bytes, entry: _Entry, path: Path | str) -> None:
    """A local header may have a zip64 field that agrees with the directory, and PyTorch's padding; no more."""
    wide = _zip64_values(extra)
    if wide is not None:
        agreed = {(entry.size, entry.size), (entry.size, entry.size, entry.header), (entry.header,)}
        if tuple(wide) not in agreed:
            name = _text(entry.name, path)
            raise FormatError(path, f"the local header of its member '{name}' contradicts its directory")
        extra = extra[4 + 8 * len(wide) :]
    if not extra:
        return
    length = len(extra) - _EXTRA.size
    if length < 0 or extra != _EXTRA.pack(_EXTRA_PADDING, length) + _PADDING[:length]:
        name = _text(entry.name, path)
        raise FormatError(path, f"the local header of its member '{name}' has fields that PyTorch never writes")


def read_member(read: Read, archive: Archive, member: Member, path: Path | str) -> bytes:
    """All bytes of a member, checked.

    Raises:
        ChecksumError: they are not the bytes that were written.
    """
    raw = read(member.size, member.offset)
    if len(raw) != member.size:
        raise FormatError(path, f"the file ends within its member '{member.name}'")
    if archive.checksummed and zlib.crc32(raw) != member.crc32:
        raise ChecksumError(path, member.name, f"its member '{member.name}' is damaged: the checksum differs")
    return raw


# --- writing ---


def flags_of(size: int) -> int:
    """The flags that PyTorch gives a member of so many bytes."""
    return _FLAGS if size else _FLAGS_EMPTY


def end(members: Sequence[Member]) -> int:
    """Where the next member starts."""
    return members[-1].offset + members[-1].size + len(descriptor(members[-1])) if members else 0


def local_header(name: bytes, size: int, offset: int) -> bytes:
    """The local header of a member at `offset`, padded so that its bytes start at a multiple of 64."""
    wide = b"" if size < _MAX32 > offset else _wide_field(size, offset)
    bare = _LOCAL.size + len(name) + len(wide) + _EXTRA.size
    padding = _PADDINGS[-(offset + bare) % ALIGNMENT]
    lengths = len(name), len(wide) + len(padding)
    flags = _FLAGS if size else _FLAGS_EMPTY
    return _LOCAL.pack(_LOCAL_SIGNATURE, 0, flags, 0, 0, 0, 0, 0, 0, *lengths) + name + wide + padding


def descriptor(member: Member) -> bytes:
    """The data descriptor after a member; empty after an empty one."""
    if not member.size:
        return b""
    record = _DESCRIPTOR if member.size < _MAX32 > member.header else _DESCRIPTOR64
    return record.pack(_DESCRIPTOR_SIGNATURE, member.crc32, member.size, member.size)


def directory(members: Sequence[Member], start: int) -> bytes:
    """The central directory at `start` and the end records, which PyTorch always writes in both widths."""
    entries = [_central(member) for member in members]
    count, length = len(entries), sum(map(len, entries))
    stop = start + length
    made, needed = 0x031E, 0x002D
    entries.append(_END64.pack(_END64_SIGNATURE, 44, made, needed, 0, 0, count, count, length, start))
    entries.append(_LOCATOR64.pack(_LOCATOR64_SIGNATURE, 0, stop, 1))
    narrow = (min(count, _MAX16), min(count, _MAX16), min(length, _MAX32), min(start, _MAX32))
    entries.append(_END.pack(_END_SIGNATURE, 0, 0, *narrow, 0))
    return b"".join(entries)


def _central(member: Member) -> bytes:
    name, wide = member.name.encode(), _wide_field(member.size, member.header)
    size, header = min(member.size, _MAX32), min(member.header, _MAX32)
    lengths = len(name), len(wide), 0
    fixed = _CENTRAL.pack(_CENTRAL_SIGNATURE, member.flags, 0, 0, 0, member.crc32, size, size, *lengths, 0, header)
    return fixed + name + wide


def _wide_field(size: int, offset: int) -> bytes:
    """The zip64 field: the two sizes when they need it, the offset when it does; empty when neither does."""
    if size < _MAX32 > offset:
        return b""
    values = [size, size] * (size >= _MAX32) + [offset] * (offset >= _MAX32)
    return _EXTRA.pack(_EXTRA_ZIP64, 8 * len(values)) + b"".join(map(_U64.pack, values))
