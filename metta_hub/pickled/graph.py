"""The component graph of one of Metta's agents, as the configuration that it was made from has it.

Files of mid-July 2025 and later hold that configuration: each component's sources know the containers that they lie
in. Of older ones it is rebuilt from the classes of the components and their attributes. Source: specification of
Metta's checkpoints, sections 0 and 1.1.
"""

from collections.abc import Mapping

from metta_hub.pickled import modules, omegaconf
from metta_hub.pickled.objects import attributes, class_of, entries, size_of
from metta_hub.pickled.values import Values
from metta_hub.strict_json import JSON, join

AT = "/model_info/architecture"

#: Most components; Metta's agents have a dozen.
MAX_COMPONENTS = 1000

#: Attributes that are options of the same name, but for an underscore, with their defaults: those are left out, as
#: people leave them out. One table for all classes, since none means something else in another.
_OPTIONS: Mapping[str, tuple[object, ...]] = {
    "_attr_embed_dim": (),
    "_depth": (),
    "_mlp_ratio": (),
    "_num_freqs": (),
    "_num_heads": (),
    "_num_layers": (),
    "_num_query_tokens": (),
    "_out_dim": (),
    "_qk_dim": (),
    "_query_token_dim": (),
    "_use_cls_token": (),
    "_use_mask": (),
    "_v_dim": (),
    "bilinear_output_dim": (),
    "clip_scale": (1,),
    "initialization": ("Orthogonal", "max_0_01"),
    "l2_init_scale": (1, None),
    "mlp_hidden_dim": (),
    "nonlinearity": ("nn.ReLU",),
}
#: Only the oldest files have it: there a component says how wide it is, where later ones say it in `nn_params`.
_WIDTH = "_output_size"
_WEIGHTED = "weight_net"
_SIZE_OF_CORE = "hidden_size"


def architecture(agent: object, components: object, values: Values) -> tuple[JSON, bool]:
    """The agent's configuration, and whether it had to be rebuilt; None when the module has no components.

    Raises:
        MetadataError: it is larger than metadata may be.
    """
    held = attributes(components).get("_modules")
    if size_of(held) > MAX_COMPONENTS:
        return None, False
    parts = entries(held)
    if not parts or not all(modules.is_module(part) for part in parts.values()):
        return None, False
    recovered = _recovered(parts, values)
    return (_rebuilt(agent, parts, values), True) if recovered is None else (recovered, False)


# --- recovered: the configuration itself ---


def _recovered(parts: Mapping[str, object], values: Values) -> JSON:
    """The configuration that a component's sources lie in, without what making the agent put into it."""
    sources = (attributes(part).get("_sources") for part in parts.values())
    listed = next((one for one in sources if type(one) is list and one), None)
    for top in omegaconf.parents(listed[0]) if listed else ():
        held = omegaconf.opened(top)
        components = omegaconf.opened(held.get("components")) if type(held) is dict else None
        if type(components) is dict and components.keys() >= parts.keys():
            return _as_written({key: item for key, item in entries(held).items() if key != "global_features"}, values)
    return None


def _as_written(config: Mapping[str, object], values: Values) -> JSON:
    found = values.plain(dict(config), AT)
    components = found.get("components") if isinstance(found, dict) else None
    for component in components.values() if isinstance(components, dict) else ():
        if isinstance(component, dict):
            _undo(component)
    return found


def _undo(component: dict[str, JSON]) -> None:
    """Take out what two classes add to their own configuration: a padding of none, and slices in a form of theirs."""
    parameters, sources = component.get("nn_params"), component.get("sources")
    is_convolution = str(component.get("_target_")).endswith(".Conv2d")
    if is_convolution and isinstance(parameters, dict) and parameters.get("padding") == 0:
        del parameters["padding"]
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict):
            source.pop("_slice_params", None)


# --- rebuilt: from classes and attributes ---


def _rebuilt(agent: object, parts: Mapping[str, object], values: Values) -> JSON:
    found: dict[str, JSON] = {"_target_": class_of(agent)}
    if (clip := attributes(agent).get("clip_range")) is not None:
        found["clip_range"] = values.plain(clip, f"{AT}/clip_range")
    found["components"] = {name: _component(name, part, values) for name, part in parts.items()}
    return found


def _component(name: str, part: object, values: Values) -> JSON:
    known, at = attributes(part), join(AT, "components", name)
    found: dict[str, JSON] = {"_target_": class_of(part)}
    for attribute in ("_sources", "_input_source"):
        if attribute in known:
            found[attribute.removeprefix("_")] = values.plain(known[attribute], f"{at}/{attribute}")
    parameters = values.plain(known.get("_nn_params"), f"{at}/nn_params")
    if isinstance(parameters, dict) and parameters:
        found["nn_params"] = parameters
    if _SIZE_OF_CORE in known:
        found["output_size"] = values.plain(known[_SIZE_OF_CORE], f"{at}/output_size")
    elif _WEIGHTED in known and _WIDTH in known:
        found["output_size"] = values.plain(known[_WIDTH], f"{at}/output_size")
    for attribute in (option for option in _OPTIONS if option in known):
        value = values.plain(known[attribute], f"{at}/{attribute}")
        if value not in _OPTIONS[attribute]:
            found[attribute.removeprefix("_")] = value
    _undo(found)
    return found
