"""What a policy can do: action types and their parameters. No torch."""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Actions:
    """The actions, in the order of the logits.

    Attributes:
        names: of the action types.
        max_params: the greatest parameter of each type, 0 being the least (MultiDiscrete), and empty where nobody
            knows them, so that there are names and no actions; None where an action is its type alone (Discrete).
    """

    names: tuple[str, ...]
    max_params: tuple[int, ...] | None = None

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Logit → (type, parameter): types in order, and of each its parameters from 0 (specification, section 4)."""
        greatest = (0,) * len(self.names) if self.max_params is None else self.max_params
        return tuple((kind, parameter) for kind, most in enumerate(greatest) for parameter in range(most + 1))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Logit → the action in words: `move_1` is parameter 1 of `move`; a Discrete one has its type's name."""
        if self.max_params is None:
            return self.names
        return tuple(f"{self.names[kind]}_{parameter}" for kind, parameter in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def label(self, action: int | list[int]) -> str:
        """The words for an action as `predict` gives it: a number when Discrete, else type and parameter.

        Raises:
            ValueError: there is no such action.
        """
        if isinstance(action, int) != (self.max_params is None):
            raise ValueError(action)
        pair = (action, 0) if isinstance(action, int) else tuple(action)
        return self.labels[self.pairs.index(pair)]
