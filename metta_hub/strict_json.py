"""Strict JSON from strangers: bounded before it is believed, and written so that any reader takes it.

`json.loads` takes a key twice, NaN, lone surrogates, and any depth and size. Here a key given twice is
refused, what JSON cannot say becomes null with a note, and size, depth and number of values have limits.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from metta_hub.errors import FormatError, MetadataError

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None

MAX_DEPTH = 64
#: A whole number of at most this many digits is a float's business too: its conversion never overflows.
MAX_DIGITS = 300

_TOO_BIG = 10**MAX_DIGITS
_BOM = b"\xef\xbb\xbf"
# Possessive and never failing, so that a broken text costs one pass and not one pass per quotation mark.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much JSON is believed: bytes of text, and values of every kind in it."""

    size: int = 16 << 20
    nodes: int = 200_000


@dataclass(frozen=True, slots=True)
class Repair:
    """One value that was read as something else than what the file says.

    Attributes:
        pointer: where, as an RFC 6901 pointer.
        was: what the file says; a bare NaN is "NaN", a lone surrogate its escape.
        certain: whether nothing was lost; a printed tensor, for one, is rounded.
    """

    pointer: str
    was: JSON
    certain: bool


class Loaded(NamedTuple):
    """A value, and what had to be changed to make it strict JSON."""

    value: JSON
    repairs: tuple[Repair, ...]


class _Twice(NamedTuple):
    """Stands for an object that gives a key twice, until the walk knows its pointer."""

    key: str


