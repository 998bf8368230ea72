"""What the object of one of Metta's agents says of itself, for `model_info`.

Source: specification of Metta's checkpoints, sections 0, 1.1 and 2.3. What a pair of Metta's says is taken over under
the same names; what it leaves out, and nobody can rebuild a policy without, is listed in `Agent.added`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metta_hub.pickled import graph, modules, omegaconf
from metta_hub.pickled.objects import MISSING, attribute, attributes, class_of, entries
from metta_hub.pickled.values import Values
from metta_hub.strict_json import JSON

_COMPONENTS = "components"
_EMBEDDING = "_action_embeds_"
_OBSERVATION = "_obs_"
#: Metta's observations are bytes, as tokens and as boxes.
_OBSERVED = "uint8"


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as its pickle describes it.

    Attributes:
        model_info: for the metadata.
        metadata: what stands beside `model_info` and comes from the agent: action names, the feature mapping.
        added: pointers to what no pair of Metta's has.
        rebuilt: those of them whose value is in no file, and was put together from classes and attributes.
    """

    model_info: Mapping[str, JSON]
    metadata: Mapping[str, JSON]
    added: tuple[str, ...]
    rebuilt: tuple[str, ...]


def describe(module: object, values: Values) -> Agent:
    """Describe an agent, or any other module by its class alone.

    Raises:
        MetadataError: it says more than metadata may have.
    """
    module_name, _, kind = class_of(module).rpartition(".")
    known = attributes(module)
    info: dict[str, JSON] = {"type": kind, "module_name": module_name}
    for key in ("hidden_size", "core_num_layers", "agent_attributes"):
        if key in known:
            info[key] = values.plain(known[key], f"/model_info/{key}")
    architecture, is_rebuilt = graph.architecture(module, modules.child(module, _COMPONENTS), values)
    extra = ({} if architecture is None else {"architecture": architecture}) | _extra(module, values)
    beside = {
        key: values.plain(known[key], f"/{key}")
        for key in ("action_names", "original_feature_mapping")
        if known.get(key) is not None
    }
    return Agent(info | extra, beside, tuple(f"/model_info/{key}" for key in extra), (graph.AT,) * is_rebuilt)


def _extra(module: object, values: Values) -> dict[str, JSON]:
    """What a policy cannot be rebuilt without and Metta's pairs leave out."""
    components = modules.child(module, _COMPONENTS)
    found: dict[str, JSON] = {}
    limits = attribute(module, "action_max_params")
    if limits is not MISSING:
        found["action_max_params"] = values.plain(limits, "/model_info/action_max_params")
    rows = attribute(modules.child(components, _EMBEDDING), "_reserved_action_embeds")
    if rows is not MISSING:
        found["action_embedding_rows"] = values.plain(rows, "/model_info/action_embedding_rows")
    shape = _observation_shape(module, components, values)
    if isinstance(shape, list):
        found["observation_space"] = {"type": "Box", "shape": shape, "dtype": _OBSERVED}
    return found


def _observation_shape(module: object, components: object, values: Values) -> JSON:
    at = "/model_info/observation_space"
    told = entries(omegaconf.opened(attributes(module).get("agent_attributes"))).get("obs_shape")
    if told is not None:
        return values.plain(told, at)
    own = attribute(modules.child(components, _OBSERVATION), "_obs_shape")
    return None if own is MISSING else values.plain(own, at)
