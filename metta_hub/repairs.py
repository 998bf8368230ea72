"""What the keys of a policy's metadata hold, and how Metta's files spoil it.

Metta wrote its JSON with `default=str`: a numpy or torch number became a string ("1572864",
"tensor(0.2500)"), a space became "MultiDiscrete([5 4])" (specification of Metta's checkpoints, section 2.3).
Only keys that the schema here types as numbers or spaces are repaired; a string anywhere else may mean just
what it says.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

from metta_hub.errors import MetadataError
from metta_hub.strict_json import JSON, Repair, join


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What one key holds.

    Attributes:
        says: in words.
        settled: the types that need no repair: they are right, or nobody can make them right.
    """

    says: str
    settled: frozenset[type]


_NEITHER: frozenset[type] = frozenset({bool, type(None)})
_ANY: frozenset[type] = _NEITHER | {int, float, str, list, dict}

WHOLE = Kind("a whole number", _NEITHER | {int, list, dict})
NUMBER = Kind("a number", _NEITHER | {int, float, list, dict})
NUMBERS = Kind("numbers, nested at will", _NEITHER | {int, float})
TEXT = Kind("a text", _ANY)
TEXTS = Kind("a list of texts", _ANY)
SPACE = Kind("an action space", _NEITHER | {int, float})

# A rule is a kind, or the rules of an object's keys; the key "*" stands for every item of an object or list.
Rule: TypeAlias = Kind | dict[str, "Rule"]

#: The four that Metta demands (`PolicyMetadata.from_dict`), in the order of its document.
REQUIRED = ("epoch", "agent_step", "generation", "train_time")

_EACH_WHOLE: dict[str, Rule] = {"*": WHOLE}
_SPACE_FIELDS: dict[str, Rule] = {"n": WHOLE, "nvec": _EACH_WHOLE}
_BOX: Rule = {"shape": _EACH_WHOLE}
_NESTED: dict[str, Rule] = {"*": NUMBERS}
_SIZES: dict[str, Rule] = {
    "hidden_size": WHOLE,
    "core_num_layers": WHOLE,
    "num_lstm_layers": WHOLE,
}

#: The documented keys, in the order in which they are written.
SCHEMA: dict[str, Rule] = {
    "epoch": WHOLE,
    "agent_step": WHOLE,
    "generation": WHOLE,
    "train_time": NUMBER,
    "run_name": TEXT,
    "uri": TEXT,
    "action_names": TEXTS,
    "evals": NUMBERS,
    "avg_reward": NUMBER,
    "model_info": {
        "type": TEXT,
        "module_name": TEXT,
        **_SIZES,
        "action_max_params": _EACH_WHOLE,
        "action_embedding_rows": _EACH_WHOLE,
        "observation_space": _BOX,
        "agent_attributes": {
            "clip_range": NUMBER,
            "observation_space": _BOX,
            "action_space": SPACE,
            "feature_normalizations": {"*": NUMBER},
            "obs_width": WHOLE,
            "obs_height": WHOLE,
            "obs_shape": _EACH_WHOLE,
            "num_objects": WHOLE,
            **_SIZES,
        },
    },
    "reward_sem": NUMBER,
    "eval_episodes": WHOLE,
    "score": NUMBER,
    "eval_scores": NUMBERS,
    "run": TEXT,
    "initial_uri": TEXT,
    "initial_pr": TEXT,
    "original_feature_mapping": _EACH_WHOLE,
    "total_time": NUMBER,
    "total_train_time": NUMBER,
}

_LONGEST = 200
_EXACT_FLOAT = 2**53
_LARGEST_FLOAT = 2**63
_LITERAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)"
_NUMBER = re.compile(_LITERAL, re.IGNORECASE)
# str() and repr() of numpy scalars, 0-dimensional arrays and torch tensors, whatever follows the number.
_PRINTED = re.compile(rf"(tensor|array|(?:np|numpy)\.\w+)\(({_LITERAL})(?:,[^\n]*)?\)", re.IGNORECASE)
_ROUNDING = frozenset({"tensor", "array"})
_SPACE = re.compile(r"(?:Discrete\((?P<n>[0-9]{1,18})\)|MultiDiscrete\((?P<nvec>\[[0-9 ,\n]*\])\))")
_LIST = re.compile(r"[\[(][0-9 ,\n]*[\])]")
_DIGITS = re.compile(r"[0-9]+")


def repair(values: dict[str, JSON]) -> tuple[Repair, ...]:
    """Give every key of the schema its type, in place, where what stands there says what was meant.

    What cannot be read stays as it is: readers treat it as missing. The required four are never anything but
    numbers or null: a text that says no number becomes null, with a repair.

    Raises:
        MetadataError: one of the required four is a list, an object, a boolean or a broken number.
    """
    found: list[Repair] = []
    _items(values, SCHEMA, "", found)
    for key in REQUIRED:
        if not _fits_number(values.get(key), whole=SCHEMA[key] is WHOLE):
            found.append(_no_number(values[key], key))
            values[key] = None
    return tuple(found)


def check(value: JSON, parts: list[str]) -> JSON:
    """Return `value` typed as the schema wants it at the pointer of `parts`; unknown keys take anything.

    Raises:
        MetadataError: it is something else.
    """
    rule = rule_at(parts)
    if rule is None:
        return value
    at = join("", *parts)
    typed = _repair(value, rule, at, [])
    if not _fits(typed, rule) or (typed is None and value is not None):
        wanted = rule.says if isinstance(rule, Kind) else "an object or a list with values of the right types"
        raise MetadataError(at, f"is not {wanted}")
    return typed


