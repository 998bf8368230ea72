"""Metta's shipped agents as data, and which of them a state dict is of, by names and shapes.

Pairs that Metta wrote have no architecture. Where every size is that of a shipped one, it is that one; where sizes
differ, shapes cannot show the rest (`Kind.unseen`), and whoever takes the shipped options for it assumes something.
Source: specification of Metta's checkpoints, sections 0 and 3.7.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metta_hub.architecture.graph import EMBEDDING, KINDS
from metta_hub.architecture.nouns import Shape
from metta_hub.architecture.plan import PREFIX, plan
from metta_hub.errors import ArchitectureError
from metta_hub.strict_json import JSON, join

#: Where a component's options stand in the metadata.
AT = "/model_info/architecture"

_ROOT = "metta.agent.lib"


@dataclass(frozen=True, slots=True)
class Preset:
    """A shipped agent.

    Attributes:
        name: of its configuration.
        components: name → configuration.
        complete: whether every size here is known to be the shipped one; if not, sizes prove nothing.
    """

    name: str
    components: Mapping[str, dict[str, JSON]]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Recognition:
    """The shipped agent that a state dict is of.

    Attributes:
        preset: its name.
        architecture: the configuration with the sizes of the state dict, for `model_info`.
        assumed: pointers to the options that neither names nor shapes show; none when every size is the shipped one.
    """

    preset: str
    architecture: dict[str, JSON]
    assumed: tuple[str, ...]


def _part(target: str, sources: str | Sequence[JSON] = "", /, **options: JSON) -> dict[str, JSON]:
    names: list[JSON] = [{"name": name} for name in sources.split()] if isinstance(sources, str) else list(sources)
    return {"_target_": f"{_ROOT}.{target}", "sources": names or None, **options}


def _linear(source: str, out: int, **options: JSON) -> dict[str, JSON]:
    return _part("nn_layer_library.Linear", source, nn_params={"out_features": out}, **options)


def _conv(source: str, out: int, kernel: int, stride: int, **options: JSON) -> dict[str, JSON]:
    parameters: dict[str, JSON] = {"out_channels": out, "kernel_size": kernel, "stride": stride}
    return _part("nn_layer_library.Conv2d", source, nn_params=parameters, **options)


def _slice(name: str, start: int, stop: int) -> list[JSON]:
    return [{"name": name, "slice": [start, stop], "dim": 1}]


_BOX: dict[str, dict[str, JSON]] = {
    "_obs_": _part("obs_token_to_box_shaper.ObsTokenToBoxShaper"),
    "obs_normalizer": _part("observation_normalizer.ObservationNormalizer", "_obs_"),
}


def _tokens(width: int, frequencies: int) -> dict[str, dict[str, JSON]]:
    return {
        "_obs_": _part("obs_tokenizers.ObsTokenPadStrip"),
        "obs_normalizer": _part("obs_tokenizers.ObsAttrValNorm", "_obs_"),
        "obs_fourier": _part(
            "obs_tokenizers.ObsAttrEmbedFourier", "obs_normalizer", attr_embed_dim=width, num_freqs=frequencies
        ),
    }


def _core(source: str) -> dict[str, dict[str, JSON]]:
    return {"_core_": _part("lstm.LSTM", source, output_size=128, nn_params={"num_layers": 2})}


def _heads(critic: Mapping[str, dict[str, JSON]], last: str) -> dict[str, dict[str, JSON]]:
    return {
        **critic,
        "_value_": _linear(last, 1, nonlinearity=None),
        "actor_1": _linear("_core_", 512),
        "_action_embeds_": _part("action.ActionEmbedding", nn_params={"num_embeddings": 100, "embedding_dim": 16}),
        "_action_": _part("actor.MettaActorSingleHead", "actor_1 _action_embeds_"),
    }


_CRITIC: dict[str, dict[str, JSON]] = {"critic_1": _linear("_core_", 1024, nonlinearity="nn.Tanh")}


def _latent(width: int, heads: int, layers: int, self_layers: int) -> dict[str, dict[str, JSON]]:
    return {
        **_tokens(width, 8),
        "obs_latent_query_attn": _part(
            "obs_enc.ObsLatentAttn",
            "obs_fourier",
            out_dim=32,
            use_mask=True,
            num_query_tokens=10,
            query_token_dim=32,
            num_heads=heads,
            num_layers=layers,
        ),
        "obs_latent_self_attn": _part(
            "obs_enc.ObsSelfAttn",
            "obs_latent_query_attn",
            out_dim=128,
            num_heads=heads,
            num_layers=self_layers,
            use_mask=False,
            use_cls_token=True,
        ),
        **_core("obs_latent_self_attn"),
    }


_FAST = {
    **_BOX,
    "cnn1": _conv("obs_normalizer", 64, 5, 3),
    "cnn2": _conv("cnn1", 64, 3, 1),
    "obs_flattener": _part("nn_layer_library.Flatten", "cnn2"),
    "fc1": _linear("obs_flattener", 128),
    "encoded_obs": _linear("fc1", 128),
    **_core("encoded_obs"),
    **_heads(_CRITIC, "critic_1"),
}
_TINY = {
    **_tokens(10, 4),
    "obs_cross_attn": _part(
        "obs_enc.ObsLatentAttn",
        "obs_fourier",
        out_dim=128,
        use_mask=True,
        num_layers=2,
        num_heads=4,
        num_query_tokens=1,
        use_cls_token=True,
        query_token_dim=32,
        qk_dim=32,
    ),
    **_core("obs_cross_attn"),
    **_heads(_CRITIC, "critic_1"),
}
_REFERENCE = {
    **_BOX,
    "channel_selector_0-11": _part("merge_layer.ConcatMergeLayer", _slice("obs_normalizer", 0, 12)),
    "channel_selector_12-22": _part("merge_layer.ConcatMergeLayer", _slice("obs_normalizer", 12, 22)),
    "cnn1_channels_0-11": _conv("channel_selector_0-11", 64, 5, 3),
    "cnn1_channels_12-22": _conv("channel_selector_12-22", 64, 5, 3),
    "cnn2_channels_0-11": _conv("cnn1_channels_0-11", 64, 3, 1),
    "cnn2_channels_12-22": _conv("cnn1_channels_12-22", 64, 3, 1),
    "cnn_merger": _part(
        "merge_layer.ConcatMergeLayer", [*_slice("cnn2_channels_0-11", 0, 64), *_slice("cnn2_channels_12-22", 0, 64)]
    ),
    "obs_flattener": _part("nn_layer_library.Flatten", "cnn_merger"),
    "obs_dropout": _part("nn_layer_library.Dropout", "obs_flattener", nn_params={"p": 0.5}),
    "encoded_obs": _linear("obs_dropout", 128),
    **_core("encoded_obs"),
    **_heads(
        {
            "critic_1": _linear("_core_", 1024, nonlinearity="nn.Tanh"),
            "critic_2": _linear("critic_1", 128),
            "critic_3": _linear("critic_2", 128),
        },
        "critic_3",
    ),
    "_action_": _part("actor.MettaActorBig", "actor_1 _action_embeds_"),
}
_DEEP = {**_CRITIC, "critic_2": _part("nn_layer_library.ResNetMLP", "critic_1", depth=8)}

PRESETS = (
    Preset("fast", _FAST),
    Preset("latent_attn_tiny", _TINY),
    Preset("latent_attn_small", {**_latent(8, 4, 1, 2), **_heads(_CRITIC, "critic_1")}),
    Preset("latent_attn_med", {**_latent(12, 8, 3, 3), **_heads(_CRITIC, "critic_1")}, complete=False),
    Preset("reference_design", _REFERENCE, complete=False),
    Preset("resmlp_value", {**_latent(8, 4, 1, 2), **_heads(_DEEP, "critic_2")}, complete=False),
)


def recognise(tensors: Mapping[str, Shape], info: Mapping[str, JSON]) -> Recognition | None:
    """Find the shipped agent that a state dict is of; None when it is of none.

    Args:
        tensors: names → shapes of the state dict.
        info: `model_info`, for what the environment decides.

    Raises:
        ArchitectureError: `info` does not say what it observes.
    """
    fitted = [one for preset in PRESETS if (one := _fitted(preset, tensors, info)) is not None]
    return min(fitted, key=lambda one: one[0])[1] if fitted else None


def _fitted(preset: Preset, tensors: Mapping[str, Shape], info: Mapping[str, JSON]) -> tuple[int, Recognition] | None:
    """The preset with the state dict's sizes, and how many tensors have another shape than the shipped one."""
    own = _by_component(tensors)
    try:
        sized = {
            name: KINDS[_class(config)].sized(copy.deepcopy(config), own.get(name, {}))
            for name, config in preset.components.items()
        }
    except (LookupError, ValueError, ZeroDivisionError):
        return None
    if _tensors(sized, tensors, info) != dict(tensors):
        return None
    shipped = _tensors(preset.components, tensors, info) or {}
    other = sum(shipped.get(name) != shape for name, shape in tensors.items())
    if preset.complete and shipped == dict(tensors):
        return 0, Recognition(preset.name, _agent(preset.components), ())
    return other, Recognition(preset.name, _agent(sized), tuple(_unseen(sized)))


