"""The inert unpickler: says what a pickle holds, and does nothing of what the pickle asks for.

Nothing is imported and nothing is called, whatever is named. Python's own plain values come out as they are;
everything else comes out as a record of what was asked: `Global` for a name, `Record` for an object made by
calling something, `Persistent` for a reference to bytes outside the pickle. `value_opcodes.py` and
`object_opcodes.py` have one small function per opcode; here are the loop that runs them, and the limits. Source
for the opcodes: `pickletools` of CPython, protocols 0 to 5.

A pickle is strangers' data. Every length is compared with what is left before a byte is taken, the memo is a dict
(the C unpickler allocates 16 bytes times whatever index a pickle names), and no foreign value is ever hashed or
compared: a key that is not a plain text, number, bytes, None or Global is boxed (`Boxed`) and hashed by identity.
"""

import gc
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat, takewhile
from pathlib import Path

from metta_hub.containers import object_opcodes, value_opcodes
from metta_hub.containers.records import Boxed, Global, Handler, Machine, Persistent, Record, Refused
from metta_hub.errors import FormatError

__all__ = [
    "MAX_BYTES",
    "MAX_STEPS",
    "Beginning",
    "Boxed",
    "Global",
    "Persistent",
    "Pickled",
    "Record",
    "beginning",
    "parse",
    "paused_gc",
]

#: Largest pickle that is parsed, in bytes. A state dict of 16,384 tensors takes 3 MB.
MAX_BYTES = 32 << 20

#: Most opcodes that are run: 50,000 tensors' worth. Each makes at most one object, and few of them take more than 100
#: bytes (`value_opcodes` and `object_opcodes` count those that do), so 200 MB are enough for all of it.
MAX_STEPS = 2_000_000

_LONG_BINPUT, _BINPUT, _BINGET, _BININT1, _STOP = b"rqhK."
_u32 = struct.Struct("<I").unpack_from


def _unknown(_machine: Machine, _position: int) -> int:
    raise Refused("no pickle protocol up to 5 has it")


_ALL = value_opcodes.HANDLERS | object_opcodes.HANDLERS
_HANDLERS: tuple[Handler, ...] = tuple(_ALL.get(code, _unknown) for code in range(256))


@dataclass(frozen=True, slots=True)
class Pickled:
    """What a pickle says.

    Attributes:
        root: the pickled value.
        globals: every name that it asks for, in order of appearance.
        persistent: every reference to something outside of it, in order of appearance.
        repeated: the first key that was set twice in one dict, as text; None when there is none.
        size: bytes up to and including the final STOP.
    """

    root: object
    globals: tuple[Global, ...]
    persistent: tuple[Persistent, ...]
    repeated: str | None
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        """Every `module.name` that it asks for, sorted."""
        return tuple(sorted({str(name) for name in self.globals}))


@contextmanager
def paused_gc() -> Iterator[None]:
    """Pause the cyclic collector: with torch loaded, it doubles the time that a large table takes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def parse(data: bytes, source: Path | str, *, start: int = 0, among: int = 1) -> Pickled:
    """Read one pickle; call nothing.

    Args:
        data: the pickle; what follows its STOP is left alone, `Pickled.size` says where it ends.
        source: the file, for errors.
        start: where in `data` the pickle begins.
        among: how many pickles are read and kept together; they share the limits.

    Raises:
        FormatError: it is damaged, over a limit, or uses an opcode that only code outside of it can resolve;
            names the opcode and its offset, and has in `globals` what was asked for up to there.
    """
    if len(data) - start > MAX_BYTES // among:
        raise FormatError(source, f"its pickle has {len(data) - start:,} bytes; {MAX_BYTES // among:,} is the limit")
    machine = Machine(data)
    with paused_gc():
        try:
            size = _run(machine, start, source, MAX_STEPS // among) - start
        except FormatError as error:
            error.globals = _names(machine)
            raise
    return Pickled(
        root=machine.stack[-1],
        globals=tuple(machine.globals.values()),
        persistent=tuple(machine.persistent),
        repeated=machine.repeated,
        size=size,
    )


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a pickle begins.

    Attributes:
        root: the value that is being made, as far as it was; a `Global` when its call was not reached.
        pairs: the keys and values, or the attributes, that it is given first.
        names: every `module.name` that was asked for so far, sorted.
        complete: whether that is all of it.
    """

    root: object
    pairs: tuple[tuple[object, object], ...]
    names: tuple[str, ...]
    complete: bool


