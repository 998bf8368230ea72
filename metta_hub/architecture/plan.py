"""What a graph needs: the shape of everything that flows and of every tensor, before anything is made.

The limits are far above what policies have; whatever is above them is refused before memory is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from metta_hub.architecture.graph import ACTION, VALUE, Graph, parse
from metta_hub.architecture.nouns import Environment, Given, Input, Misfit, Output, Shape
from metta_hub.architecture.observing import FEATURES, TOKEN
from metta_hub.architecture.options import Options
from metta_hub.errors import ArchitectureError
from metta_hub.strict_json import JSON

#: The most elements of all tensors together.
MAX_PARAMETERS = 500_000_000
#: The most elements that all components together hold for one row.
MAX_ELEMENTS = 1 << 23
#: The longest side of a view, in cells, and the longest axis of an observation.
MAX_ACTIONS = 1 << 14
MAX_VIEW, MAX_AXIS = 1024, 1 << 16
MAX_NORMALIZATION = 1e30
_VIEW = 11

#: What stands before the name of a component in a state dict.
PREFIX = "components."


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph in an environment.

    Attributes:
        graph: the components.
        environment: what it decides.
        outputs: component → what comes out of it, and which tensors it has.
    """

    graph: Graph
    environment: Environment
    outputs: Mapping[str, Output]

    @property
    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of the state dict, in its order."""
        return {
            f"{PREFIX}{name}.{key}": shape
            for name in self.graph.components
            for key, shape in self.outputs[name].tensors.items()
        }

    def inputs(self, name: str) -> tuple[Input, ...]:
        """What a component gets."""
        return tuple(
            Input(self.outputs[one.name].shape, self.outputs[one.name].masked, one.start, one.stop, one.axis)
            for one in self.graph.components[name].sources
        )


def plan(info: Mapping[str, JSON], actions: int | None = None) -> Plan:
    """Plan the agent of a `model_info` that has an `architecture`.

    Args:
        info: `model_info`.
        actions: how many actions its logits are of; None when `action_max_params` says it.

    Raises:
        UnknownArchitectureError: a class of which nothing here knows how it computes.
        ArchitectureError: the components do not fit each other or the observations, or are too large.
    """
    graph = parse(info.get("architecture"))
    outputs: dict[str, Output] = {}
    found = Plan(graph, environment(info, actions), outputs)
    parameters = elements = 0
    for name in graph.order:
        try:
            outputs[name] = graph.components[name].kind.infer(Given(found.inputs(name), found.environment))
        except Misfit as misfit:
            raise ArchitectureError(name, str(misfit)) from None
        parameters += sum(map(prod, outputs[name].tensors.values()))
        elements += outputs[name].elements
        if parameters > MAX_PARAMETERS or elements > MAX_ELEMENTS:
            raise ArchitectureError(
                name, f"makes it too large: {parameters:,} parameters, {elements:,} values for one observation"
            )
    for name, wanted in ((VALUE, (1,)), (ACTION, (found.environment.actions,))):
        if outputs[name].shape != wanted:
            raise ArchitectureError(name, f"gives {list(outputs[name].shape)}, not {list(wanted)}")
    return found


def environment(info: Mapping[str, JSON], actions: int | None = None) -> Environment:
    """What `model_info` says of the environment.

    Raises:
        ArchitectureError: it does not say what an observation is, or says something impossible.
    """
    told = info.get("agent_attributes")
    told = told if isinstance(told, dict) else {}
    space = info.get("observation_space")
    shape = _shape(space.get("shape") if isinstance(space, dict) else told.get("obs_shape"))
    box = len(shape) != 2 or shape[1] != TOKEN  # noqa: PLR2004  (tokens have two axes)
    sides = Options("", told)
    view = (
        sides.size("obs_width", shape[0] if box else _VIEW, most=MAX_VIEW),
        sides.size("obs_height", shape[1] if box and len(shape) > 1 else _VIEW, most=MAX_VIEW),
    )
    return Environment(shape, view, _normalizations(told), _actions(info) if actions is None else actions)


def _shape(value: JSON) -> Shape:
    sizes = value if isinstance(value, list) and 0 < len(value) <= 4 else [None]  # noqa: PLR2004
    if not all(type(size) is int and 0 < size <= MAX_AXIS for size in sizes):
        raise ArchitectureError("", "neither observation_space nor agent_attributes.obs_shape says what it observes")
    return tuple(size for size in sizes if isinstance(size, int))


def _normalizations(told: Mapping[str, JSON]) -> dict[int, float]:
    """Feature id → normalisation; JSON has made texts of the ids."""
    held = told.get("feature_normalizations")
    found: dict[int, float] = {}
    for key, value in held.items() if isinstance(held, dict) else ():
        known = key.isascii() and key.isdigit() and len(key) < 4 and int(key) < FEATURES  # noqa: PLR2004
        if not known or not isinstance(value, int | float) or not -MAX_NORMALIZATION <= value <= MAX_NORMALIZATION:
            raise ArchitectureError("", f"agent_attributes.feature_normalizations has {key[:80]!r}: {value!r:.80}")
        found[int(key)] = float(value)
    return found


def max_params(info: Mapping[str, JSON]) -> tuple[int, ...] | None:
    """The greatest parameter of each action type; None when `model_info` does not say.

    Raises:
        ArchitectureError: it says something impossible.
    """
    held = info.get("action_max_params")
    if held is None:
        return None
    if not isinstance(held, list) or not all(type(one) is int and 0 <= one < MAX_AXIS for one in held):
        raise ArchitectureError("", "action_max_params is no list of whole numbers")
    found = tuple(one for one in held if isinstance(one, int))
    if sum(found) + len(found) > MAX_ACTIONS:
        raise ArchitectureError("", f"action_max_params make more than {MAX_ACTIONS:,} actions")
    return found


def _actions(info: Mapping[str, JSON]) -> int:
    return sum(one + 1 for one in max_params(info) or ())
