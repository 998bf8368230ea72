"""The block `metta_hub` in metadata: what metta_hub itself has to say about a checkpoint.

Anyone may write a key of that name. A block counts as ours when metta_hub could have written it, and as
foreign otherwise; a foreign one is kept apart, never believed.
"""

import re
from collections.abc import Callable, Mapping
from typing import TypeGuard

from metta_hub.strict_json import JSON, Repair

#: The key under which metta_hub keeps what it has to say.
BLOCK = "metta_hub"

FORMAT_VERSION = 1
"""Version of the block. A reader of version 1 takes what it knows and leaves the rest; when a known key
changes its meaning, raise it, keep reading the old one, and put an old sample under tests/data."""


def is_ours(block: JSON) -> TypeGuard[dict[str, JSON]]:
    """Whether metta_hub could have written this block: version 1, and every known key in its shape."""
    if not isinstance(block, dict) or type(block.get("format_version")) is not int:
        return False
    return block["format_version"] == FORMAT_VERSION and all(
        fits(block[key]) for key, fits in _SHAPES.items() if key in block
    )


def is_newer(block: JSON) -> bool:
    """Whether a later metta_hub wrote this block: what it says must not be taken for anybody's words."""
    version = block.get("format_version") if isinstance(block, dict) else None
    return type(version) is int and version > FORMAT_VERSION


def earlier_repairs(block: Mapping[str, JSON]) -> list[Repair]:
    """The repairs that a block of ours tells of."""
    listed = block.get("repairs")
    return [
        Repair(str(one["pointer"]), one["was"], certain=one["certain"] is True)
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict)
    ]


_SHA256 = re.compile(r"[0-9a-f]{64}")


def _is_text(value: JSON) -> bool:
    return isinstance(value, str)


def _is_file(value: JSON) -> bool:
    if not isinstance(value, dict):
        return False
    size, sha256 = value.get("size"), value.get("sha256")
    return type(size) is int and size >= 0 and isinstance(sha256, str) and bool(_SHA256.fullmatch(sha256))


def _is_repair(value: JSON) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"pointer", "was", "certain"}
        and isinstance(value["pointer"], str)
        and isinstance(value["certain"], bool)
    )


def _is_redaction(value: JSON) -> bool:
    return isinstance(value, dict) and value.keys() == {"pointer", "kind"} and all(map(_is_text, value.values()))


def _list_of(test: Callable[[JSON], bool]) -> Callable[[JSON], bool]:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _object_of(test: Callable[[JSON], bool]) -> Callable[[JSON], bool]:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _are_groups(value: JSON) -> bool:
    """Groups of two names or more, and no name twice."""
    if not isinstance(value, list) or not all(isinstance(group, list) and len(group) > 1 for group in value):
        return False
    names = [name for group in value if isinstance(group, list) for name in group]
    return all(isinstance(name, str) for name in names) and len(set(map(str, names))) == len(names)


_SHAPES: Mapping[str, Callable[[JSON], bool]] = {
    "added": _list_of(_is_text),
    "assumed": _list_of(_is_text),
    "checkpoint": _is_text,
    "files": _object_of(_is_file),
    "held": _object_of(lambda _: True),
    "original_name": _is_text,
    "rebuilt": _list_of(_is_text),
    "redactions": _list_of(_is_redaction),
    "repairs": _list_of(_is_repair),
    "stripped": _list_of(_is_text),
    "tied": _are_groups,
    "unknown": _list_of(_is_text),
    "weights": _is_file,
}
