"""The zip structure of a PyTorch file, read strictly.

Members that are stored or deflated, one after the other without a byte between them: what two readers could understand
differently is refused. `zip_records` has the records.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import error
from typing import NamedTuple

from metta_hub.containers import inflating
from metta_hub.containers.zip_records import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DESCRIPTOR,
    DESCRIPTOR64,
    DESCRIPTOR_SIGNATURE,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    EXTRA,
    EXTRA_PADDING,
    EXTRA_ZIP64,
    FLAG_DESCRIPTOR,
    FLAG_UTF8,
    FLAGS,
    FLAGS_EMPTY,
    LOCAL,
    LOCAL_SIGNATURE,
    LOCATOR64,
    LOCATOR64_SIGNATURE,
    MAX16,
    MAX32,
    PADDING,
    U64,
    Member,
    descriptor,
    local_header,
)
from metta_hub.errors import ChecksumError, FormatError

#: Gives at most so many bytes from an offset on; fewer at the end of what there is.
Read = Callable[[int, int], bytes]

#: Kinds of extra fields.
Notes = frozenset[int]

#: Times and owners of files, as Info-ZIP, 7-Zip and others note them beside each member: they change no byte of it.
NOTES: Notes = frozenset({0x000A, 0x5455, 0x5855, 0x7855, 0x7875})

#: Most members, and largest central directory in bytes.
MAX_MEMBERS = 200_000
MAX_DIRECTORY = 64 << 20

_STORED, _DEFLATED = 0, 8

#: By method, the flags that may be set; two of them say how hard deflate tried.
_FLAGS_KNOWN: Mapping[int, int] = {
    _STORED: FLAG_DESCRIPTOR | FLAG_UTF8,
    _DEFLATED: FLAG_DESCRIPTOR | FLAG_UTF8 | 0b110,
}


@dataclass(frozen=True, slots=True)
class Archive:
    """The members of a zip, in the order of their bytes.

    Attributes:
        members: every member.
        checksummed: whether checksums were recorded. torch can be told not to: then all of them are 0. When only
            some are 0, that is their checksum, but for storages (`torch_zip`).
    """

    members: tuple[Member, ...]
    checksummed: bool


class _Entry(NamedTuple):
    """What the central directory says of a member; `when` is its time and date, `packed` its bytes in the file."""

    header: int
    size: int
    packed: int
    method: int
    crc32: int
    flags: int
    when: int
    name: bytes
    mode: int


def look(read: Read, size: int, path: Path | str, notes: Notes = frozenset()) -> Archive:
    """Find the members of a zip of `size` bytes.

    Args:
        read: gives bytes of it.
        size: how many it has.
        path: the file, for errors.
        notes: extra fields that it may have besides PyTorch's, as `NOTES`.

    Raises:
        FormatError: it is not a zip, is cut short, holds members that are encrypted or neither stored nor deflated,
            names a member twice, has bytes outside of its members, or its records contradict each other.
    """
    try:
        start, end, count = _end(read, size, path)
        directory = read(end - start, start)
        if len(directory) != end - start:
            raise FormatError(path, "the file ends within its directory")
        entries = _entries(directory, count, path, notes)
        members = _place(read, entries, start, path, notes)
    except error:
        raise FormatError(path, "the zip archive is cut short") from None
    return Archive(members, checksummed=any(member.crc32 for member in members))


def _end(read: Read, size: int, path: Path | str) -> tuple[int, int, int]:
    """Where the central directory starts and ends, and how many entries it has."""
    tail_start = max(0, size - END.size - LOCATOR64.size - END64.size)
    tail = read(size - tail_start, tail_start)
    if tail[-END.size : -END.size + 4] != END_SIGNATURE or len(tail) < END.size:
        _explain_missing_end(read, size, path)
    _, disk, first_disk, here, count, length, start, comment = END.unpack(tail[-END.size :])
    end = size - END.size
    if tail[-END.size - LOCATOR64.size :][:4] == LOCATOR64_SIGNATURE:
        end, *wide = _end64(tail, tail_start, path)
        narrow = (here, count, length, start)
        limits = (MAX16, MAX16, MAX32, MAX32)
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
    _, disk, at, disks = LOCATOR64.unpack_from(tail, len(tail) - END.size - LOCATOR64.size)
    if disk or disks > 1 or at != tail_start or at + END64.size != tail_start + len(tail) - 42:
        raise FormatError(path, "its zip64 end record is not where it should be")
    signature, length, _, _, disk, first_disk, here, count, size, start = END64.unpack_from(tail)
    if signature != END64_SIGNATURE or length != END64.size - 12 or disk or first_disk:
        raise FormatError(path, "its zip64 end record is damaged")
    return at, here, count, size, start


def _explain_missing_end(read: Read, size: int, path: Path | str) -> None:
    """Say why there is no end record at the end."""
    if read(4, 0) != LOCAL_SIGNATURE:
        raise FormatError(path, "it is not a zip archive")
    tail_start = max(0, size - MAX16 - END.size)
    found = read(size - tail_start, tail_start).rfind(END_SIGNATURE)
    if found < 0:
        raise FormatError(path, "the file is cut short: the directory at its end is missing")
    raise FormatError(path, f"there are bytes after its end record at byte {tail_start + found:,}")


def _entries(directory: bytes, count: int, path: Path | str, notes: Notes) -> list[_Entry]:
    """Read the central directory; sorted by where the members lie."""
    entries: list[_Entry] = []
    position = 0
    for _ in range(count):
        fixed = CENTRAL.unpack_from(directory, position)
        signature, flags, method, time, date, crc, packed, size, named, extra, comment, disk, mode, header = fixed
        name_at = position + CENTRAL.size
        position = name_at + named + extra + comment
        name = directory[name_at : name_at + named]
        if signature != CENTRAL_SIGNATURE or position > len(directory) or comment or disk:
            raise FormatError(path, "its directory is damaged")
        if method not in _FLAGS_KNOWN or flags & ~_FLAGS_KNOWN[method]:
            _refuse_member(name, method, flags, path)
        wide = _without(notes, directory[name_at + named : position])
        if wide or MAX32 in (size, packed, header):
            size, packed, header = _wide(wide, size, packed, header, path)
        if packed != size and (method == _STORED or size > packed * inflating.MAX_RATIO):
            raise FormatError(path, f"its directory gives the member '{_text(name, path)}' two sizes")
        entries.append(_Entry(header, size, packed, method, crc, flags, time | date << 16, name, mode))
    if position != len(directory):
        raise FormatError(path, "its directory holds more than its members")
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise FormatError(path, f"it holds '{_text(twice, path)}' twice")
    entries.sort()
    return entries


def _refuse_member(name: bytes, method: int, flags: int, path: Path | str) -> None:
    shown = name.decode(errors="replace")
    if flags & 1:
        raise FormatError(path, f"its member '{shown}' is encrypted")
    if method not in _FLAGS_KNOWN:
        hint = "load it with torch and save it again with torch.save, which never compresses"
        raise FormatError(path, f"its member '{shown}' is compressed by another method than deflate", hint=hint)
    raise FormatError(path, f"its directory is damaged at member '{shown}'")


def _wide(extra: bytes, size: int, packed: int, header: int, path: Path | str) -> tuple[int, int, int]:
    """Both sizes and the offset of a member from the zip64 extra field of its directory entry."""
    saturated = [value == MAX32 for value in (size, packed, header)]
    wide = _zip64_values(extra)
    if wide is None or len(wide) != sum(saturated) or len(extra) != 4 + 8 * len(wide):
        raise FormatError(path, "its directory has extra fields that PyTorch never writes")
    rest = iter(wide)
    size, packed, header = (
        next(rest) if full else value for full, value in zip(saturated, (size, packed, header), strict=True)
    )
    return size, packed, header


def _without(notes: Notes, extra: bytes) -> bytes:
    """Extra fields but for those that only note something; broken ones stay as they are."""
    if not notes or not extra:
        return extra
    kept, at = b"", 0
    while at + EXTRA.size <= len(extra):
        kind, length = EXTRA.unpack_from(extra, at)
        stop = at + EXTRA.size + length
        kept += b"" if kind in notes else extra[at:stop]
        at = stop
    return kept if at == len(extra) else extra


def _zip64_values(extra: bytes) -> list[int] | None:
    """The values of a zip64 field at the start of `extra`; None when there is none."""
    if len(extra) < EXTRA.size:
        return None
    kind, length = EXTRA.unpack_from(extra)
    if kind != EXTRA_ZIP64 or length % 8 or length > len(extra) - 4:
        return None
    return [U64.unpack_from(extra, 4 + at)[0] for at in range(0, length, 8)]


def _place(read: Read, entries: Sequence[_Entry], end: int, path: Path | str, notes: Notes) -> tuple[Member, ...]:
    """Find the bytes of every member; they and what belongs to them must fill everything up to `end`."""
    members: list[Member] = []
    previous: _Entry | None = None
    at, between = 0, b""
    for entry in entries:
        header_at, size, packed, method, crc32, flags, when, raw, mode = entry
        name = _text(raw, path)
        # Nearly always a descriptor and a header as PyTorch writes them stand here: then one comparison does.
        usual = local_header(raw, size, header_at)
        between += usual
        as_usual = header_at + len(usual) == at + len(between) and read(len(between), at) == between
        if as_usual and method == _STORED and flags == (FLAGS if size else FLAGS_EMPTY) and not when:
            offset = header_at + len(usual)
        else:
            offset = header_at + _examine(read, at, previous, entry, path, notes)
        at = offset + packed
        if at > end:
            beyond = f"claims {packed:,} bytes; {max(0, end - offset):,} are left"
            raise FormatError(path, f"its member '{name}' {beyond}")
        member = Member(name, header_at, offset, size, crc32, flags, packed if method == _DEFLATED else None, mode)
        members.append(member)
        previous, between = entry, descriptor(member)
    gap = _checked_gap(end - at, previous, path)
    if previous is not None:
        _check_descriptor(read(gap, at), previous, path)
    return tuple(members)


def _examine(read: Read, at: int, previous: _Entry | None, entry: _Entry, path: Path | str, notes: Notes) -> int:
    """Check what stands between the end of a member and the bytes of the next; how long its local header is."""
    gap = _checked_gap(entry.header - at, previous, path)
    if previous is not None:
        _check_descriptor(read(gap, at), previous, path)
    fixed = LOCAL.size + len(entry.name)
    local = read(fixed, entry.header)
    length = _extra_length(local, entry, path)
    extra = read(length, entry.header + fixed)
    if len(extra) < length:
        raise FormatError(path, f"the file ends within its member '{_text(entry.name, path)}'")
    _check_extra(_without(notes, extra), entry, path)
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
    allowed = {DESCRIPTOR.size, DESCRIPTOR64.size} if previous.flags & FLAG_DESCRIPTOR else {0}
    if gap not in allowed:
        raise FormatError(path, f"there are {gap:,} bytes after its member '{name}' that belong to nothing")
    return gap


def _check_descriptor(raw: bytes, entry: _Entry, path: Path | str) -> None:
    """A data descriptor repeats what the directory says; there is none (b"") without flag bit 3."""
    if not raw:
        return
    record = DESCRIPTOR if len(raw) == DESCRIPTOR.size else DESCRIPTOR64
    if record.unpack(raw) != (DESCRIPTOR_SIGNATURE, entry.crc32, entry.packed, entry.size):
        raise FormatError(path, f"what stands after its member '{_text(entry.name, path)}' contradicts its directory")


def _extra_length(local: bytes, entry: _Entry, path: Path | str) -> int:
    """Bytes of extra fields in a local header, once the rest of it agrees with the directory."""
    signature, _, flags, method, time, date, crc, packed, size, named, extra = LOCAL.unpack_from(local)
    same = (
        signature == LOCAL_SIGNATURE
        and (flags, method, time | date << 16) == (entry.flags, entry.method, entry.when)
        and local[LOCAL.size :] == entry.name
        and named == len(entry.name)
    )
    if flags & FLAG_DESCRIPTOR:
        known = crc in {0, entry.crc32} and packed in {0, entry.packed, MAX32} and size in {0, entry.size, MAX32}
    else:
        known = crc == entry.crc32 and packed in {entry.packed, MAX32} and size in {entry.size, MAX32}
    if not (same and known):
        name = _text(entry.name, path)
        raise FormatError(path, f"the local header of its member '{name}' contradicts its directory")
    return int(extra)


def _check_extra(extra: bytes, entry: _Entry, path: Path | str) -> None:
    """A local header may have a zip64 field that agrees with the directory, and PyTorch's padding; no more."""
    wide = _zip64_values(extra)
    if wide is not None:
        agreed = {(entry.size, entry.packed), (entry.size, entry.packed, entry.header), (entry.header,)}
        if tuple(wide) not in agreed:
            name = _text(entry.name, path)
            raise FormatError(path, f"the local header of its member '{name}' contradicts its directory")
        extra = extra[4 + 8 * len(wide) :]
    if not extra:
        return
    length = len(extra) - EXTRA.size
    if length < 0 or extra != EXTRA.pack(EXTRA_PADDING, length) + PADDING[:length]:
        name = _text(entry.name, path)
        raise FormatError(path, f"the local header of its member '{name}' has fields that PyTorch never writes")


def read_member(read: Read, archive: Archive, member: Member, path: Path | str) -> bytes:
    """All bytes of a member, checked.

    Raises:
        ChecksumError: they are not the bytes that were written.
        FormatError: they are more than a pickle may have, or cut short.
    """
    taken = max(member.size, member.packed or 0)
    if taken > inflating.MAX_WHOLE:
        reason = f"its member '{member.name}' claims {taken:,} bytes; {inflating.MAX_WHOLE:,} is the limit"
        raise FormatError(path, reason)
    raw = read(member.size if member.packed is None else member.packed, member.offset)
    if member.packed is not None:
        raw = inflating.whole(raw, member, path)
    if len(raw) != member.size:
        raise FormatError(path, f"the file ends within its member '{member.name}'")
    if archive.checksummed and zlib.crc32(raw) != member.crc32:
        raise ChecksumError(path, member.name, f"its member '{member.name}' is damaged: the checksum differs")
    return raw
