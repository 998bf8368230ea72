"""A policy's metadata: every known flavour in, one clean flavour out, unknown keys kept.

The clean flavour is strict JSON: finite numbers where the schema has numbers, null where nothing is known.
What metta_hub itself has to say about a checkpoint stands in one block, `metta_hub`, which never mixes with
the rest.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from metta_hub import strict_json
from metta_hub.block import BLOCK, FORMAT_VERSION, earlier_repairs, is_newer, is_ours
from metta_hub.errors import FormatError, MetadataError, UsageError
from metta_hub.repairs import REQUIRED, SCHEMA, TEXT, check, repair, rule_at
from metta_hub.strict_json import JSON, Repair

__all__ = [
    "BLOCK",
    "FORMAT_VERSION",
    "JSON",
    "REQUIRED",
    "ConfigView",
    "Metadata",
    "Repair",
    "assign",
    "block_for",
    "config_view",
    "dumps",
    "from_values",
    "model_info",
    "number",
    "numbers_in",
    "parse",
    "whole",
    "without_added",
]

#: Keys of a config.json that the Hub, transformers or diffusers act on (design, section 4; `_class_name` is added).
ACTED_ON = frozenset(
    {
        "_class_name",
        "_name_or_path",
        "architectures",
        "auto_map",
        "custom_pipelines",
        "model_type",
        "quantization_config",
    }
)

#: Keys of `model_info` that metta_hub may add, since a policy cannot be rebuilt without them (design, section 5).
ADDED = ("architecture", "action_max_params", "action_embedding_rows", "observation_space")

# What of an earlier block a writer repeats, so that a pulled pair pushed again gives the same bytes.
_KEPT = ("added", "assumed", "original_name", "rebuilt", "stripped")


@dataclass(frozen=True)
class Metadata:
    """Clean metadata of one policy.

    Attributes:
        values: strict JSON, typed as the schema says where that was possible; without the block.
        repairs: every value that was read as something else than it was written, now or (`block`) earlier.
        unknown: which of the required four nobody knows, in their order.
        block: the `metta_hub` block of the source, if metta_hub wrote it; else {}.
        foreign_block: what the source has under `metta_hub`, if metta_hub did not write it; else None.
    """

    values: Mapping[str, JSON]
    repairs: tuple[Repair, ...] = ()
    unknown: tuple[str, ...] = ()
    block: Mapping[str, JSON] = field(default_factory=dict)
    foreign_block: JSON = None

    def at(self, pointer: str) -> JSON:
        """What stands at an RFC 6901 pointer; None when nothing does."""
        return _at(self.values, pointer)

    def with_values(self, values: Mapping[str, object]) -> "Metadata":
        """The same checkpoint with other values; repairs of what was overwritten are forgotten.

        Raises:
            MetadataError: as `from_values`.
        """
        fresh = from_values(values)
        still = [one for one in self.repairs if _at(self.values, one.pointer) == _at(fresh.values, one.pointer)]
        repairs = _merged(still, fresh.repairs)
        return Metadata(fresh.values, repairs, fresh.unknown, self.block, self.foreign_block)


@dataclass(frozen=True, slots=True)
class ConfigView:
    """Metadata as config.json shows them.

    Attributes:
        values: what stands at the top level.
        held: what must stand under `metta_hub.held` instead, because the Hub or a library would act on it.
    """

    values: dict[str, JSON]
    held: dict[str, JSON]


def parse(data: bytes, path: Path | str) -> Metadata:
    """Read the JSON of a pair, as any version of Metta or metta_hub wrote it.

    Raises:
        FormatError: not JSON, not an object, or larger than 16 MiB or 200,000 values.
        MetadataError: a key twice in one object, nesting deeper than 64, an impossible number, one of the required
            four is no number, or a later metta_hub wrote it.
    """
    try:
        value, repairs = strict_json.loads(data, path)
        if not isinstance(value, dict):
            raise FormatError(path, "not metadata: the JSON is no object")
        return _clean(value, repairs)
    except MetadataError as error:
        raise MetadataError(error.pointer, error.reason, path=path, hint=error.hint) from None


def from_values(values: Mapping[str, object]) -> Metadata:
    """Clean metadata that never were JSON, or were changed since.

    Raises:
        MetadataError: a value that JSON has no word for, or one of the reasons of `parse`.
    """
    value, repairs = strict_json.plain(values)
    if not isinstance(value, dict):
        raise MetadataError("", f"is a {type(values).__name__} and no mapping")
    return _clean(value, repairs)


def dumps(values: Mapping[str, JSON]) -> bytes:
    """Write the JSON of a pair: UTF-8, two-space indent, a final newline, the same bytes for the same values.

    Documented keys come first, in the document's order, then the others sorted, then `metta_hub`; nested
    objects keep their order. The required four are always there, null where nobody knows them.

    Raises:
        MetadataError: something that strict JSON cannot say.
    """
    known = {key: values.get(key) for key in SCHEMA if key in values or key in REQUIRED}
    others = {key: values[key] for key in sorted(values.keys() - SCHEMA.keys() - {BLOCK})}
    block = {BLOCK: values[BLOCK]} if BLOCK in values else {}
    return strict_json.dumps({**known, **others, **block})


def config_view(metadata: Metadata) -> ConfigView:
    """What of the metadata stands at the top level of config.json, and what must not."""
    values = {key: value for key, value in metadata.values.items() if key not in ACTED_ON}
    held = {key: value for key, value in metadata.values.items() if key in ACTED_ON}
    if metadata.foreign_block is not None:
        held[BLOCK] = metadata.foreign_block
    return ConfigView(values, held)


def block_for(metadata: Metadata, facts: Mapping[str, JSON] | None = None) -> dict[str, JSON]:
    """The `metta_hub` block that a writer puts into the JSON of a pair.

    It repeats what an earlier block knew and the metadata cannot show, then takes the writer's own `facts`;
    empty lists are left out. Redactions, as in `scrub.Redaction`, are added to the earlier ones.
    """
    facts = facts or {}
    block: dict[str, JSON] = {"format_version": FORMAT_VERSION}
    block |= {key: metadata.block[key] for key in _KEPT if key in metadata.block}
    block["repairs"] = [{"pointer": one.pointer, "was": one.was, "certain": one.certain} for one in metadata.repairs]
    block["unknown"] = list(metadata.unknown)
    if metadata.foreign_block is not None:
        block["held"] = {BLOCK: metadata.foreign_block}
    block |= facts
    earlier, more = metadata.block.get("redactions", []), facts.get("redactions", [])
    if isinstance(earlier, list) and isinstance(more, list):
        block["redactions"] = earlier + [one for one in more if one not in earlier]
    return {key: value for key, value in sorted(block.items()) if value != []}


def without_added(known: Metadata, others: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """The values without what metta_hub added to `model_info`, as far as `others` lack it."""
    info, other = known.values.get("model_info"), others.get("model_info")
    listed = known.block.get("added")
    if not isinstance(info, dict) or not isinstance(other, dict) or not isinstance(listed, list):
        return known.values
    added = {key for key in ADDED if f"/model_info/{key}" in listed and key not in other}
    return {**known.values, "model_info": {key: item for key, item in info.items() if key not in added}}


def assign(values: Mapping[str, JSON], settings: Iterable[str]) -> dict[str, JSON]:
    """Apply `key=value` settings, as `--set` takes them.

    The key is a dotted path (`model_info.hidden_size`) or, where a key holds a dot, a pointer (`/evals/a.b`).
    The value is JSON, or else a text; a key that the schema types as text takes it literally. Objects on the
    way are made.

    Raises:
        UsageError: a setting without `=` or key.
        MetadataError: a path through something that is no object, or a value of the wrong type.
    """
    changed = dict(from_values(values).values)
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = strict_json.split(key) if key.startswith("/") else key.split(".")
        if not equals or not key.strip("/"):
            raise UsageError(f"The setting '{setting}' sets nothing.", hint="for example --set epoch=140")
        if parts[0] == BLOCK:
            raise MetadataError(f"/{BLOCK}", "is metta_hub's own")
        _put(changed, parts, check(_value_of(text, parts), parts))
    return changed


def model_info(values: Mapping[str, JSON]) -> dict[str, JSON]:
    """What metadata say of the policy itself; empty when they say nothing, or something else stands there."""
    found = values.get("model_info")
    return found if isinstance(found, dict) else {}


def number(value: JSON) -> float | None:
    """The number, if it is a finite one; booleans, texts and null are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None


