"""What a policy sees, as a frozen noun."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Box:
    """The space of observations: arrays of one shape.

    Attributes:
        shape: of one observation, without batch and time: `(M, 3)` for M tokens, `(W, H, C)` for a box.
        dtype: of its elements.
        low: the least that an element can be.
        high: the most.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.uint8
    low: int = 0
    high: int = 255
