"""Architectures as JSON: the component graph of Metta's agents, read, checked and sized. No torch.

`parse` reads the graph, `plan` says which tensors it has and refuses what is too large, `recognise` finds the graph
of a state dict that came without one.
"""

from metta_hub.architecture.completing import Completed, completed
from metta_hub.architecture.graph import ACTION, CORE, EMBEDDING, OBSERVATION, VALUE, Graph, parse
from metta_hub.architecture.nouns import Environment, Input, Shape
from metta_hub.architecture.plan import PREFIX, Plan, environment, max_params, plan
from metta_hub.architecture.presets import PRESETS, Recognition, recognise

__all__ = [
    "ACTION",
    "CORE",
    "EMBEDDING",
    "OBSERVATION",
    "PREFIX",
    "PRESETS",
    "VALUE",
    "Completed",
    "Environment",
    "Graph",
    "Input",
    "Plan",
    "Recognition",
    "Shape",
    "completed",
    "environment",
    "max_params",
    "parse",
    "plan",
    "recognise",
]
