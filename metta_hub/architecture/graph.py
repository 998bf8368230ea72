"""The component graph: read from the JSON of an agent's configuration, checked, ordered.

Classes are looked up by module and name in a table; nothing is imported. Source: specification of Metta's
checkpoints, sections 0 and 3.1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from metta_hub.architecture.attending import LatentAttention, SelfAttention
from metta_hub.architecture.heads import ActionEmbedding, BilinearHead, SingleHead
from metta_hub.architecture.layers import (
    Concatenate,
    Convolution,
    Dropout,
    Flatten,
    Linear,
    Rectifier,
    Recurrent,
    Residual,
)
from metta_hub.architecture.nouns import Kind
from metta_hub.architecture.observing import (
    BoxChannelsFirst,
    ChannelNormalizer,
    TokenFourier,
    TokenPadStrip,
    TokensToBox,
    TokenValueNormalizer,
)
from metta_hub.architecture.options import Options
from metta_hub.errors import ArchitectureError, UnknownArchitectureError
from metta_hub.strict_json import JSON

#: The last two parts of a class's path → its kind.
KINDS: Mapping[str, type[Kind]] = {
    "action.ActionEmbedding": ActionEmbedding,
    "actor.MettaActorBig": BilinearHead,
    "actor.MettaActorSingleHead": SingleHead,
    "lstm.LSTM": Recurrent,
    "merge_layer.ConcatMergeLayer": Concatenate,
    "nn_layer_library.Conv2d": Convolution,
    "nn_layer_library.Dropout": Dropout,
    "nn_layer_library.Flatten": Flatten,
    "nn_layer_library.Linear": Linear,
    "nn_layer_library.ReLU": Rectifier,
    "nn_layer_library.ResNetMLP": Residual,
    "obs_enc.ObsLatentAttn": LatentAttention,
    "obs_enc.ObsSelfAttn": SelfAttention,
    "obs_shaper.ObsShaper": BoxChannelsFirst,
    "obs_token_to_box_shaper.ObsTokenToBoxShaper": TokensToBox,
    "obs_tokenizers.ObsAttrEmbedFourier": TokenFourier,
    "obs_tokenizers.ObsAttrValNorm": TokenValueNormalizer,
    "obs_tokenizers.ObsTokenPadStrip": TokenPadStrip,
    "observation_normalizer.ObservationNormalizer": ChannelNormalizer,
}

OBSERVATION, CORE, EMBEDDING, ACTION, VALUE = "_obs_", "_core_", "_action_embeds_", "_action_", "_value_"

#: What must be there, and of which kinds it may be; of these kinds there is nothing else.
_PARTS: Mapping[str, tuple[type[Kind], ...]] = {
    OBSERVATION: (TokenPadStrip, TokensToBox, BoxChannelsFirst),
    CORE: (Recurrent,),
    EMBEDDING: (ActionEmbedding,),
    ACTION: (SingleHead, BilinearHead),
    VALUE: (Linear,),
}
_SINGLE = tuple(kind for name, kinds in _PARTS.items() if name != VALUE for kind in kinds)

MAX_COMPONENTS = 200
MAX_SOURCES = 32
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_TARGET = re.compile(r"[A-Za-z0-9_.]{1,200}")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a component gets an input.

    Attributes:
        name: of another component.
        start: where a slice starts; None for all of it.
        stop: where it ends.
        axis: of a row, along which it is sliced and joined.
    """

    name: str
    start: int | None = None
    stop: int | None = None
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Component:
    """One component of an agent."""

    name: str
    kind: Kind
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The components of an agent.

    Attributes:
        components: in the configuration's order, which is that of the state dict.
        order: their names, each behind its sources, `_value_` and what it needs first.
    """

    components: Mapping[str, Component]
    order: tuple[str, ...]

    @property
    def core(self) -> Recurrent:
        """The kind of the core."""
        found = self.components[CORE].kind
        assert isinstance(found, Recurrent)  # noqa: S101  (`parse` has seen to it)
        return found


def parse(architecture: JSON) -> Graph:
    """Read the configuration of an agent, as `model_info.architecture` has it.

    Raises:
        UnknownArchitectureError: a class of which nothing here knows how it computes.
        ArchitectureError: it makes no graph that could compute anything.
    """
    held = architecture.get("components") if isinstance(architecture, dict) else None
    if not isinstance(held, dict) or not held:
        raise ArchitectureError("", "it has no components")
    if len(held) > MAX_COMPONENTS:
        raise ArchitectureError("", f"it has {len(held):,} components, and {MAX_COMPONENTS} are the most")
    for name, config in held.items():
        if not _NAME.fullmatch(name):
            raise ArchitectureError("", f"{name[:80]!r} cannot name a component")
        if not isinstance(config, dict):
            raise ArchitectureError(name, "is no object")
    kinds = {name: _kind(name, config) for name, config in held.items() if isinstance(config, dict)}
    components = {
        name: Component(name, kinds[name].read(Options(name, config)), _sources(name, config))
        for name, config in held.items()
        if isinstance(config, dict)
    }
    _check_parts(components)
    return Graph(components, _ordered(components))


def _kind(name: str, config: Mapping[str, JSON]) -> type[Kind]:
    target = config.get("_target_")
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise ArchitectureError(name, "does not name its class under '_target_'")
    found = KINDS.get(".".join(target.split(".")[-2:]))
    if found is None:
        raise UnknownArchitectureError(
            target,
            tuple(KINDS),
            hint=f"component '{name}' is of that class; push, pull, inspect, verify and export work without it, and a"
            " pulled pair loads with torch.load",
        )
    return found


def _sources(name: str, config: Mapping[str, JSON]) -> tuple[Source, ...]:
    listed = config.get("sources")
    if listed is None:
        return ()
    if not isinstance(listed, list) or len(listed) > MAX_SOURCES:
        raise ArchitectureError(name, f"needs a list of at most {MAX_SOURCES} sources")
    return tuple(_source(name, one) for one in listed)


def _source(name: str, value: JSON) -> Source:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ArchitectureError(name, "has a source without a name")
    axis = Options(name, value).size("dim", 1, least=0, most=8)
    if axis == 0:
        raise ArchitectureError(name, "joins or slices the batch, which would mix up its rows")
    cut = value.get("slice")
    if cut is None:
        return Source(str(value["name"]), axis=axis - 1)
    ends = Options(name, {"slice's end": cut[1], "slice's start": cut[0]} if _is_pair(cut) else {})
    return Source(str(value["name"]), ends.size("slice's start", least=0), ends.size("slice's end"), axis - 1)


def _is_pair(value: JSON) -> TypeGuard[list[JSON]]:
    return isinstance(value, list) and len(value) == 2  # noqa: PLR2004


def _check_parts(components: Mapping[str, Component]) -> None:
    for name, kinds in _PARTS.items():
        if name not in components:
            raise ArchitectureError("", f"it has no component '{name}'")
        if not isinstance(components[name].kind, kinds):
            raise ArchitectureError(name, "is of a class that cannot stand there")
    for component in components.values():
        if isinstance(component.kind, _SINGLE) and component.name not in _PARTS:
            raise ArchitectureError(component.name, "is of a class of which there is one, under a name of its own")
        for source in component.sources:
            if source.name not in components:
                raise ArchitectureError(component.name, f"has a source {source.name[:80]!r} that is not there")
        wanted, has = component.kind.sources, len(component.sources)
        if (wanted is None and not has) or (wanted is not None and has != wanted):
            raise ArchitectureError(component.name, f"needs {wanted or 'some'} sources and has {has}")


def _ordered(components: Mapping[str, Component]) -> tuple[str, ...]:
    """Each behind its sources; without recursion, as chains may be long."""
    done: dict[str, None] = {}
    waiting: dict[str, None] = {}
    for end in (VALUE, ACTION):
        todo = [end]
        while todo:
            name = todo[-1]
            missing = [source.name for source in components[name].sources if source.name not in done]
            if not missing:
                done.setdefault(name)
                waiting.pop(name, None)
                todo.pop()
                continue
            if name in waiting and missing[0] in waiting:
                raise ArchitectureError(name, "depends on itself")
            waiting.setdefault(name)
            todo.append(missing[0])
    if idle := [name for name in components if name not in done]:
        raise ArchitectureError(idle[0], "leads to no action and no value")
    return tuple(done)