def beginning(data: bytes) -> Beginning:
    """Read the first bytes of a pickle, as far as they go; where they end in the middle of something is no error."""
    machine, complete = Machine(data), False
    with suppress(Refused, KeyError, IndexError, struct.error, ValueError):
        complete = _steps(machine, MAX_STEPS)
    bottom, *above = [*machine.below, machine.stack]
    root = bottom[0] if bottom else None
    pairs: list[tuple[object, object]] = []
    if type(root) is dict and not root and len(bottom) > 2 and type(bottom[1]) is str:  # noqa: PLR2004  (root, key, value)
        pairs.append((bottom[1], bottom[2]))  # the only entry of a dict, whose value is still being made
    for holder in (root, bottom[-1] if len(bottom) > 1 else None):  # an object's attributes are collected beside it
        if not pairs and type(holder) is Record:
            pairs += holder.pairs
        elif not pairs and type(holder) is dict:
            pairs += holder.items()
    if not pairs and above:
        # What is being made beside its state, when the bytes end there, puts the rest out of step.
        pairs += takewhile(lambda pair: type(pair[0]) is str, zip(above[0][::2], above[0][1::2], strict=False))
    return Beginning(root, tuple(pairs), _names(machine), complete)


def _names(machine: Machine) -> tuple[str, ...]:
    return tuple(sorted(map(str, machine.globals.values())))


def _run(machine: Machine, start: int, source: Path | str, limit: int) -> int:
    """Run opcodes until STOP, and at most `limit` of them; the offset after it."""
    machine.position = start
    try:
        if _steps(machine, limit):
            return machine.position + 1
    except Refused as refusal:
        reason = str(refusal)
    except KeyError as error:
        reason = f"nothing was stored under {error}"
    except (IndexError, struct.error):
        reason = "the pickle ends early, or takes more values than it made"
    except UnicodeDecodeError:
        reason = "the text is not UTF-8"
    except ValueError:
        reason = "the number or text is malformed"
    else:
        raise FormatError(source, f"its pickle has more than {limit:,} opcodes")
    place = f"byte {machine.position}, {_name(machine.data, machine.position)}"
    raise FormatError(source, f"its pickle is damaged at {place}: {reason}")


def _steps(machine: Machine, limit: int) -> bool:
    """Run opcodes until STOP (True) or the limit (False); `machine.position` is where it stopped or failed.

    Four opcodes stand here and not in the table: they are over half of what torch writes, and a call for each
    would take a tenth longer in all.
    """
    data, memo, handlers = machine.data, machine.memo, _HANDLERS
    position = machine.position
    try:
        for _ in repeat(None, limit):
            code = data[position]
            if code == _LONG_BINPUT:
                memo[_u32(data, position + 1)[0]] = machine.stack[-1]
                position += 5
            elif code == _BINPUT:
                memo[data[position + 1]] = machine.stack[-1]
                position += 2
            elif code == _BINGET:
                machine.stack.append(memo[data[position + 1]])
                position += 2
            elif code == _BININT1:
                machine.stack.append(data[position + 1])
                position += 2
            elif code == _STOP and machine.finished():
                return True
            else:
                position = handlers[code](machine, position + 1)
        return False
    finally:
        machine.position = position


def _name(data: bytes, position: int) -> str:
    from pickletools import opcodes  # takes longer to import than most pickles take to parse

    if position >= len(data):
        return "its end"
    names = {ord(known.code): known.name for known in opcodes}
    return f"opcode {names.get(data[position], hex(data[position]))}"
