"""Metadata as callers of Metta's store know them: a dict whose items are attributes, too."""

from collections.abc import Mapping
from typing import Any, Self, cast

from metta_hub.errors import BadValueError, MissingFieldError, RequiredFieldError

#: What is always there, and what it is when nobody knows it.
DEFAULTS: Mapping[str, int | float] = {"agent_step": 0, "epoch": 0, "generation": 0, "train_time": 0.0}
_NO_DEFAULT = object()


class PolicyMetadata(dict[str, Any]):
    """Metadata of a policy; `metadata.score` is `metadata["score"]`. Names with a leading `_` are ordinary attributes.

    The first four are always there and cannot be removed.

    Args:
        agent_step: environment steps over all agents.
        epoch: training epochs.
        generation: that of the policy it was trained from, and one; 0 for a fresh one.
        train_time: seconds of rollout and training.
        others: whatever else is known.
    """

    def __init__(
        self,
        /,
        agent_step: int = 0,
        epoch: int = 0,
        generation: int = 0,
        train_time: float = 0.0,
        **others: Any,  # noqa: ANN401  (whatever JSON has)
    ) -> None:
        super().__init__(agent_step=agent_step, epoch=epoch, generation=generation, train_time=train_time, **others)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make metadata of a dict that has at least the required four.

        Raises:
            BadValueError: one is missing (a ValueError).
        """
        missing = [key for key in DEFAULTS if key not in values]
        if missing:
            sentence = f"Metadata lack {', '.join(missing)}."
            raise BadValueError(missing[0], sentence, hint="PolicyMetadata(**values) takes 0 for what is missing")
        return cls(**values)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name in self:
            return self[name]
        raise MissingFieldError(name, f"The metadata have no '{name}'.", hint="metadata.keys() lists what they have")

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        if name.startswith("_"):
            super().__delattr__(name)
        elif name in self:
            del self[name]
        else:
            raise MissingFieldError(name, f"The metadata have no '{name}'.")

    def __delitem__(self, key: str) -> None:
        _refuse_required(key)
        super().__delitem__(key)

    def pop(self, key: str, default: Any = _NO_DEFAULT) -> Any:  # noqa: ANN401
        """Remove an item and return it.

        Raises:
            RequiredFieldError: it is one of the four (a KeyError).
            KeyError: it is not there, and there is no default.
        """
        _refuse_required(key)
        return super().pop(key) if default is _NO_DEFAULT else super().pop(key, default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last item and return it.

        Raises:
            RequiredFieldError: only the four are left (a KeyError).
        """
        last = next((key for key in reversed(self) if key not in DEFAULTS), None)
        if last is None:
            _refuse_required(next(iter(DEFAULTS)))
        return cast("str", last), self.pop(cast("str", last))

    def clear(self) -> None:
        """Remove all but the four."""
        for key in [key for key in self if key not in DEFAULTS]:
            del self[key]

    def copy(self) -> Self:
        """A copy, as deep as that of a dict."""
        return type(self)(**self)

    def __repr__(self) -> str:
        shown = [*sorted(DEFAULTS), *sorted(self.keys() - DEFAULTS.keys())]
        return f"{type(self).__name__}({', '.join(f'{key}={self.get(key)!r}' for key in shown)})"


def _refuse_required(key: str) -> None:
    if key in DEFAULTS:
        raise RequiredFieldError(key, f"'{key}' is required and stays.", hint=f"metadata.{key} = {DEFAULTS[key]!r}")