def _tensors(
    components: Mapping[str, dict[str, JSON]], tensors: Mapping[str, Shape], info: Mapping[str, JSON]
) -> dict[str, Shape] | None:
    """What the state dict of such an agent would be in this environment; None when it fits none."""
    actions = tensors.get(f"{PREFIX}{EMBEDDING}.active_indices", ())
    try:
        return plan({**info, "architecture": _agent(components)}, actions[0] if actions else 0).tensors
    except ArchitectureError as error:
        if not error.component:
            raise
        return None


def _agent(components: Mapping[str, dict[str, JSON]]) -> dict[str, JSON]:
    held: dict[str, JSON] = dict(copy.deepcopy(dict(components)))
    return {"_target_": "metta.agent.metta_agent.MettaAgent", "components": held}


def _unseen(components: Mapping[str, dict[str, JSON]]) -> Iterable[str]:
    for name, config in components.items():
        for option in KINDS[_class(config)].unseen:
            if option == "nonlinearity" and config.get("nonlinearity", "") is None:
                continue
            yield join(AT, "components", name, *option.split("/"))


def _class(config: Mapping[str, JSON]) -> str:
    return ".".join(str(config["_target_"]).split(".")[-2:])


def _by_component(tensors: Mapping[str, Shape]) -> dict[str, dict[str, Shape]]:
    found: dict[str, dict[str, Shape]] = {}
    for name, shape in tensors.items():
        component, _, key = name.removeprefix(PREFIX).partition(".")
        found.setdefault(component, {})[key] = shape
    return found
