"""Plain Python values of what a pickle holds, for metadata: true types, and a note of what JSON has no word for."""

from collections.abc import Iterable
from pathlib import Path

from metta_hub.checkpoint import Weights
from metta_hub.containers.object_file import ObjectFile
from metta_hub.containers.pickled_tensors import PickledTensors
from metta_hub.containers.pickles import Boxed, Global, Persistent, Record
from metta_hub.containers.plain import NotPlain
from metta_hub.errors import FormatError, MetadataError
from metta_hub.pickled import arrays, omegaconf, spaces
from metta_hub.pickled.objects import class_of, elements, is_dict, name_of, pairs_of
from metta_hub.strict_json import JSON, MAX_DEPTH, Limits, Repair, join

_TENSORS = "torch._utils._rebuild_"
_PATHS = frozenset({f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")})
_LARGEST = 1 << 63


class Values:
    """Reads the plain values of one pickle.

    Args:
        file: what the pickle lies in.
        name: which of its pickles.

    Attributes:
        repairs: what was left out, as metadata tell of it.
    """

    def __init__(self, file: ObjectFile, name: str) -> None:
        self.repairs: list[Repair] = []
        self._file = file
        self._tensors: PickledTensors = file.tensors(name)
        self._left = Limits().nodes

    def plain(self, value: object, at: str = "") -> JSON:
        """A value as JSON has it; what it has no word for is null, and noted in `repairs`.

        Args:
            value: as the unpickler made it.
            at: an RFC 6901 pointer to where it will stand.

        Raises:
            MetadataError: more values, or deeper nested, than metadata may have.
        """
        return self._value(value, at, 0)

    def _value(self, value: object, at: str, depth: int) -> JSON:
        self._left -= 1
        if self._left < 0:
            raise MetadataError(at, f"more than {Limits().nodes:,} values")
        if depth > MAX_DEPTH:
            raise MetadataError("", f"nested deeper than {MAX_DEPTH}")
        value = omegaconf.opened(value)
        if value is None or type(value) in {str, bool, float}:
            return value  # type: ignore[return-value]
        if type(value) is int and -_LARGEST <= value < _LARGEST:
            return value
        try:
            return self._object(value, at, depth + 1)
        except ValueError as error:  # of ours: in words
            self.repairs.append(Repair(at, str(error), certain=False))
            return None

    def _object(self, value: object, at: str, depth: int) -> JSON:
        space = spaces.described(value)
        if space is not None:
            return self._value(space, at, depth)
        if type(value) is Record and arrays.is_numpy(value):
            return self._value(arrays.numpy_value(value), at, depth)
        if type(value) is Record and class_of(value).startswith(_TENSORS):
            return self._value(self._tensor(value, at), at, depth)
        if is_dict(value):
            return self._dict(pairs_of(value), at, depth)
        listed = elements(value.args) if type(value) is Record and class_of(value) == "torch.Size" else elements(value)
        if listed is not None:
            return [self._value(item, join(at, place), depth) for place, item in enumerate(listed)]
        return _word(value)

    def _dict(self, pairs: Iterable[tuple[object, object]], at: str, depth: int) -> JSON:
        found: dict[str, JSON] = {}
        for key, item in pairs:
            text = _key(key)
            found[text] = self._value(item, join(at, text), depth)
        return found

    def _tensor(self, value: Record, at: str) -> object:
        try:
            info = self._tensors.read(at or "value", value)
            weights: Weights = self._file.weights([info], self._tensors)
        except (NotPlain, FormatError) as error:
            raise ValueError(f"a tensor: {error}") from None
        return arrays.tensor_value(weights, info)


def _key(key: object) -> str:
    """A key as `json.dumps` spells it."""
    if type(key) is str:
        return key
    if key is None:
        return "null"
    if type(key) is bool:
        return str(key).lower()
    if type(key) in {int, float}:
        return str(key)
    raise ValueError(f"a dict with {_kind(key)} for a key")


def _word(value: object) -> JSON:
    """What is usually written as a text: devices, dtypes, paths.

    Raises:
        ValueError: it is something else; says what.
    """
    named = name_of(value)
    if named.startswith("torch."):
        return named
    match value:
        case Record(callable=called, args=(str(kind), *rest)) if name_of(called) == "torch.device":
            return ":".join(map(str, (kind, *rest)))
        case Record(callable=called, args=tuple(parts)) if name_of(called) in _PATHS:
            if all(type(part) is str for part in parts):
                return str(Path(*map(str, parts)))
    raise ValueError(_kind(value))


def _kind(value: object) -> str:
    """What something is, in a few words."""
    match value:
        case Boxed():
            return _kind(value.value)
        case Global():
            return f"the name {value}"
        case Persistent():
            return "a storage"
        case Record():
            return f"an object of {class_of(value) or 'an unknown class'}"
        case int():
            return "a number beyond 64 bits"
    return f"a {type(value).__name__}"