def numbers_in(value: JSON | Mapping[str, JSON], at: str = "") -> Iterator[tuple[str, float]]:
    """Every number in `value`, however deep, with its dotted path below `at`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from numbers_in(item, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from numbers_in(item, f"{at}.{place}" if at else str(place))
    elif (found := number(value)) is not None:
        yield at, found


def whole(value: JSON) -> int | None:
    """The whole number, if it is one."""
    return value if type(value) is int else None


# --- cleaning -------------------------------------------------------------------------------------


def _clean(values: dict[str, JSON], repairs: tuple[Repair, ...]) -> Metadata:
    block = values.pop(BLOCK, None)
    if is_newer(block):
        hint = "pip install --upgrade metta-hub"
        raise MetadataError(f"/{BLOCK}/format_version", f"is newer than the {FORMAT_VERSION} that is read", hint=hint)
    repairs += repair(values)
    unknown = tuple(key for key in REQUIRED if values.get(key) is None)
    if not is_ours(block):
        return Metadata(values, repairs, unknown, {}, block)
    held = block.get("held")
    foreign = held.get(BLOCK) if isinstance(held, dict) else None
    return Metadata(values, _merged(earlier_repairs(block), repairs), unknown, block, foreign)


def _merged(earlier: Iterable[Repair], later: Iterable[Repair]) -> tuple[Repair, ...]:
    """One repair a pointer: the later one."""
    found: dict[str, Repair] = {}
    for one in (*earlier, *later):
        found[one.pointer] = one
    return tuple(found.values())


def _at(values: Mapping[str, JSON], pointer: str) -> JSON:
    node: JSON = dict(values)
    for part in strict_json.split(pointer):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and (place := _place(node, part)) is not None:
            node = node[place]
        else:
            return None
    return node


# --- setting --------------------------------------------------------------------------------------


def _value_of(text: str, parts: list[str]) -> JSON:
    if rule_at(parts) is TEXT:
        return text
    try:
        value, repairs = strict_json.loads(text.encode("utf-8", "replace"), "the value")
    except FormatError:
        return text
    return text if repairs else value


def _put(values: dict[str, JSON], parts: list[str], value: JSON) -> None:
    node: JSON = values
    *way, last = parts
    for depth, part in enumerate(way):
        if isinstance(node, dict):
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        elif isinstance(node, list):
            node = node[_index(node, part, parts[: depth + 1])]
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list):
        node[_index(node, last, parts)] = value
    else:
        raise MetadataError(strict_json.join("", *way), "is no object, so nothing can be set in it")


def _index(node: list[JSON], part: str, parts: list[str]) -> int:
    if (place := _place(node, part)) is not None:
        return place
    raise MetadataError(strict_json.join("", *parts), f"the list has {len(node)} items, counted from 0")


def _place(node: list[JSON], part: str) -> int | None:
    is_number = part.isascii() and part.isdigit() and len(part) <= len(str(len(node)))
    return int(part) if is_number and int(part) < len(node) else None
