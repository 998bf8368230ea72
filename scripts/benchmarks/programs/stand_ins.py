"""Stand-ins for Metta's classes, so that torch can load records: importing this is enough."""

import sys
from types import ModuleType

import torch

_PLACES = {
    "metta.agent.policy_record": ("PolicyRecord",),
    "metta.agent.policy_metadata": ("PolicyMetadata",),
    "metta.agent.metta_agent": ("MettaAgent",),
    "metta.agent.lib.lstm": ("LSTM",),
    "metta.agent.lib.action": ("ActionEmbedding",),
    "metta.agent.lib.actor": ("MettaActorSingleHead",),
    "metta.agent.lib.nn_layer_library": ("Conv2d", "Flatten", "Linear"),
    "metta.agent.lib.obs_token_to_box_shaper": ("ObsTokenToBoxShaper",),
    "metta.agent.lib.observation_normalizer": ("ObservationNormalizer",),
}
_BASES = {"PolicyRecord": object, "PolicyMetadata": dict}

for place, names in _PLACES.items():
    for end in [index for index, letter in enumerate(place) if letter == "."]:
        sys.modules.setdefault(place[:end], ModuleType(place[:end]))
    module = sys.modules[place] = ModuleType(place)
    for name in names:
        setattr(module, name, type(name, (_BASES.get(name, torch.nn.Module),), {"__module__": place}))
