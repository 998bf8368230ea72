"""Small agents of every kind of component, made here: what a plain clone of the project has to test with."""

import copy

import torch

import metta_hub
from metta_hub.architecture import PRESETS

NAMES, MOST = ["noop", "move", "rotate"], [0, 1, 3]
SIZES = {
    "cnn1": {"nn_params": {"out_channels": 4, "kernel_size": 5, "stride": 3}},
    "cnn2": {"nn_params": {"out_channels": 4, "kernel_size": 3, "stride": 1}},
    "cnn1_channels_0-11": {"nn_params": {"out_channels": 4, "kernel_size": 5, "stride": 3}},
    "cnn1_channels_12-22": {"nn_params": {"out_channels": 4, "kernel_size": 5, "stride": 3}},
    "fc1": {"nn_params": {"out_features": 6}},
    "encoded_obs": {"nn_params": {"out_features": 6}},
    "obs_latent_query_attn": {"query_token_dim": 16, "num_query_tokens": 3},
    "obs_cross_attn": {"query_token_dim": 16, "qk_dim": 16, "out_dim": 12},
    "obs_latent_self_attn": {"out_dim": 12},
    "_core_": {"output_size": 8},
    "critic_1": {"nn_params": {"out_features": 12}},
    "critic_2": {"nn_params": {"out_features": 10}},
    "critic_3": {"nn_params": {"out_features": 10}},
    "actor_1": {"nn_params": {"out_features": 7}},
    "_action_embeds_": {"nn_params": {"num_embeddings": 20, "embedding_dim": 4}},
    "_action_": {"bilinear_output_dim": 3, "mlp_hidden_dim": 5},
}
PRESET = {preset.name: preset for preset in PRESETS}


def architecture(name, sizes=SIZES):
    """The graph of a shipped agent, made small."""
    components = copy.deepcopy(dict(PRESET[name].components))
    for component, options in sizes.items():
        if component in components:
            kept = {key: item for key, item in options.items() if key in components[component] or key != "nn_params"}
            components[component] |= copy.deepcopy(kept)
    return {"_target_": "metta.agent.metta_agent.MettaAgent", "components": components}


def model_info(graph, **changed):
    """The `model_info` of an agent in an environment of 23 features and 7 actions."""
    return {
        "type": "MettaAgent",
        "agent_attributes": {
            "obs_width": 11,
            "obs_height": 11,
            "obs_shape": [30, 3],
            "feature_normalizations": {str(feature): float(feature % 5 + 1) for feature in range(23)},
        },
        "architecture": graph,
        "action_max_params": MOST,
        "action_embedding_rows": {
            label: row + 1
            for row, label in enumerate(f"{n}_{p}" for n, m in zip(NAMES, MOST, strict=True) for p in range(m + 1))
        },
    } | changed


def features(count=23, move=0):
    """The features of an environment, each id moved."""
    return {
        f"feature{number}": {"id": (number + move) % count, "normalization": number % 5 + 1.0}
        for number in range(count)
    }


def agent(name, *, seed=0, **changed):
    """A small agent with weights of its own."""
    torch.manual_seed(seed)
    return metta_hub.create_model_from_metadata(model_info(architecture(name), **changed))


def observations(policy, *batch, seed=0):
    """Observations that differ: tokens in random places, some rows longer than others."""
    chance = torch.Generator().manual_seed(seed)
    shape = policy.observation_space.shape
    count = 1
    for size in batch:
        count *= size
    tokens = torch.stack(
        [
            torch.randint(0, 11, (count, shape[0]), generator=chance) * 16
            + torch.randint(0, 11, (count, shape[0]), generator=chance),
            torch.randint(0, 23, (count, shape[0]), generator=chance),
            torch.randint(0, 256, (count, shape[0]), generator=chance),
        ],
        -1,
    ).to(torch.uint8)
    for row in range(count):
        tokens[row, 5 + row % (shape[0] - 5) :] = 255
    return tokens.reshape(*batch, *shape)