def rule_at(parts: list[str]) -> Rule | None:
    """What the schema says about the pointer of `parts`; None when nothing."""
    rule: Rule | None = SCHEMA
    for part in parts:
        if isinstance(fields := _fields(rule), dict):
            rule = fields.get(part, fields.get("*"))
        else:
            return None
    return rule


def _fields(rule: Rule | None) -> Rule | None:
    """The rules inside a kind that has an inside."""
    if rule is SPACE:
        return _SPACE_FIELDS
    return _NESTED if rule is NUMBERS else rule


# --- repairing ------------------------------------------------------------------------------------


def _repair(value: JSON, rule: Rule, at: str, found: list[Repair]) -> JSON:
    if isinstance(value, dict | list) and isinstance(fields := _fields(rule), dict):
        return _items(value, fields, at, found)
    if not isinstance(value, str | float):
        return value  # numbers and null already, or what nobody can read
    if rule is WHOLE or rule is NUMBER or rule is NUMBERS:
        return _number(value, at, found, whole=rule is WHOLE)
    made = _made(value, rule) if isinstance(value, str) else None
    if made is None:
        return value
    found.append(Repair(at, value, certain=True))
    return made


def _items(value: dict[str, JSON] | list[JSON], fields: dict[str, Rule], at: str, found: list[Repair]) -> JSON:
    every = fields.get("*")
    if isinstance(value, list):
        if every is not None and not _all_settled(value, every):
            value[:] = [_repair(item, every, join(at, index), found) for index, item in enumerate(value)]
    elif every is None or not _all_settled(value.values(), every):
        for key, item in value.items():
            rule = fields.get(key, every)
            if rule is not None and not (type(rule) is Kind and type(item) in rule.settled):
                value[key] = _repair(item, rule, join(at, key), found)
    return value


def _all_settled(items: Iterable[JSON], rule: Rule) -> bool:
    """The usual case, found without a pointer for each item."""
    return type(rule) is Kind and rule.settled.issuperset(map(type, items))


def _number(value: str | float, at: str, found: list[Repair], *, whole: bool) -> JSON:
    """The number that `value` says; `value` itself when it says none."""
    read = _number_in(value) if isinstance(value, str) else (value, abs(value) <= _EXACT_FLOAT)
    if read is None:
        return value
    number, certain = read
    if not isfinite(number):
        found.append(Repair(at, value, certain=True))
        return None
    if whole and isinstance(number, float):
        if not number.is_integer() or abs(number) > _LARGEST_FLOAT:
            return value
        number = int(number)
    if type(number) is not type(value):
        found.append(Repair(at, value, certain=certain))
    return number


def _number_in(text: str) -> tuple[int | float, bool] | None:
    """The number in a text, and whether the text is all that was known of it."""
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    maker, literal = "", text
    if printed := _PRINTED.fullmatch(text):
        maker, literal = printed.group(1).lower(), printed.group(2)
    elif not _NUMBER.fullmatch(text):
        return None
    if literal.lstrip("+-").isdigit():
        return int(literal), True
    number = float(literal)
    return number, maker not in _ROUNDING or not isfinite(number)


def _made(text: str, rule: Rule) -> JSON:
    """The space or the list of whole numbers that a text prints; None when it prints none."""
    if len(text) > _LONGEST:
        return None
    if rule is _EACH_WHOLE:
        return _whole_list(text)
    space = _SPACE.fullmatch(text.strip()) if rule is SPACE else None
    if space is None:
        return None
    if space["n"]:
        return {"type": "Discrete", "n": int(space["n"])}
    return {"type": "MultiDiscrete", "nvec": _whole_list(space["nvec"])}


def _whole_list(text: str) -> JSON:
    """The numbers of a printed array or tuple of whole numbers, "[5 4]" or "(200, 3)"."""
    return [int(digits) for digits in _DIGITS.findall(text)] if _LIST.fullmatch(text.strip()) else None


# --- judging --------------------------------------------------------------------------------------


def _fits_number(value: JSON, *, whole: bool) -> bool:
    return value is None or type(value) is int or (type(value) is float and not whole)


def _no_number(value: JSON, key: str) -> Repair:
    """The note that a required key held a text that says no number; anything else is an error."""
    if not isinstance(value, str):
        wanted = "whole number" if SCHEMA[key] is WHOLE else "number"
        raise MetadataError(f"/{key}", f"holds {_name(value)} where a {wanted} belongs")
    return Repair(f"/{key}", value, certain=False)


def _name(value: JSON) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, float):
        return repr(value)
    return "a list" if isinstance(value, list) else "an object"


def _fits(value: JSON, rule: Rule | None) -> bool:
    if rule is None or value is None:
        return True
    if rule is WHOLE or rule is NUMBER:
        return _fits_number(value, whole=rule is WHOLE)
    if rule is TEXT:
        return isinstance(value, str)
    if rule is TEXTS:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    return _fits_inside(value, rule)


def _fits_inside(value: JSON, rule: Rule) -> bool:
    fields = _fields(rule)
    if not isinstance(fields, dict) or not isinstance(value, dict | list):
        return rule is NUMBERS and _fits_number(value, whole=False)
    every = fields.get("*")
    if isinstance(value, list):
        return every is not None and all(_fits(item, every) for item in value)
    return all(_fits(item, fields.get(key, every)) for key, item in value.items())
