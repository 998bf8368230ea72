"""The pickle of a state dict, as torch.save writes it: judged and read.

`read` takes the records that `pickles.parse` made. It knows the few names that a plain state dict needs; what is not
spelled as torch spells it is not plain, and is not interpreted. `pickled_tensors` reads the tensors in it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub.checkpoint import TensorInfo
from metta_hub.containers.pickled_tensors import Naming, PickledTensors, check_names, pairs_of
from metta_hub.containers.pickles import Boxed, Pickled, Record
from metta_hub.containers.plain import NotPlain, judge_globals
from metta_hub.errors import FormatError

#: Deepest `_metadata`; torch's own is two levels.
_MAX_METADATA_DEPTH = 8


@dataclass(frozen=True, slots=True)
class StateDict:
    """What the pickle of a plain state dict says; nothing of it has been compared with a file yet.

    Attributes:
        tensors: in the order of the dict.
        storages: the bytes that it claims for each storage that a tensor looks into.
        counts: the elements that it claims for each of them.
    """

    tensors: tuple[TensorInfo, ...]
    storages: Mapping[str, int]
    counts: Mapping[str, int]


def read(pickled: Pickled, path: Path | str, *, naming: Naming = "zip") -> StateDict:
    """Read the tensors of a plain state dict.

    Args:
        pickled: the records of its pickle.
        path: the file, for errors.
        naming: how storages are named.

    Raises:
        NotPlain: it holds anything else.
        FormatError: it claims something impossible.
    """
    reason = judge_globals(pickled.names)
    if reason:
        raise NotPlain(reason)
    if pickled.repeated is not None:
        raise FormatError(path, f"its pickle sets '{pickled.repeated}' twice")
    return _Reader(pickled, path, naming).read()


class _Reader:
    """Reads one pickle."""

    def __init__(self, pickled: Pickled, path: Path | str, naming: Naming) -> None:
        self._root = pickled.root
        self._path = path
        self._tensors = PickledTensors(pickled, path, naming=naming)

    def read(self) -> StateDict:
        tensors = tuple(self._tensors.read(name, record) for name, record in self._entries())
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise FormatError(self._path, "its pickle names a tensor twice")
        check_names(tensors, self._path)
        self._tensors.check_keys()
        return StateDict(tensors, self._tensors.sizes, self._tensors.counts)

    def _entries(self) -> Iterator[tuple[str, Record]]:
        root = self._root
        pairs: Iterable[tuple[object, object]]
        if type(root) is dict:
            pairs = root.items()
        elif type(root) is Record and self._tensors.is_ordered_dict(root):
            pairs = pairs_of(root) if root.args else root.pairs
            self._check_state(root)
        else:
            raise NotPlain(f"it holds {_describe(root)}, not a dict of tensors")
        for name, value in pairs:
            if type(name) is not str:
                raise NotPlain(f"a key of its dict is {_describe(name)}, not a name")
            if type(value) is not Record:
                raise NotPlain(f"its entry '{name}' is {_describe(value)}, not a tensor")
            yield name, value

    # --- what torch adds to the root ---

    def _check_state(self, root: Record) -> None:
        """The root of `Module.state_dict()` has one attribute, `_metadata`: version numbers by module."""
        if not root.states:
            return
        state = root.states[0]
        if len(root.states) > 1 or type(state) is not dict or set(state) != {"_metadata"}:
            raise NotPlain("its dict has attributes of its own")
        if not self._is_plain_data(state["_metadata"], set(), _MAX_METADATA_DEPTH):
            raise NotPlain("its dict's attribute _metadata holds more than text and numbers")

    def _is_plain_data(self, value: object, seen: set[int], depth: int) -> bool:
        if value is None or type(value) in {str, int, float, bool}:
            return True
        if id(value) in seen:
            return True
        seen.add(id(value))
        if type(value) is dict:
            pairs: Iterable[tuple[object, object]] = value.items()
        elif type(value) is Record and self._tensors.is_ordered_dict(value) and not value.states:
            pairs = pairs_of(value)
        else:
            return False
        return depth > 0 and all(type(key) is str and self._is_plain_data(item, seen, depth - 1) for key, item in pairs)


def _describe(value: object) -> str:
    value = value.value if type(value) is Boxed else value
    if type(value) is Record:
        return f"an object of {value.callable}" if not isinstance(value.callable, Record) else "an object"
    words = {dict: "a dict", list: "a list", tuple: "a tuple", str: "text", int: "a number", float: "a number"}
    return "None" if value is None else words.get(type(value), f"a {type(value).__name__}")
