"""Damage: what disks, networks and strangers do to a file."""

import re
import struct

from hypothesis import strategies as st

_WIDTHS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
_GROWN = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
_PIECES = (
    b"\0",
    b"\xff",
    b"X",
    b"PK\1\2",
    b"PK\3\4",
    b"PK\5\6",
    b"{}",
    b'"',
    b"\x80\x02",
    b".",
    b"NaN",
    b"1e999",
    b"]" * 70,
)
_DIGITS = re.compile(rb"[0-9]+")


@st.composite
def mutations(draw, content):
    """`content` after a blow or a few; most are small, since what is torn apart is noticed at once."""
    blows = (_flip, _nudge, _nudge, _set, _cut, _remove, _insert, _repeat, _swap, _grow, _grow_digits, _grow_digits)
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 2, 3]))):
        content = draw(st.sampled_from(blows))(draw, content)
    return content


def _at(draw, content):
    return draw(st.integers(0, max(0, len(content) - 1)))


def _range(draw, content):
    start = _at(draw, content)
    return start, min(len(content), start + draw(st.sampled_from([1, 1, 2, 4, 8, 16, 64, 500])))


def _flip(draw, content):
    at = _at(draw, content)
    return (
        content[:at] + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[at : at + 1]) + content[at + 1 :]
    )


def _nudge(draw, content):
    """A byte that is a small number, or nearly what it was: counts, lengths and opcodes are such bytes."""
    at = _at(draw, content)
    known = content[at] if content else 0
    wanted = draw(st.sampled_from([known + 1, known - 1, 0, 1, 2, 3, 4, 8]))
    return content[:at] + bytes([wanted % 256]) + content[at + 1 :]


def _set(draw, content):
    start, stop = _range(draw, content)
    return content[:start] + draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\1"])) * (stop - start) + content[stop:]


def _cut(draw, content):
    return content[: _at(draw, content)]


def _remove(draw, content):
    start, stop = _range(draw, content)
    return content[:start] + content[stop:]


def _insert(draw, content):
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.sampled_from(_PIECES) | st.binary(min_size=1, max_size=4)) + content[at:]


def _repeat(draw, content):
    start, stop = _range(draw, content)
    return content[:stop] + content[start:stop] * draw(st.sampled_from([1, 2, 50])) + content[stop:]


def _swap(draw, content):
    (a, b), (c, d) = sorted([_range(draw, content), _range(draw, content)])
    return content if b > c else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _grow(draw, content):
    """Another number where one may stand in binary."""
    width = draw(st.sampled_from(sorted(_WIDTHS)))
    at = draw(st.integers(0, max(0, len(content) - width)))
    known = int.from_bytes(content[at : at + width], "little")
    wanted = draw(st.sampled_from([known + 1, known - 1, known * 2, known * 64, *_GROWN]))
    return content[:at] + struct.pack(_WIDTHS[width], wanted % (1 << 8 * width)) + content[at + width :]


def _grow_digits(draw, content):
    """Another number where one stands in text."""
    found = list(_DIGITS.finditer(content))
    if not found:
        return _insert(draw, content)
    place = draw(st.sampled_from(found))
    known = int(place.group()[:18])
    wanted = draw(st.sampled_from([known + 1, known - 1, known * 2, known * 64, *_GROWN, 10**30]))
    return content[: place.start()] + b"%d" % wanted + content[place.end() :]
