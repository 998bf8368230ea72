"""What the inert unpickler makes of everything that is not one of Python's own plain values."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


class Refused(Exception):  # noqa: N818 - never leaves the package: the unpickler turns it into a FormatError
    """A pickle does what no pickle of ours may do; the message says what."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle asks for. It is never looked up.

    Attributes:
        module: as the pickle has it, so `__builtin__` in protocols 0 to 2.
        name: dotted where the pickle has it dotted.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Record:
    """An object that a pickle would have made by calling something.

    Attributes:
        callable: what would have been called: a `Global`, or another record.
        args: the arguments; a tuple, or whatever stood in their place.
        kwargs: keyword arguments of `__newobj_ex__`; None when there are none.
        made: whether `callable.__new__` would have been called and not `callable` itself.
        items: values that would have been appended or added, in order.
        pairs: (key, value) that would have been set, in order; keys may repeat.
        states: what `__setstate__` or the instance dict would have been given, in order.
    """

    # The last three are empty tuples until something is put in: most records are tensors and stay empty.
    __slots__ = ("args", "callable", "items", "kwargs", "made", "pairs", "states")

    def __init__(self, callable_: object, args: object, kwargs: object = None, *, made: bool = False) -> None:
        self.callable = callable_
        self.args = args
        self.kwargs = kwargs
        self.made = made
        self.items: Sequence[object] = ()
        self.pairs: Sequence[tuple[object, object]] = ()
        self.states: Sequence[object] = ()

    def add_items(self, values: Iterable[object]) -> None:
        """Append or add `values`."""
        if isinstance(self.items, list):
            self.items.extend(values)
        else:
            self.items = list(values)

    def add_pairs(self, pairs: Iterable[tuple[object, object]]) -> None:
        """Set every key to its value."""
        if isinstance(self.pairs, list):
            self.pairs.extend(pairs)
        else:
            self.pairs = list(pairs)

    def add_state(self, state: object) -> None:
        """Give the object one more state."""
        if isinstance(self.states, list):
            self.states.append(state)
        else:
            self.states = [state]

    def __repr__(self) -> str:
        return f"<Record of {self.callable if isinstance(self.callable, Global) else 'a computed callable'}>"


class Persistent:
    """A reference to something outside the pickle.

    Attributes:
        pid: the identifier that the pickle gives; torch's is ("storage", class, key, device, elements).
    """

    __slots__ = ("pid",)

    def __init__(self, pid: object) -> None:
        self.pid = pid


class Boxed:
    """A dict key or set element that is not hashed, because a stranger chose it: equal only to itself.

    Attributes:
        value: the key or element.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Machine:
    """The state of the unpickler: what the opcodes work on.

    Attributes:
        data: the bytes that the pickle lies in.
        stack: values since the last mark.
        below: the stacks under the marks.
        memo: values by their index.
        globals: every name asked for, by (module, name).
        persistent: every persistent reference.
        position: the offset of the opcode that ran last.
        repeated: the first key set twice in one dict, as text.
        sets: how many sets were made.
        copied: elements of lists that calls were given.
        wide: bytes of texts that take more memory than bytes, and 16 for each of them.
    """

    __slots__ = (
        "below",
        "copied",
        "data",
        "globals",
        "memo",
        "persistent",
        "position",
        "repeated",
        "sets",
        "stack",
        "wide",
    )

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.persistent: list[Persistent] = []
        self.position = 0
        self.repeated: str | None = None
        self.sets = 0
        self.copied = 0
        self.wide = 0

    def finished(self) -> bool:
        """Whether STOP may stand here: one value, no open mark."""
        if self.below or len(self.stack) != 1:
            raise Refused(f"the pickle stops with {len(self.stack)} values and {len(self.below)} open marks")
        return True

    def since_mark(self) -> list[object]:
        """Take the values since the last mark, and the mark."""
        values = self.stack
        self.stack = self.below.pop()
        return values


#: Runs one opcode: the machine and the offset after the opcode in, the offset of the next opcode out.
Handler = Callable[[Machine, int], int]
