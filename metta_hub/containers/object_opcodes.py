"""The pickle opcodes for containers and objects: containers are made, objects are only recorded.

The shape of the functions is that of `value_opcodes.py`.
"""

from collections.abc import Callable
from struct import Struct

from metta_hub.containers.records import Boxed, Global, Handler, Machine, Persistent, Record, Refused
from metta_hub.containers.value_opcodes import take_line

#: Most sets: an empty one takes 216 bytes of memory for one byte of pickle.
MAX_SETS = 100_000

#: Most elements of lists that calls are given, all together: a copy of each list is kept.
MAX_COPIED = 4_000_000

#: Most names that are asked for, and longest one: of a policy there are fewer than a hundred.
MAX_GLOBALS = 10_000
MAX_NAME = 1000

#: Integers at or beyond this can be chosen so that they all hash alike, which makes a dict quadratic.
_MAX_HASHED_INT = 1 << 60

_HIGHEST_PROTOCOL = 5

_u64 = Struct("<Q").unpack_from

HANDLERS: dict[int, Handler] = {}


def _opcode(code: bytes) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS[code[0]] = handler
        return handler

    return register


# --- containers ---


def _key(value: object) -> object:
    """`value` if hashing it is safe whoever chose it; boxed otherwise.

    Tuples are boxed too: tuples of numbers that all hash alike are easy to make, and turn a dict quadratic.
    """
    if type(value) is str:
        return value
    if type(value) is int:
        return value if -_MAX_HASHED_INT < value < _MAX_HASHED_INT else Boxed(value)
    return value if value is None or type(value) in {bytes, bool, float, Global} else Boxed(value)


def _count_set(machine: Machine) -> None:
    machine.sets += 1
    if machine.sets > MAX_SETS:
        raise Refused(f"more than {MAX_SETS:,} sets")


@_opcode(b"]")
def _empty_list(machine: Machine, position: int) -> int:
    machine.stack.append([])
    return position


@_opcode(b"}")
def _empty_dict(machine: Machine, position: int) -> int:
    machine.stack.append({})
    return position


@_opcode(b"\x8f")
def _empty_set(machine: Machine, position: int) -> int:
    _count_set(machine)
    machine.stack.append(set())
    return position


@_opcode(b"t")
def _tuple(machine: Machine, position: int) -> int:
    values = tuple(machine.stack)
    machine.stack = machine.below.pop()
    machine.stack.append(values)
    return position


@_opcode(b"\x85")
def _tuple1(machine: Machine, position: int) -> int:
    machine.stack[-1] = (machine.stack[-1],)
    return position


@_opcode(b"\x86")
def _tuple2(machine: Machine, position: int) -> int:
    stack = machine.stack
    last = stack.pop()
    stack[-1] = (stack[-1], last)
    return position


@_opcode(b"\x87")
def _tuple3(machine: Machine, position: int) -> int:
    stack = machine.stack
    last = stack.pop()
    middle = stack.pop()
    stack[-1] = (stack[-1], middle, last)
    return position


@_opcode(b"l")
def _list(machine: Machine, position: int) -> int:
    values = machine.since_mark()
    machine.stack.append(values)
    return position


@_opcode(b"d")
def _dict(machine: Machine, position: int) -> int:
    values = machine.since_mark()
    target: dict[object, object] = {}
    _set_pairs(machine, target, values)
    machine.stack.append(target)
    return position


@_opcode(b"\x91")
def _frozenset(machine: Machine, position: int) -> int:
    _count_set(machine)
    values = machine.since_mark()
    machine.stack.append(frozenset(map(_key, values)))
    return position


def _append_all(target: object, values: list[object]) -> None:
    if type(target) is list:
        target.extend(values)
    elif type(target) is Record:
        target.add_items(values)
    else:
        raise Refused(f"it appends to a {type(target).__name__}")


@_opcode(b"a")
def _append(machine: Machine, position: int) -> int:
    value = machine.stack.pop()
    _append_all(machine.stack[-1], [value])
    return position


@_opcode(b"e")
def _appends(machine: Machine, position: int) -> int:
    values = machine.since_mark()
    _append_all(machine.stack[-1], values)
    return position


@_opcode(b"\x90")
def _additems(machine: Machine, position: int) -> int:
    values = machine.since_mark()
    target = machine.stack[-1]
    if type(target) is set:
        target.update(map(_key, values))
    elif type(target) is Record:
        target.add_items(values)
    else:
        raise Refused(f"it adds to a {type(target).__name__}")
    return position


def _set_pairs(machine: Machine, target: object, values: list[object]) -> None:
    if len(values) % 2:
        raise Refused("a key has no value")
    pairs = zip(values[::2], values[1::2], strict=True)
    if type(target) is Record:
        target.add_pairs(pairs)
    elif type(target) is dict:
        for key, value in pairs:
            safe = _key(key)
            if safe in target and machine.repeated is None:
                machine.repeated = str(safe)
            target[safe] = value
    else:
        raise Refused(f"it sets items of a {type(target).__name__}")


