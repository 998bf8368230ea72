"""The pickle opcodes for the stack, the memo, numbers and text.

One small function per opcode: from the machine and the offset after the opcode to the offset of the next. Raising
IndexError or struct.error means that bytes or values ran out, KeyError that the memo has no such index: the loop
in `pickles.py` says where. It runs five opcodes itself: LONG_BINPUT, BINPUT, BINGET, BININT1 and
STOP.
"""

import codecs
from collections.abc import Callable
from struct import Struct

from metta_hub.containers.records import Handler, Machine, Refused

#: Deepest nesting of marks. Real pickles have one mark per level of nested containers and arguments.
MAX_MARKS = 10_000

#: Longest integer, in bytes or digits: turning longer ones into text and back takes quadratic time.
MAX_INT = 1024

#: Most bytes of texts with characters beyond ASCII, and 16 more for each such text: Python may take four bytes for
#: every character of it.
MAX_WIDE = 16 << 20

#: Longest line of the text opcodes, in bytes.
MAX_LINE = 64 << 10

_u16 = Struct("<H").unpack_from
_i32 = Struct("<i").unpack_from
_u32 = Struct("<I").unpack_from
_u64 = Struct("<Q").unpack_from
_f64 = Struct(">d").unpack_from


HANDLERS: dict[int, Handler] = {}


def _opcode(code: bytes) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS[code[0]] = handler
        return handler

    return register


# --- the stack ---


@_opcode(b"(")
def _mark(machine: Machine, position: int) -> int:
    if len(machine.below) >= MAX_MARKS:
        raise Refused(f"more than {MAX_MARKS:,} levels are nested")
    machine.below.append(machine.stack)
    machine.stack = []
    return position


@_opcode(b"0")
def _pop(machine: Machine, position: int) -> int:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.since_mark()
    return position


@_opcode(b"1")
def _pop_mark(machine: Machine, position: int) -> int:
    machine.since_mark()
    return position


@_opcode(b"2")
def _dup(machine: Machine, position: int) -> int:
    machine.stack.append(machine.stack[-1])
    return position


# --- the memo ---


@_opcode(b"\x94")
def _memoize(machine: Machine, position: int) -> int:
    machine.memo[len(machine.memo)] = machine.stack[-1]
    return position


@_opcode(b"j")
def _long_binget(machine: Machine, position: int) -> int:
    machine.stack.append(machine.memo[_u32(machine.data, position)[0]])
    return position + 4


# --- numbers and constants ---


def _fixed(code: bytes, unpack: Callable[[bytes, int], tuple[object, ...]], width: int) -> None:
    def push(machine: Machine, position: int) -> int:
        machine.stack.append(unpack(machine.data, position)[0])
        return position + width

    HANDLERS[code[0]] = push


def _constant(code: bytes, value: object) -> None:
    def push(machine: Machine, position: int) -> int:
        machine.stack.append(value)
        return position

    HANDLERS[code[0]] = push


_fixed(b"J", _i32, 4)
_fixed(b"M", _u16, 2)
_fixed(b"G", _f64, 8)
_constant(b"N", None)
_constant(b"\x88", value=True)
_constant(b"\x89", value=False)
_constant(b")", ())


# --- text, bytes and long integers: a length, then so many bytes ---


@_opcode(b"X")
def _binunicode(machine: Machine, position: int) -> int:
    # As `_sized` below does it, without the calls: one in fifteen opcodes that torch writes.
    data = machine.data
    start = position + 4
    end: int = start + _u32(data, position)[0]
    if end > len(data):
        raise Refused(f"it claims {end - start:,} bytes, {len(data) - start:,} are left")
    text = str(data[start:end], "utf-8", "surrogatepass")
    if not text.isascii():
        _count_wide(machine, end - start)
    machine.stack.append(text)
    return end


def _count_wide(machine: Machine, size: int) -> None:
    machine.wide += size + 16
    if machine.wide > MAX_WIDE:
        raise Refused(f"its texts have more than {MAX_WIDE:,} bytes beyond ASCII")


def _sized(code: bytes, length: Struct, make: Callable[[bytes], object], limit: int | None = None) -> None:
    """Register an opcode that is followed by a length and so many bytes; a false claim allocates nothing."""
    unpack, width = length.unpack_from, length.size

    def push(machine: Machine, position: int) -> int:
        data = machine.data
        start = position + width
        size: int = unpack(data, position)[0]
        if not 0 <= size <= len(data) - start:
            raise Refused(f"it claims {size:,} bytes, {len(data) - start:,} are left")
        if limit is not None and size > limit:
            raise Refused(f"the number takes {size:,} bytes; {limit:,} is the limit")
        made = make(data[start : start + size])
        if type(made) is str and not made.isascii():
            _count_wide(machine, size)
        machine.stack.append(made)
        return start + size

    HANDLERS[code[0]] = push


def _text(raw: bytes) -> str:
    return str(raw, "utf-8", "surrogatepass")


def _old_text(raw: bytes) -> str | bytes:
    """Python 2's `str` was text or bytes: text if it can be."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _little_endian(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


_sized(b"\x8c", Struct("<B"), _text)
_sized(b"\x8d", Struct("<Q"), _text)
_sized(b"U", Struct("<B"), _old_text)
_sized(b"T", Struct("<i"), _old_text)
_sized(b"C", Struct("<B"), bytes)
_sized(b"B", Struct("<I"), bytes)
_sized(b"\x8e", Struct("<Q"), bytes)
_sized(b"\x96", Struct("<Q"), bytearray)
_sized(b"\x8a", Struct("<B"), _little_endian, limit=MAX_INT)
_sized(b"\x8b", Struct("<i"), _little_endian, limit=MAX_INT)


# --- lines of text: protocol 0 ---


def take_line(machine: Machine, position: int) -> tuple[bytes, int]:
    """The line at `position`, and the offset after its end."""
    end = machine.data.find(b"\n", position, position + MAX_LINE)
    if end < 0:
        raise Refused("its line does not end")
    return machine.data[position:end], end + 1


def _decimal(line: bytes) -> int:
    if len(line) > MAX_INT:
        raise Refused(f"the number has {len(line):,} digits; {MAX_INT:,} is the limit")
    return int(line)


def _int(line: bytes) -> object:
    return line == b"01" if line in {b"00", b"01"} else _decimal(line)


def _long(line: bytes) -> object:
    return _decimal(line.removesuffix(b"L"))


def _unicode(line: bytes) -> object:
    return str(line, "raw-unicode-escape")


def _string(line: bytes) -> object:
    line = line.strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in {b"'", b'"'}:  # noqa: PLR2004 - two quotes
        raise Refused("the text is not in quotes")
    return _old_text(codecs.escape_decode(line[1:-1])[0])


def _lined(code: bytes, make: Callable[[bytes], object]) -> None:
    def push(machine: Machine, position: int) -> int:
        line, position = take_line(machine, position)
        made = make(line)
        if type(made) is str and not made.isascii():
            _count_wide(machine, len(line))
        machine.stack.append(made)
        return position

    HANDLERS[code[0]] = push


_lined(b"I", _int)
_lined(b"L", _long)
_lined(b"F", float)
_lined(b"V", _unicode)
_lined(b"S", _string)


@_opcode(b"p")
def _put(machine: Machine, position: int) -> int:
    line, position = take_line(machine, position)
    machine.memo[_decimal(line)] = machine.stack[-1]
    return position


@_opcode(b"g")
def _get(machine: Machine, position: int) -> int:
    line, position = take_line(machine, position)
    machine.stack.append(machine.memo[_decimal(line)])
    return position