def join(at: str, *parts: str | int) -> str:
    """Extend an RFC 6901 pointer."""
    return at + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def split(pointer: str) -> list[str]:
    """The parts of an RFC 6901 pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def loads(data: bytes, path: Path | str, limits: Limits | None = None) -> Loaded:
    """Read JSON, UTF-8 with or without a byte order mark.

    NaN, Infinity and numbers beyond a double become null, a lone surrogate becomes U+FFFD; each is in
    `repairs`.

    Args:
        data: the text.
        path: what to call it in errors.
        limits: other bounds than the default ones.

    Raises:
        FormatError: not JSON, not UTF-8, or larger than the limits.
        MetadataError: a key twice in one object, a number of more than 300 digits, nesting deeper than 64.
    """
    limits = limits or Limits()
    _check_size(data, path, limits)
    try:
        text = data.removeprefix(_BOM).decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise FormatError(path, f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise FormatError(path, f"not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    except ValueError:  # Python's own limit for the digits of an int
        raise MetadataError("", "a number has too many digits") from None
    except RecursionError:
        raise MetadataError("", f"nested deeper than {MAX_DEPTH}") from None
    return _mended(value, strings=_SURROGATE.search(data) is not None)


def plain(value: object, limits: Limits | None = None) -> Loaded:
    """Turn a Python value into JSON as `loads` would have read it.

    Mappings, sequences, sets, paths, and whatever has a `tolist` (numpy and torch values) are taken; keys
    become strings as `json.dumps` makes them.

    Raises:
        MetadataError: something JSON has no word for, or one of the reasons of `loads`.
    """
    limits = limits or Limits()
    return _mended(_Plainer(limits).value(value, ""), strings=True)


def dumps(value: JSON, *, indent: int | None = 2, sort_keys: bool = False) -> bytes:
    """Write strict JSON: UTF-8 as it is, no NaN, a final newline.

    Raises:
        MetadataError: a number that is not finite, a lone surrogate, or something that is no JSON.
    """
    separators = (",", ": ") if indent is not None else (",", ":")
    try:
        text = json.dumps(
            value,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
            ensure_ascii=False,
            allow_nan=False,
        )
        return text.encode("utf-8") + b"\n"
    except (ValueError, TypeError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise MetadataError("", f"cannot be written as JSON ({type(error).__name__})") from None


def _check_size(data: bytes, path: Path | str, limits: Limits) -> None:
    """Bound the memory that parsing takes, from the text alone.

    Raises:
        FormatError: too many bytes or values.
    """
    if len(data) > limits.size:
        raise FormatError(path, f"{len(data):,} bytes of JSON, more than the {limits.size:,} that are read")
    if len(data) < limits.nodes:  # every value takes at least a byte
        return
    bare = _STRING.sub(b"", data)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > limits.nodes:
        raise FormatError(path, f"more than {limits.nodes:,} values")


def _object(pairs: list[tuple[str, Any]]) -> object:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    counted = Counter(key for key, _ in pairs)
    return _Twice(counted.most_common(1)[0][0])


def _mended(value: Any, *, strings: bool) -> Loaded:  # noqa: ANN401  (JSON and stand-ins)
    if not (_odd(value) or strings):
        return Loaded(value, ())
    repairs: list[Repair] = []
    return Loaded(_mend(value, "", repairs), tuple(repairs))


def _odd(value: object) -> bool:
    """Whether anything needs the slow walk. Level by level: the depth comes for free, the stack stays flat.

    Raises:
        MetadataError: too deep.
    """
    level: list[object] = [[value]]
    depth = 0
    odd = False
    while level:
        if depth > MAX_DEPTH + 1:
            raise MetadataError("", f"nested deeper than {MAX_DEPTH}")
        below: list[object] = []
        for node in level:
            items = node.values() if type(node) is dict else node
            for item in items:  # type: ignore[attr-defined]
                kind = type(item)
                if kind is dict or kind is list:
                    below.append(item)
                elif kind is float:
                    odd = odd or item - item != 0.0
                elif kind is int:
                    odd = odd or not -_TOO_BIG < item < _TOO_BIG
                elif kind is _Twice:
                    odd = True
        level = below
        depth += 1
    return odd


def _mend(value: Any, at: str, repairs: list[Repair]) -> JSON:  # noqa: ANN401  (JSON and stand-ins)
    match value:
        case _Twice(key):
            raise MetadataError(join(at, _printable(key)), "stands twice in one object")
        case dict():
            return {_key(key, at): _mend(item, join(at, key), repairs) for key, item in value.items()}
        case list():
            return [_mend(item, join(at, index), repairs) for index, item in enumerate(value)]
        case str():
            if not _LONE.search(value):
                return value
            repairs.append(Repair(at, _printable(value), certain=False))
            return _LONE.sub("\ufffd", value)
        case float() if not math.isfinite(value):
            repairs.append(Repair(at, json.dumps(value), certain=True))
            return None
        case int() if not isinstance(value, bool) and not -_TOO_BIG < value < _TOO_BIG:
            raise MetadataError(at, f"has more than {MAX_DIGITS} digits")
    return value  # type: ignore[no-any-return]


def _key(key: str, at: str) -> str:
    if _LONE.search(key):
        raise MetadataError(join(at, _printable(key)), "the key is not valid Unicode")
    return key


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Plainer:
    """Makes JSON of Python values, with an eye on how much: shared values grow when they are written out."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.nodes = 0

    def value(self, value: object, at: str, depth: int = 0) -> JSON:
        self.nodes += 1
        if depth > MAX_DEPTH + 1:
            raise MetadataError("", f"nested deeper than {MAX_DEPTH}")
        if self.nodes > self.limits.nodes:
            raise MetadataError("", f"more than {self.limits.nodes:,} values")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)  # also of an enumeration that is a str, as json.dumps does
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        return self.container(value, at, depth + 1)

    def container(self, value: object, at: str, depth: int) -> JSON:
        if isinstance(value, Mapping):
            return self.mapping(value, at, depth)
        if isinstance(value, AbstractSet):
            value = sorted(value, key=repr)
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [self.value(item, join(at, index), depth) for index, item in enumerate(value)]
        if isinstance(value, os.PathLike):
            return os.fsdecode(value)
        if callable(listed := getattr(value, "tolist", None)):
            return self.value(listed(), at, depth)
        raise MetadataError(at, f"is a {type(value).__name__}, which JSON has no word for")

    def mapping(self, value: Mapping[object, object], at: str, depth: int) -> JSON:
        found: dict[str, JSON] = {}
        for key, item in value.items():
            name = self.key(key, at)
            if name in found:
                raise MetadataError(join(at, name), "stands twice in one object")
            found[name] = self.value(item, join(at, name), depth)
        return found

    def key(self, key: object, at: str) -> str:
        if isinstance(key, str):
            return str.__str__(key)
        if key is None or isinstance(key, bool | int | float):
            return json.dumps(key)
        raise MetadataError(at, f"has a {type(key).__name__} for a key")
