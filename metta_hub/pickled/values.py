"""Plain Python values of what a pickle holds, for metadata: true types, and a note of what JSON has no word for."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from metta_hub import metadata
from metta_hub.checkpoint import Weights
from metta_hub.containers import copying
from metta_hub.containers.object_file import ObjectFile
from metta_hub.containers.pickled_tensors import PickledTensors
from metta_hub.containers.pickles import Boxed, Global, Persistent, Record
from metta_hub.containers.plain import REBUILDS, NotPlain
from metta_hub.errors import FormatError, MetadataError
from metta_hub.pickled import arrays, omegaconf, spaces
from metta_hub.pickled.objects import class_of, elements, is_dict, name_of, pairs_of, size_of
from metta_hub.strict_json import JSON, MAX_DEPTH, MAX_DIGITS, Limits, Repair, join

_PATHS = frozenset({f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")})
_LARGEST = 10**MAX_DIGITS
#: Letters of texts, keys, and what is told of values that were left out; one that JSON escapes counts for six.
_MAX_LETTERS = 4 << 20
#: Bytes of storages that are looked into for the values of tensors, and how many values a tensor counts for.
_MAX_BYTES = 256 << 20
_TENSOR_NODES = 20
#: Most parts of a path.
_MAX_PARTS = 256
#: Letters of a pointer that are shown.
_SHOWN = 200

#: A pointer, and the keys and places that lead to a value from there.
_Path: TypeAlias = tuple[str | int, ...]


class Values:
    """Reads the plain values of one pickle. What it makes is bounded: a pickle can hold one value in many places.

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
        self._nodes = Limits().nodes
        self._letters = _MAX_LETTERS
        self._bytes = _MAX_BYTES
        self._verified: set[str] = set()

    def plain(self, value: object, at: str = "") -> JSON:
        """A value as JSON has it; what it has no word for is null, and noted in `repairs`.

        Args:
            value: as the unpickler made it.
            at: an RFC 6901 pointer to where it will stand.

        Raises:
            MetadataError: more values, or deeper nested, than metadata may have.
        """
        return self._value(value, (at,), 0)

    def mapping(self, value: object) -> dict[str, JSON]:
        """What a dict of whatever class holds, as `plain` gives it; nothing for anything else.

        Raises:
            MetadataError: as `plain`.
        """
        return self._dict(pairs_of(omegaconf.opened(value)), ("",), 1)

    def leave_out_impossible(self, found: Mapping[str, JSON]) -> dict[str, JSON]:
        """Those of the required four that are no number, and noted as left out: a file is not refused for them."""
        impossible = {key: found[key] for key in metadata.REQUIRED if key in found and not _is_number(key, found[key])}
        for key, item in impossible.items():
            self._leave_out((f"/{key}",), str(item)[:_SHOWN])
        return impossible

    def _value(self, value: object, at: _Path, depth: int) -> JSON:
        self._count(at, nodes=1)
        if depth > MAX_DEPTH:
            raise MetadataError("", f"nested deeper than {MAX_DEPTH}")
        value = omegaconf.opened(value)
        if type(value) is str:
            self._count(at, letters=_letters(value))
            return value
        if value is None or type(value) in {bool, float}:
            return value  # type: ignore[return-value]
        if type(value) is int and -_LARGEST < value < _LARGEST:
            return value
        try:
            return self._object(value, at, depth + 1)
        except ValueError as error:  # of ours: in words
            self._leave_out(at, str(error))
            return None

    def _object(self, value: object, at: _Path, depth: int) -> JSON:
        space = spaces.described(value)
        if space is not None:
            return self._value(space, at, depth)
        if type(value) is Record and arrays.is_numpy(value):
            return self._value(arrays.numpy_value(value), at, depth)
        if type(value) is Record and class_of(value).startswith(REBUILDS):
            return self._value(self._tensor(value, at), at, depth)
        if is_dict(value):
            return self._dict(pairs_of(value), at, depth)
        if type(value) is Record and class_of(value) == "torch.Size" and type(value.args) is tuple and value.args:
            value = value.args[0]
        if size_of(value) > self._nodes:  # before they are listed
            self._count(at, nodes=size_of(value))
        listed = elements(value)
        if listed is not None:
            return [self._value(item, (*at, place), depth) for place, item in enumerate(listed)]
        word = _word(value)
        self._count(at, letters=_letters(word))
        return word

    def _dict(self, pairs: Iterable[tuple[object, object]], at: _Path, depth: int) -> dict[str, JSON]:
        found: dict[str, JSON] = {}
        for key, item in pairs:
            try:
                text = _key(key)
            except ValueError as error:
                self._leave_out(at, str(error))
                continue
            self._count(at, letters=_letters(text))
            if text in found:
                self._leave_out((*at, text), "another entry under the same name in JSON")
            found[text] = self._value(item, (*at, text), depth)
        return found

    def _tensor(self, value: Record, at: _Path) -> object:
        self._count(at, nodes=_TENSOR_NODES)
        try:
            info = self._tensors.read("value", value)
            weights: Weights = self._file.weights([info], self._tensors)
        except (NotPlain, FormatError) as error:
            raise ValueError(f"a tensor: {error}") from None
        self._bytes -= weights.storages[info.storage].size  # as much as all of it may have to be read or inflated
        if self._bytes < 0:
            raise ValueError(f"a tensor beyond the first {_MAX_BYTES >> 20} MiB of them")
        if info.storage not in self._verified:  # a view of a part has no checksum of its own
            copying.verify(weights.storages)
            self._verified.add(info.storage)
        return arrays.tensor_value(weights, info)

    def _leave_out(self, at: _Path, reason: str) -> None:
        pointer = _pointer(at)
        self._count(at, letters=_letters(pointer) + _letters(reason))
        self.repairs.append(Repair(pointer, reason, certain=False))

    def _count(self, at: _Path, *, nodes: int = 0, letters: int = 0) -> None:
        """Take what a value needs from what there is left.

        Raises:
            MetadataError: it is not enough.
        """
        self._nodes -= nodes
        self._letters -= letters
        if self._nodes < 0:
            raise MetadataError(_pointer(at[:3])[:_SHOWN], f"more than {Limits().nodes:,} values")
        if self._letters < 0:
            raise MetadataError(_pointer(at[:3])[:_SHOWN], f"more than {_MAX_LETTERS:,} letters")


def _is_number(key: str, item: JSON) -> bool:
    if item is None or type(item) is int:  # the usual case
        return True
    try:
        metadata.from_values({key: item})
    except MetadataError:
        return False
    return True


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
    raise ValueError(f"an entry with {_kind(key)} for a key")


def _word(value: object) -> str:
    """What is usually written as a text: devices, dtypes, paths.

    Raises:
        ValueError: it is something else; says what.
    """
    named = name_of(value)
    if named.startswith("torch."):
        return named
    match value:
        case Record(callable=called, args=(str(kind),)) if name_of(called) == "torch.device":
            return kind
        case Record(callable=called, args=(str(kind), int(number))) if name_of(called) == "torch.device":
            return f"{kind}:{number}"
        case Record(callable=called, args=tuple(parts)) if name_of(called) in _PATHS:
            if len(parts) <= _MAX_PARTS and all(type(part) is str for part in parts):
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
            return f"a number of more than {MAX_DIGITS} digits"
    return f"a {type(value).__name__}"


def _letters(text: str) -> int:
    return len(text) if text.isprintable() else 6 * len(text)


def _pointer(at: _Path) -> str:
    """An RFC 6901 pointer that can be written: strangers' keys may have halves of characters."""
    return join(str(at[0]), *at[1:]).encode("utf-8", "replace").decode()
