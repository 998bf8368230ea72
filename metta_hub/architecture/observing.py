"""Kinds of component that take observations: tokens, boxes, and what makes numbers of them.

Source: specification of Metta's checkpoints, section 3.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from metta_hub.architecture.nouns import Bare, Given, Output, Shape, require
from metta_hub.architecture.options import Options
from metta_hub.strict_json import JSON

#: Feature ids are bytes.
FEATURES = 256
#: Place, feature, value.
TOKEN = 3
_BOX_AXES = 3


@dataclass(frozen=True, slots=True)
class TokensToBox(Bare):
    """Tokens laid out as a box of one channel a feature."""

    sources: ClassVar[int | None] = 0

    def infer(self, given: Given) -> Output:
        """[M, 3] → [C, W, H], C = 1 + the greatest feature id."""
        _require_tokens(given.environment.observation)
        require(bool(given.environment.normalizations), "needs agent_attributes.feature_normalizations")
        shape = (1 + max(given.environment.normalizations), *given.environment.view)
        return Output(shape, work=shape[0] * shape[1] * shape[2])


@dataclass(frozen=True, slots=True)
class BoxChannelsFirst(Bare):
    """A box with its channels moved to the front."""

    sources: ClassVar[int | None] = 0

    def infer(self, given: Given) -> Output:
        """[W, H, C] → [C, W, H]."""
        require(
            len(given.environment.observation) == _BOX_AXES, f"needs a box, not {list(given.environment.observation)}"
        )
        width, height, channels = given.environment.observation
        return Output((channels, width, height))


@dataclass(frozen=True, slots=True)
class ChannelNormalizer(Bare):
    """Each channel divided by its normalisation."""

    sources: ClassVar[int | None] = 1

    def infer(self, given: Given) -> Output:
        """[C, W, H] → the same."""
        [box] = given.inputs
        require(len(box.shape) == _BOX_AXES, f"needs a box and gets {list(box.shape)}")
        return Output(box.shape, {"obs_norm": (1, box.shape[0], 1, 1)})


@dataclass(frozen=True, slots=True)
class TokenPadStrip(Bare):
    """Tokens with their features renumbered and common padding cut off."""

    sources: ClassVar[int | None] = 0

    def infer(self, given: Given) -> Output:
        """[M, 3] → [M, 3] at most."""
        _require_tokens(given.environment.observation)
        return Output(given.environment.observation, {"feature_id_remap": (FEATURES,)}, masked=True)


@dataclass(frozen=True, slots=True)
class TokenValueNormalizer(Bare):
    """The values of tokens divided by a factor of their feature."""

    sources: ClassVar[int | None] = 1

    def infer(self, given: Given) -> Output:
        """[M, 3] → the same."""
        [tokens] = given.inputs
        _require_tokens(tokens.shape)
        return Output(tokens.shape, {"_norm_factors": (FEATURES,)}, masked=tokens.masked)


@dataclass(frozen=True, slots=True)
class TokenFourier:
    """Tokens as vectors: an embedding of the feature, a Fourier series of the place, the value.

    Attributes:
        width: of the embedding, E.
        frequencies: F.
    """

    width: int
    frequencies: int
    sources: ClassVar[int | None] = 1
    unseen: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `attr_embed_dim` and `num_freqs`, 3 by default."""
        return cls(options.size("attr_embed_dim"), options.size("num_freqs", 3, most=64))

    def infer(self, given: Given) -> Output:
        """[M, 3] → [M, E + 4 F + 1]."""
        [tokens] = given.inputs
        _require_tokens(tokens.shape)
        tensors = {"frequencies": (self.frequencies,), "_attr_embeds.weight": (FEATURES, self.width)}
        return Output((tokens.shape[0], self.width + 4 * self.frequencies + 1), tensors, masked=tokens.masked)

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """Both sizes show."""
        width, frequencies = tensors["_attr_embeds.weight"][1], tensors["frequencies"][0]
        return {**config, "attr_embed_dim": width, "num_freqs": frequencies}


def _require_tokens(shape: Shape) -> None:
    require(len(shape) == 2 and shape[1] == TOKEN, f"needs tokens, not {list(shape)}")  # noqa: PLR2004
