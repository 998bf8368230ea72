"""What of an agent's metadata its weights can fill in."""

from collections.abc import Mapping
from dataclasses import dataclass

from metta_hub.architecture.nouns import Shape
from metta_hub.architecture.presets import PRESETS, recognise
from metta_hub.errors import AssumptionError, UnknownArchitectureError
from metta_hub.strict_json import JSON


@dataclass(frozen=True, slots=True)
class Completed:
    """A `model_info` with an architecture.

    Attributes:
        info: the `model_info`.
        preset: the shipped agent that it was taken from; empty when it was there.
        assumed: pointers to the options that nothing shows, and were taken over from the shipped agent.
    """

    info: Mapping[str, JSON]
    preset: str = ""
    assumed: tuple[str, ...] = ()


def completed(info: Mapping[str, JSON], tensors: Mapping[str, Shape], *, assume: bool) -> Completed:
    """Find the architecture of a policy, in its metadata or by its weights.

    Args:
        info: `model_info`.
        tensors: names → shapes of the state dict.
        assume: whether options that nothing shows may be taken over from a shipped agent.

    Raises:
        UnknownArchitectureError: there is none, and the weights are of no shipped agent.
        AssumptionError: they are of one with other sizes, and `assume` is not set.
        ArchitectureError: `info` does not say what it observes.
    """
    if info.get("architecture") is not None:
        return Completed(info)
    found = recognise(tensors, info)
    if found is None:
        raise UnknownArchitectureError(
            str(info.get("type", "unknown"))[:80],
            [preset.name for preset in PRESETS],
            hint="the metadata hold no component graph, and the weights are of none of Metta's shipped agents; migrate"
            " the record that they were made of, or give it with --set model_info.architecture=…",
        )
    if found.assumed and not assume:
        raise AssumptionError(
            found.preset,
            found.assumed,
            hint="migrate the record that the pair was made of, which holds them; or"
            " --assume-preset, in Python assume_preset=True, takes those of the shipped agent",
        )
    return Completed({**info, "architecture": found.architecture}, found.preset, found.assumed)
