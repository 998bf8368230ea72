"""What a module tells of itself, as `model_info` has it. Only attributes are read, so no torch is needed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Sizes and switches that a module may have (specification of Metta's checkpoints, section 2.3).
_FACTS = (
    "hidden_size",
    "core_num_layers",
    "num_lstm_layers",
    "use_lstm",
    "use_prev_action",
    "use_prev_reward",
)
#: What a pair has besides, so that actions are found again after a policy met another environment.
_ACTIONS: Mapping[str, Callable[[object], object]] = {
    "action_max_params": lambda module: list(getattr(module, "action_max_params", None) or ()),
    "action_embedding_rows": lambda module: dict(getattr(module, "action_rows", None) or {}),
}
_SPACES = ("observation_space", "action_space")
_PLAIN = (bool, int, float, str, type(None), Mapping, list, tuple)


def model_info(module: object, known: object = None) -> dict[str, Any]:
    """Describe a module.

    Args:
        module: the policy itself, out of its wrappers.
        known: the `model_info` of the checkpoint that it came from, if any. What it says beyond the attributes is
            kept when it is of the same type: an architecture that is still the module's.
    """
    own = getattr(module, "model_info", None)
    found = dict(own) if isinstance(own, Mapping) else _from_attributes(module)
    if not isinstance(known, Mapping) or known.get("type") != found.get("type"):
        return found
    earlier, now = known.get("agent_attributes"), found.get("agent_attributes", {})
    attributes = {**(earlier if isinstance(earlier, Mapping) else {}), **now}
    named = {"module_name": known["module_name"]} if "module_name" in known else {}
    return {**known, **found, **named, **({"agent_attributes": attributes} if attributes else {})}


def _from_attributes(module: object) -> dict[str, Any]:
    kind = type(module)
    found: dict[str, Any] = {"type": kind.__name__, "module_name": kind.__module__}
    found |= {key: getattr(module, key) for key in _FACTS if isinstance(getattr(module, key, None), int)}
    found |= {key: of(module) for key, of in _ACTIONS.items() if of(module)}
    attributes = _attributes(module)
    return found | ({"agent_attributes": attributes} if attributes else {})


def facts(module: object) -> dict[str, Any]:
    """What a module tells besides `model_info`: the names of its actions, and its features.

    Metta takes the names only where the metadata have none, and so writes the old ones of a policy that has met
    another environment since.
    """
    found: dict[str, Any] = {}
    names = getattr(module, "action_names", None)
    if isinstance(names, list | tuple) and names:
        found["action_names"] = list(names)
    mapping = getattr(module, "original_feature_mapping", None)
    if isinstance(mapping, Mapping) and mapping:
        found["original_feature_mapping"] = dict(mapping)
    return found


def _attributes(module: object) -> dict[str, Any]:
    own = getattr(module, "agent_attributes", None)
    spaces = {key: getattr(module, key) for key in _SPACES if getattr(module, key, None) is not None}
    given = {**spaces, **(own if isinstance(own, Mapping) else {})}
    return {str(key): _plain(value) for key, value in given.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401  (whatever a module has)
    """Spaces as JSON has them; what JSON has no word for as a text, as Metta does."""
    if isinstance(value, _PLAIN) or hasattr(value, "tolist"):
        return value
    kind = type(value).__name__
    if isinstance(getattr(value, "nvec", None), Iterable):
        return {"type": kind, "nvec": [int(size) for size in value.nvec]}
    if hasattr(value, "n") and hasattr(value.n, "__int__"):
        return {"type": kind, "n": int(value.n)}
    if hasattr(value, "shape") and hasattr(value, "low"):
        return {"type": kind, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    return str(value)
