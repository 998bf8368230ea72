"""Environments as far as somebody says what they are like: a policy's metadata, a file, a list of actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub import metadata, strict_json
from metta_hub.errors import UsageError
from metta_hub.formats import files
from metta_hub.formats.bundle_spec import KEY as BUNDLE
from metta_hub.strict_json import JSON

_EXAMPLE = '{"action_names": ["noop", "move"], "action_max_params": [0, 1], "observation_shape": [200, 3]}'


@dataclass(frozen=True, slots=True)
class Feature:
    """What a token can speak of: the number that it has, and what its values are divided by, if that is known."""

    id: int
    normalization: float | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """What a policy acts in; None where nobody says.

    Attributes:
        actions: names of the action types, in their order.
        max_params: the greatest parameter of each.
        observation_shape: of one observation.
        features: by their names.
    """

    actions: tuple[str, ...] | None = None
    max_params: tuple[int, ...] | None = None
    observation_shape: tuple[int, ...] | None = None
    features: Mapping[str, Feature] | None = None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The actions in the order of the logits: `move_1` for parameter 1 of `move`; names where there are none."""
        if self.actions is None or self.max_params is None or len(self.actions) != len(self.max_params):
            return self.actions
        pairs = zip(self.actions, self.max_params, strict=True)
        return tuple(f"{name}_{parameter}" for name, most in pairs for parameter in range(most + 1))


def of_policy(values: Mapping[str, JSON]) -> Environment:
    """The environment that a policy was trained in, from its metadata."""
    info = _object(values.get("model_info"))
    attributes, bundle = _object(info.get("agent_attributes")), _object(values.get(BUNDLE))
    interface = of_document(_object(bundle.get("policy_env_interface")))
    shapes = (
        _object(info.get("observation_space")).get("shape"),
        _object(attributes.get("observation_space")).get("shape"),
        attributes.get("obs_shape"),
    )
    shape = next((found for found in map(_whole_numbers, shapes) if found), None)
    return Environment(
        actions=_texts(values.get("action_names")) or interface.actions,
        max_params=_whole_numbers(info.get("action_max_params")),
        observation_shape=shape or interface.observation_shape,
        features=_mapped(values, attributes) or interface.features,
    )


def of_document(value: Mapping[str, JSON]) -> Environment:
    """An environment as a JSON object has it: Metta's own words, and those of today's bundles."""
    if "policy_env_interface" in value:
        return of_document(_object(value["policy_env_interface"]))
    if "model_info" in value:
        return of_policy(metadata.from_values(value).values)
    shape = value.get("observation_shape", value.get("obs_shape"))
    actions, most = _texts(value.get("action_names")), _whole_numbers(value.get("action_max_params"))
    if value.get("action_max_params") is not None and (most is None or len(most) != len(actions or most)):
        raise UsageError(
            "action_max_params is no list of one whole number for each action.", hint=f"for example {_EXAMPLE}"
        )
    return Environment(
        actions=actions,
        max_params=most,
        observation_shape=_whole_numbers(shape),
        features=_features(value.get("features", value.get("obs_features"))),
    )


def in_file(path: Path) -> Environment:
    """An environment from a file.

    Raises:
        FormatError: it is not JSON.
        UsageError: it says nothing of an environment.
    """
    value, _ = strict_json.loads(files.read_document(path), path)
    found = of_document(value) if isinstance(value, dict) else Environment()
    if found == Environment():
        raise UsageError(f"{path} says nothing of an environment.", hint=f"it is like {_EXAMPLE}")
    return found


def listed(text: str) -> Environment:
    """An environment of which only the actions are known: `noop,move,rotate`.

    Raises:
        UsageError: there are none.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"'{text}' lists no actions.", hint="for example --actions noop,move,rotate")
    return Environment(actions=names)


def _mapped(values: Mapping[str, JSON], attributes: Mapping[str, JSON]) -> Mapping[str, Feature] | None:
    """Names and numbers of the features as Metta's metadata have them; what divides their values stands elsewhere."""
    numbers = _object(values.get("original_feature_mapping"))
    divisors = _object(attributes.get("feature_normalizations"))
    found = {
        name: Feature(number, metadata.number(divisors.get(str(number))))
        for name, number in numbers.items()
        if type(number) is int
    }
    return found or None


def _features(value: JSON) -> Mapping[str, Feature] | None:
    """Features by name, or a list of them."""
    listed_ = (
        value if isinstance(value, list) else [{"name": key, **_object(item)} for key, item in _object(value).items()]
    )
    found = {
        str(one["name"]): Feature(number, metadata.number(one.get("normalization")))
        for one in map(_object, listed_)
        if isinstance(one.get("name"), str) and type(number := one.get("id")) is int
    }
    return found or None


def _object(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}


def _texts(value: JSON) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list) and all(isinstance(one, str) for one in value) else None


def _whole_numbers(value: JSON) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        return None
    return tuple(one for one in value if type(one) is int)
