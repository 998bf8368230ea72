"""Make a policy of many layers, as a pair of ours and as the Hub's mixin saves one. PT FOLDER LAYERS WIDTH.

Ours is one of Metta's agents with a long encoder; the mixin's has the same layers, and nothing before and after them.
"""

import sys
from pathlib import Path

import torch
from chain import Chain

import metta_hub

pt, folder, layers, width = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(layers)
LIB = "metta.agent.lib"


def linear(source: str, out: int, **options: object) -> dict[str, object]:
    """A layer of the agent."""
    sources = [{"name": source}]
    return {
        "_target_": f"{LIB}.nn_layer_library.Linear",
        "sources": sources,
        "nn_params": {"out_features": out},
    } | options


names = [f"encoder_{number}" for number in range(layers)]
components = {
    "_obs_": {"_target_": f"{LIB}.obs_token_to_box_shaper.ObsTokenToBoxShaper", "sources": None},
    "normal": {"_target_": f"{LIB}.observation_normalizer.ObservationNormalizer", "sources": [{"name": "_obs_"}]},
    "flat": {"_target_": f"{LIB}.nn_layer_library.Flatten", "sources": [{"name": "normal"}]},
    "first": linear("flat", width),
    **{name: linear(before, width) for name, before in zip(names, ["first", *names], strict=False)},
    "encoded": linear(names[-1], 32),
    "_core_": {
        "_target_": f"{LIB}.lstm.LSTM",
        "sources": [{"name": "encoded"}],
        "output_size": 16,
        "nn_params": {"num_layers": 1},
    },
    "_value_": linear("_core_", 1, nonlinearity=None),
    "actor": linear("_core_", 16),
    "_action_embeds_": {
        "_target_": f"{LIB}.action.ActionEmbedding",
        "sources": None,
        "nn_params": {"num_embeddings": 9, "embedding_dim": 4},
    },
    "_action_": {
        "_target_": f"{LIB}.actor.MettaActorSingleHead",
        "sources": [{"name": "actor"}, {"name": "_action_embeds_"}],
    },
}
info = {
    "type": "MettaAgent",
    "architecture": {"components": components},
    "action_max_params": [0, 1],
    "action_embedding_rows": {"noop_0": 1, "move_0": 2, "move_1": 3},
    "agent_attributes": {
        "obs_width": 5,
        "obs_height": 5,
        "obs_shape": [20, 3],
        "feature_normalizations": {str(number): 1.0 for number in range(4)},
    },
}
policy = metta_hub.create_model_from_metadata(info)
store = metta_hub.PolicyStore({"device": "cpu"})
record = metta_hub.PolicyRecord(None, pt.stem, None, {"model_info": info, "action_names": ["noop", "move"]})
record.policy = policy
store.save(record, pt)
Chain(layers, width).save_pretrained(folder)
