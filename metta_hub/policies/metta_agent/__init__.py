"""Metta's agents: a component graph as torch modules, with the names and numbers of Metta's own."""

from collections.abc import Mapping

from metta_hub import architecture
from metta_hub.actions import Actions
from metta_hub.architecture import EMBEDDING, Plan
from metta_hub.errors import ArchitectureError
from metta_hub.policies.description import Description
from metta_hub.policies.metta_agent.agent import MettaAgent, PolicyState
from metta_hub.strict_json import JSON

__all__ = ["MettaAgent", "PolicyState", "build", "recognises"]

#: Weights that every agent of Metta's has.
_SHOWING = ("_core_._net.weight_ih_l0", "_action_embeds_._net.weight", "_value_._net.weight")


def build(description: Description) -> MettaAgent:
    """Make the agent that a description is of; its weights are put in afterwards.

    Raises:
        UnknownArchitectureError: it has a component that nothing here computes, or no architecture at all.
        ArchitectureError: its architecture makes no agent, or contradicts the rest.
        AssumptionError: part of it would have to be assumed.
    """
    completed = architecture.completed(description.info, description.shapes, assume=description.assume_preset)
    plan = architecture.plan(completed.info, _count(description))
    actions = _actions(description, plan)
    rows = completed.info.get("action_embedding_rows")
    agent = MettaAgent(
        plan,
        actions=actions,
        action_rows=None if rows is None and plan.environment.actions else _numbers(rows),
        feature_mapping=_numbers(description.metadata.get("original_feature_mapping")),
    )
    agent.described = completed.info
    agent.assumed = completed.assumed
    return agent


def recognises(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether weights are those of one of Metta's agents, by their names."""
    return {f"{architecture.PREFIX}{name}" for name in _SHOWING} <= shapes.keys()


def _count(description: Description) -> int | None:
    """How many actions the logits are of: the weights say it, else the metadata."""
    shape = description.shapes.get(f"{architecture.PREFIX}{EMBEDDING}.active_indices")
    return shape[0] if shape is not None and len(shape) == 1 else None


def _actions(description: Description, plan: Plan) -> Actions:
    """The actions by name; without parameters where nobody knows those, so that none can be taken."""
    listed = description.metadata.get("action_names")
    names = tuple(map(str, listed)) if isinstance(listed, list) else ()
    most = architecture.max_params(description.info)
    if most is None:
        return Actions(names, ())
    if plan.environment.actions != sum(one + 1 for one in most):
        raise ArchitectureError(
            EMBEDDING, f"has {plan.environment.actions} actions, and action_max_params {list(most)} make another number"
        )
    if names and len(names) != len(most):
        raise ArchitectureError("", f"there are {len(names)} action_names and {len(most)} action_max_params")
    return Actions(names, most)


def _numbers(held: JSON) -> Mapping[str, int]:
    """Name → byte-sized number; what is none is left out."""
    found = held.items() if isinstance(held, dict) else ()
    return {name: number for name, number in found if type(number) is int and number >= 0}
