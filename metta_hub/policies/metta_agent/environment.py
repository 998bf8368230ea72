"""Binding an agent to an environment: which feature has which number, and which action has which embedding.

Source: specification, sections 0, 3.6 and 3.8. Nothing here holds weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from metta_hub.actions import Actions
from metta_hub.errors import UsageError
from metta_hub.policies.metta_agent.observations import PADDING, UNKNOWN

_LIKE = (
    "policy.initialize_to_environment({'hp': {'id': 2, 'normalization': 30.0}, …}, ['noop', 'move'], [0, 1]) is like it"
)
_LARGEST_PARAMETER = 1 << 16


@dataclass(frozen=True, slots=True)
class Feature:
    """What an environment says of one feature.

    Attributes:
        id: its number in tokens.
        normalization: by what its values are divided.
    """

    id: int
    normalization: float


def features(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
    """Read the features of an environment: name → `{"id": …, "normalization": …}`.

    Raises:
        UsageError: an id is no byte or there twice, or a normalisation is no number.
    """
    found: dict[str, Feature] = {}
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise UsageError("Features are named, and each has an id and a normalization.", hint=_LIKE)
    for name, properties in given.items():
        number, normalization = properties.get("id"), properties.get("normalization", 1.0)
        if type(number) is not int or not 0 <= number <= PADDING or not isinstance(normalization, int | float):
            raise UsageError(f"The feature '{name}' needs an id from 0 to {PADDING} and a normalization.", hint=_LIKE)
        found[name] = Feature(number, float(normalization))
    if len({feature.id for feature in found.values()}) != len(found):
        raise UsageError("Two features have the same id.", hint=_LIKE)
    return found


def actions(names: Sequence[str], max_params: Sequence[int]) -> Actions:
    """Read the actions of an environment.

    Raises:
        UsageError: there is no parameter for each name, one is none, or two actions have one name.
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not isinstance(max_params, Sequence):
        raise UsageError("Action names and greatest parameters are lists.", hint=_LIKE)
    if len(names) != len(max_params):
        raise UsageError(f"There are {len(names)} action names and {len(max_params)} greatest parameters.", hint=_LIKE)
    if not all(type(most) is int and 0 <= most <= _LARGEST_PARAMETER for most in max_params):
        raise UsageError("A greatest parameter is a whole number from 0.", hint=_LIKE)
    if not names:
        raise UsageError("A policy without actions does nothing.", hint=_LIKE)
    found = Actions(tuple(map(str, names)), tuple(max_params))
    if len(set(found.labels)) != len(found.labels):
        raise UsageError("Two actions have the same name.", hint=_LIKE)
    return found


@dataclass(frozen=True, slots=True)
class Renumbering:
    """What an agent must do to the features of an environment that numbers them otherwise.

    Attributes:
        table: id in the environment → id that the agent learned; ids that are not here are unknown to it.
        factors: id that the agent learned → normalisation.
    """

    table: Mapping[int, int]
    factors: Mapping[int, float]


def renumbering(found: Mapping[str, Feature], learned: dict[str, int], *, adopt: bool) -> Renumbering | None:
    """Compare the features of an environment with those that an agent learned.

    Args:
        found: of the environment.
        learned: name → id that the agent learned; unknown ones are added when `adopt` is set.
        adopt: whether unknown features are learned from now on, as in training; else they count as unknown.

    Returns:
        What to do; None when every feature has its number, and nothing is to be changed.
    """
    moved: dict[int, int] = {}
    for name, feature in found.items():
        if name in learned:
            if learned[name] != feature.id:
                moved[feature.id] = learned[name]
        elif adopt:
            learned[name] = feature.id
        else:
            moved[feature.id] = UNKNOWN
    if not moved:
        return None
    table = {feature.id: moved.get(feature.id, feature.id) for feature in found.values()}
    factors = {learned[name]: feature.normalization for name, feature in found.items() if name in learned}
    return Renumbering(table, factors)


def names_of(active: Sequence[int], rows: Mapping[str, int], max_params: Sequence[int]) -> tuple[str, ...] | None:
    """The names of the action types, as the rows of the embeddings tell them; None when they don't.

    Args:
        active: rows of the actions, in their order.
        rows: full action name → row.
        max_params: the greatest parameter of each type.
    """
    label_of = {row: label for label, row in rows.items()}
    labels = tuple(label_of.get(row, "") for row in active)
    starts = accumulate((most + 1 for most in max_params[:-1]), initial=0)
    names = tuple(labels[start].removesuffix("_0") if start < len(labels) else "" for start in starts)
    return names if Actions(names, tuple(max_params)).labels == labels else None


def action_rows(wanted: Actions, known: Mapping[str, int], rows: int) -> dict[str, int]:
    """Give every action a row of the embeddings: the one that it had, or the next that nobody had.

    Args:
        wanted: actions of the environment.
        known: full name → row, of all actions that the agent ever had.
        rows: how many the embeddings have.

    Returns:
        `known` and the new ones.

    Raises:
        UsageError: there are not enough rows.
    """
    found = dict(known)
    for label in wanted.labels:
        if label not in found:
            found[label] = max(found.values(), default=0) + 1
    if found and max(found.values()) >= rows:
        raise UsageError(
            f"The policy has embeddings for {rows - 1} actions, and with these there would be {max(found.values())}."
        )
    return found
