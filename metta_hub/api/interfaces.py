"""What environments offer a policy, as far as somebody says: metadata of a policy, a file, a list of actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub import architecture, metadata, strict_json
from metta_hub.actions import Actions
from metta_hub.errors import ArchitectureError, UsageError
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
class Interface:
    """What an environment offers a policy; None where nobody says.

    Attributes:
        actions: in their order; those of a Discrete space where only names are known.
        observation_shape: of one observation.
        features: by their names.
    """

    actions: Actions | None = None
    observation_shape: tuple[int, ...] | None = None
    features: Mapping[str, Feature] | None = None


def of_policy(values: Mapping[str, JSON]) -> Interface:
    """What the environment offered in which a policy was trained, from its metadata.

    Raises:
        ArchitectureError: the parameters of its actions are impossible.
    """
    info = metadata.model_info(values)
    attributes, bundle = _object(info.get("agent_attributes")), _object(values.get(BUNDLE))
    interface = of_document(_object(bundle.get("policy_env_interface")))
    shapes = (
        _object(info.get("observation_space")).get("shape"),
        _object(attributes.get("observation_space")).get("shape"),
        attributes.get("obs_shape"),
    )
    shape = next((found for found in map(_whole_numbers, shapes) if found), None)
    return Interface(
        actions=_actions(values.get("action_names"), info) or interface.actions,
        observation_shape=shape or interface.observation_shape,
        features=_mapped(values, attributes) or interface.features,
    )


def of_document(value: Mapping[str, JSON]) -> Interface:
    """What an environment offers as a JSON object has it: in Metta's own words, or in those of today's bundles.

    Raises:
        ArchitectureError: the parameters of its actions are impossible.
    """
    if "policy_env_interface" in value:
        return of_document(_object(value["policy_env_interface"]))
    if "model_info" in value:
        return of_policy(metadata.from_values(value).values)
    shape = value.get("observation_shape", value.get("obs_shape"))
    return Interface(
        actions=_actions(value.get("action_names"), value),
        observation_shape=_whole_numbers(shape),
        features=_features(value.get("features", value.get("obs_features"))),
    )


def in_file(path: Path) -> Interface:
    """An environment from a file.

    Raises:
        FormatError: it is not JSON.
        UsageError: it says nothing of an environment.
    """
    value, _ = strict_json.loads(files.read_document(path), path)
    try:
        found = of_document(value) if isinstance(value, dict) else Interface()
    except ArchitectureError as error:
        raise UsageError(f"{path}: {error.reason}.", hint=f"it is like {_EXAMPLE}") from None
    if found == Interface():
        raise UsageError(f"{path} says nothing of an environment.", hint=f"it is like {_EXAMPLE}")
    return found


def listed(text: str) -> Interface:
    """An environment of which only the actions are known: `noop,move,rotate`.

    Raises:
        UsageError: there are none.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"'{text}' lists no actions.", hint="for example --actions noop,move,rotate")
    return Interface(actions=Actions(names))


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


def _actions(names: JSON, beside: Mapping[str, JSON]) -> Actions | None:
    """Names, and the greatest parameters that stand beside them, if any do.

    Raises:
        ArchitectureError: the parameters are impossible, or not one for each name.
    """
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        return None
    most = architecture.max_params(beside)
    if most is not None and len(most) != len(names):
        raise ArchitectureError("", f"there are {len(names)} action_names and {len(most)} action_max_params")
    return Actions(tuple(map(str, names)), most)


def _whole_numbers(value: JSON) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        return None
    return tuple(one for one in value if type(one) is int)
