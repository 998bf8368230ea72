"""Observations → numbers: the front ends of Metta's agents. Source: specification, section 3.2.

R rows (batch times time), M tokens of place, feature and value; K of them after padding was cut off.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metta_hub.errors import UsageError

PADDING = 255
#: The feature that stands for those which a policy does not know.
UNKNOWN = 255
_IDS = 256
_NIBBLE = 4
#: Places are scaled by this, whatever the size of the view: a constant of Metta's class (specification, section 0).
_REACH = 10


class TokensToBox(nn.Module):
    """Tokens laid out as a box of one channel a feature; of two in one cell the later counts."""

    def __init__(self, channels: int, width: int, height: int) -> None:
        super().__init__()
        self.shape = (channels, width, height)

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        """[R, M, 3] → [R, C, W, H], uint8; there is no mask.

        Raises:
            UsageError: a token lies outside of the view, or is of a feature that the policy has no channel for.
        """
        channels, width, height = self.shape
        place, feature, value = tokens.long().unbind(-1)
        row, column, real = place >> _NIBBLE, place & 15, place != PADDING
        inside = (row < width) & (column < height) & (feature < channels)
        if bool((real & ~inside).any()):
            raise UsageError(
                f"A token lies outside of the view of {width} times {height}, or is of a feature above {channels - 1}.",
                hint="the observation is of another environment than the one that the policy was trained in",
            )
        cell = torch.where(real, (feature * width + row) * height + column, 0)
        count = torch.arange(1, tokens.shape[1] + 1, device=tokens.device).expand_as(cell)
        empty = torch.zeros(len(tokens), channels * width * height, dtype=torch.long, device=tokens.device)
        last = empty.scatter_reduce(1, cell, torch.where(real, count, 0), "amax")
        values = nn.functional.pad(value, (1, 0)).gather(1, last)
        return values.to(tokens.dtype).view(-1, channels, width, height), None


class BoxChannelsFirst(nn.Module):
    """A box with its channels moved to the front."""

    def forward(self, box: Tensor) -> tuple[Tensor, None]:
        """[R, W, H, C] → [R, C, W, H]; there is no mask."""
        return box.permute(0, 3, 1, 2), None


class ChannelNormalizer(nn.Module):
    """Each channel divided by its normalisation."""

    obs_norm: Tensor

    def __init__(self, channels: int, normalizations: Mapping[int, float]) -> None:
        super().__init__()
        norm = torch.tensor([normalizations.get(feature, 1.0) for feature in range(channels)])
        self.register_buffer("obs_norm", norm.view(1, channels, 1, 1))

    def forward(self, box: Tensor) -> Tensor:
        """[R, C, W, H] → the same, floating."""
        return box.to(self.obs_norm.dtype) / self.obs_norm


class TokenPadStrip(nn.Module):
    """Tokens with their features renumbered and the padding that is common to all rows cut off."""

    feature_id_remap: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("feature_id_remap", torch.tensor(range(_IDS), dtype=torch.uint8))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[R, M, 3] → [R, K, 3], and [R, K]: which of them are padding.

        K is the greatest number of tokens before a row's first padding, where rows without any count as none:
        a full row beside padded ones is cut, too.
        """
        padding = tokens[..., 0] == PADDING
        longest = int(padding.byte().argmax(-1).max())
        kept = tokens[:, : longest or tokens.shape[1]]
        feature = self.feature_id_remap[kept[..., 1].long()]
        renumbered = torch.stack([kept[..., 0], feature, kept[..., 2]], -1)
        return renumbered, padding[:, : kept.shape[1]]

    def remap(self, table: Mapping[int, int]) -> None:
        """Renumber: feature id → the id that the policy learned; what is not in the table is unknown to it."""
        numbers = [table.get(feature, UNKNOWN) for feature in range(_IDS)]
        self.feature_id_remap = torch.tensor(numbers, dtype=torch.uint8, device=self.feature_id_remap.device)


class TokenValueNormalizer(nn.Module):
    """The values of tokens divided by a factor of their feature, and cut to whole numbers again."""

    _norm_factors: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        # Metta starts with the ids themselves; what counts is what the state dict holds.
        factors = [float(feature) if feature < features else 1.0 for feature in range(_IDS)]
        self.register_buffer("_norm_factors", torch.tensor(factors))

    def forward(self, tokens: Tensor) -> Tensor:
        """[R, K, 3] → the same, uint8. Divided by nothing, a value is 0."""
        factor = self._norm_factors[tokens[..., 1].long()].float()
        value = torch.where(factor == 0, 0, tokens[..., 2] / factor).to(tokens.dtype)
        return torch.stack([tokens[..., 0], tokens[..., 1], value], -1)

    def renormalize(self, factors: Mapping[int, float]) -> None:
        """Divide by these, and what is not among them by 1."""
        numbers = [factors.get(feature, 1.0) for feature in range(_IDS)]
        self._norm_factors = torch.tensor(numbers).to(self._norm_factors)


class TokenFourier(nn.Module):
    """Tokens as vectors: an embedding of the feature, cosines and sines of the place, the value."""

    frequencies: Tensor

    def __init__(self, width: int, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor([2.0**power for power in range(frequencies)]))
        self._attr_embeds = nn.Embedding(_IDS, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[R, K, 3] → [R, K, E + 4 F + 1]."""
        dtype = self._attr_embeds.weight.dtype
        place, feature, value = tokens.long().unbind(-1)
        row = self._angles(place >> _NIBBLE)
        column = self._angles(place & 15)
        embedded = self._attr_embeds(feature)
        waves = [row.cos(), row.sin(), column.cos(), column.sin()]
        return torch.cat([embedded, *(wave.to(dtype) for wave in waves), value.to(dtype)[..., None]], -1)

    def _angles(self, place: Tensor) -> Tensor:
        """In full precision, since the highest frequencies magnify every rounding."""
        return (place.float() / _REACH * 2 - 1)[..., None] * self.frequencies.float()