@_opcode(b"s")
def _setitem(machine: Machine, position: int) -> int:
    value = machine.stack.pop()
    key = machine.stack.pop()
    _set_pairs(machine, machine.stack[-1], [key, value])
    return position


@_opcode(b"u")
def _setitems(machine: Machine, position: int) -> int:
    values = machine.since_mark()
    _set_pairs(machine, machine.stack[-1], values)
    return position


# --- names and objects: recorded, never looked up, never called ---


def _named(machine: Machine, module: object, name: object) -> Global:
    if type(module) is not str or type(name) is not str:
        raise Refused("the name is not a text")
    known = machine.globals.get((module, name))
    if known is None:
        if len(module) + len(name) > MAX_NAME:
            raise Refused(f"the name has {len(module) + len(name):,} characters; {MAX_NAME:,} is the limit")
        if len(machine.globals) >= MAX_GLOBALS:
            raise Refused(f"more than {MAX_GLOBALS:,} names are asked for")
        known = machine.globals[module, name] = Global(module, name)
    return known


def _named_in_lines(machine: Machine, position: int) -> tuple[Global, int]:
    module, position = take_line(machine, position)
    name, position = take_line(machine, position)
    return _named(machine, module.decode(), name.decode()), position


@_opcode(b"c")
def _global(machine: Machine, position: int) -> int:
    found, position = _named_in_lines(machine, position)
    machine.stack.append(found)
    return position


@_opcode(b"\x93")
def _stack_global(machine: Machine, position: int) -> int:
    name = machine.stack.pop()
    machine.stack[-1] = _named(machine, machine.stack[-1], name)
    return position


def _as_it_is(machine: Machine, values: list[object]) -> tuple[list[object]]:
    """A call's only argument, a list: what the pickle appends to it afterwards, the call did not see."""
    machine.copied += len(values)
    if machine.copied > MAX_COPIED:
        raise Refused(f"its calls are given lists of more than {MAX_COPIED:,} elements")
    return (values.copy(),)


@_opcode(b"R")
def _reduce(machine: Machine, position: int) -> int:
    stack = machine.stack
    args = stack.pop()
    if type(args) is tuple and len(args) == 1 and type(args[0]) is list:
        args = _as_it_is(machine, args[0])
    stack[-1] = Record(stack[-1], args)
    return position


@_opcode(b"\x81")
def _newobj(machine: Machine, position: int) -> int:
    args = machine.stack.pop()
    machine.stack[-1] = Record(machine.stack[-1], args, made=True)
    return position


@_opcode(b"\x92")
def _newobj_ex(machine: Machine, position: int) -> int:
    kwargs = machine.stack.pop()
    args = machine.stack.pop()
    machine.stack[-1] = Record(machine.stack[-1], args, kwargs, made=True)
    return position


@_opcode(b"o")
def _obj(machine: Machine, position: int) -> int:
    values = machine.since_mark()
    machine.stack.append(Record(values[0], tuple(values[1:])))
    return position


@_opcode(b"i")
def _inst(machine: Machine, position: int) -> int:
    found, position = _named_in_lines(machine, position)
    values = machine.since_mark()
    machine.stack.append(Record(found, tuple(values)))
    return position


@_opcode(b"b")
def _build(machine: Machine, position: int) -> int:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if type(target) is not Record:
        raise Refused(f"it sets the state of a {type(target).__name__}")
    target.add_state(state)
    return position


def _push_persistent(machine: Machine, pid: object) -> None:
    reference = Persistent(pid)
    machine.persistent.append(reference)
    machine.stack.append(reference)


@_opcode(b"P")
def _persid(machine: Machine, position: int) -> int:
    line, position = take_line(machine, position)
    _push_persistent(machine, line.decode())
    return position


@_opcode(b"Q")
def _binpersid(machine: Machine, position: int) -> int:
    _push_persistent(machine, machine.stack.pop())
    return position


# --- framing, and what only code outside the pickle could resolve ---


@_opcode(b"\x80")
def _proto(machine: Machine, position: int) -> int:
    version = machine.data[position]
    if version > _HIGHEST_PROTOCOL:
        raise Refused(f"protocol {version} is not known")
    return position + 1


@_opcode(b"\x95")
def _frame(machine: Machine, position: int) -> int:
    size = _u64(machine.data, position)[0]
    if size > len(machine.data) - position - 8:
        raise Refused(f"its frame claims {size:,} bytes, {len(machine.data) - position - 8:,} are left")
    return position + 8


def _refuse(codes: bytes, reason: str) -> None:
    def handler(_machine: Machine, _position: int) -> int:
        raise Refused(reason)

    HANDLERS.update(dict.fromkeys(codes, handler))


_refuse(b"\x82\x83\x84", "extension codes mean something only in the process that wrote them")
_refuse(b"\x97\x98", "its buffers lie outside of the file")
