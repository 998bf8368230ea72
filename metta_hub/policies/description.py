"""What a policy is built from: metadata, and the names and shapes of its weights. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from metta_hub.checkpoint import Checkpoint, Weights
from metta_hub.metadata import Metadata, model_info
from metta_hub.strict_json import JSON

#: What torch's wrappers put before every name: a distributed module's, a compiled one's.
WRAPPERS = ("module.", "_orig_mod.")
#: What an architecture without a name is called.
UNNAMED = "unknown"


@dataclass(frozen=True, slots=True)
class Description:
    """A policy, described.

    Attributes:
        metadata: as a pair's JSON has them.
        shapes: names → shapes of the weights, without what wrappers put before them; empty when there are none yet.
        assume_preset: whether the options of a shipped agent may be taken for those that nothing shows.
    """

    metadata: Mapping[str, JSON]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    assume_preset: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, assume_preset: bool = False) -> "Description":
        """Describe the policy of a checkpoint."""
        return cls(checkpoint.metadata.values, shapes(checkpoint.weights), assume_preset)

    @property
    def info(self) -> Mapping[str, JSON]:
        """The metadata's `model_info`."""
        return model_info(self.metadata)

    @property
    def type(self) -> str:
        """The name of its architecture; `UNNAMED` when it has none."""
        found = self.info.get("type")
        return found if isinstance(found, str) and found else UNNAMED


@dataclass(frozen=True, slots=True)
class Pretrained:
    """The checkpoint that a policy was built from, as far as saving it again needs it: its NAME and its metadata."""

    name: str
    metadata: Metadata


def shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    """Names → shapes, without what wrappers put before every name."""
    return {tensor.name: tensor.shape for tensor in unwrapped(weights)[0].tensors}


def unwrapped(weights: Weights) -> tuple[Weights, str]:
    """The weights without what wrappers put before every name, and what that was."""
    prefix = wrapping([tensor.name for tensor in weights.tensors])
    if not prefix:
        return weights, ""
    tensors = tuple(tensor._replace(name=tensor.name.removeprefix(prefix)) for tensor in weights.tensors)
    return Weights(tensors, weights.storages), prefix


def wrapping(names: list[str]) -> str:
    """What wrappers put before every one of these names; empty when they put nothing."""
    prefix = ""
    while names and (
        more := next((one for one in WRAPPERS if all(name.startswith(prefix + one) for name in names)), None)
    ):
        prefix += more
    return prefix
