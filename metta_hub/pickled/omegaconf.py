"""Configurations that OmegaConf pickled: a node holds its value, a container its nodes, and both know their parent.

Source: specification of Metta's checkpoints, section 1.1; OmegaConf 2.3's `_content`, `_val` and `_parent`.
"""

from collections.abc import Iterator

from metta_hub.pickled.objects import attributes, class_of

_CONTAINERS = frozenset({"omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"})
_NODES = "omegaconf.nodes."
#: Longest way up that is followed: Metta's agents are five levels deep.
_MAX_LEVELS = 64


def is_container(value: object) -> bool:
    """Whether it is a DictConfig or ListConfig."""
    return class_of(value) in _CONTAINERS


def opened(value: object) -> object:
    """What a node or container holds: a plain value, or a dict or list of more nodes; anything else as it is."""
    name = class_of(value)
    if name in _CONTAINERS:
        return attributes(value).get("_content")
    if name.startswith(_NODES):
        return attributes(value).get("_val")
    return value


def parents(value: object) -> Iterator[object]:
    """The containers that something lies in, from the inside out."""
    for _ in range(_MAX_LEVELS):
        value = attributes(value).get("_parent")
        if not is_container(value):
            return
        yield value
