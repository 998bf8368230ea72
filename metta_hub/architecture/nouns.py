"""The nouns of an architecture: component, its kind, what it puts out, the environment that it is for. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

from metta_hub.architecture.options import Options
from metta_hub.strict_json import JSON

#: Sizes, outermost first. Of what a component puts out: without the axis of rows (batch times time).
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Environment:
    """What of a policy its environment decides.

    Attributes:
        observation: shape of one observation: (M, 3) for tokens, (W, H, C) for a box.
        view: width and height in cells.
        normalizations: feature id → by what its values are divided.
        actions: how many actions the logits are of, A; 0 before the policy met an environment.
    """

    observation: Shape
    view: tuple[int, int]
    normalizations: Mapping[int, float]
    actions: int


@dataclass(frozen=True, slots=True)
class Output:
    """What a component makes of its inputs.

    Attributes:
        shape: of what it puts out, for one row.
        tensors: name → shape of everything that it keeps, in the order of its state dict.
        work: the most elements that it holds for one row meanwhile, besides what it puts out.
        masked: whether its first axis is that of the tokens, so that the mask of padding is one for it.
    """

    shape: Shape
    tensors: Mapping[str, Shape] = field(default_factory=dict)
    work: int = 0
    masked: bool = False

    @property
    def elements(self) -> int:
        """Elements that one row takes."""
        return math.prod(self.shape) + self.work


class Kind(Protocol):
    """One class of component: its options, read, and what follows from them.

    Attributes:
        sources: how many inputs it takes; None for one or more.
        unseen: options that no shape of a tensor shows.
    """

    sources: ClassVar[int | None]
    unseen: ClassVar[tuple[str, ...]]

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read the options, with Metta's defaults.

        Raises:
            ArchitectureError: one is missing, of another type, or out of bounds.
        """

    def infer(self, given: "Given") -> Output:
        """Say what comes out, and which tensors it takes.

        Raises:
            Misfit: the inputs do not fit.
        """

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """The configuration with every size as the tensors have it.

        Raises:
            LookupError: a tensor is missing, or one has too few axes.
        """


@dataclass(frozen=True, slots=True)
class Input:
    """What a component gets from a source.

    Attributes:
        shape: of one row.
        masked: whether its first axis is that of the tokens.
        start: where a slice of it starts; None for all of it.
        stop: where it ends.
        axis: of a row, along which it is sliced and joined.
    """

    shape: Shape
    masked: bool = False
    start: int | None = None
    stop: int | None = None
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Given:
    """What a kind infers from.

    Attributes:
        inputs: one for each source, in their order.
        environment: what it decides.
    """

    inputs: tuple[Input, ...]
    environment: Environment


@dataclass(frozen=True, slots=True)
class Bare:
    """The base of kinds without options of their own."""

    unseen: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, options: Options) -> Self:  # noqa: ARG003  (the signature of `Kind`)
        """Nothing to read."""
        return cls()

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:  # noqa: ARG004
        """Nothing to size."""
        return dict(config)


class Misfit(Exception):  # noqa: N818  (never leaves the package: the plan says of which component)
    """A component cannot take what it is given; the words are those after its name."""


def require(fits: bool, words: str) -> None:
    """Say what does not fit.

    Raises:
        Misfit: it does not.
    """
    if not fits:
        raise Misfit(words)


def flat(given: Given) -> int:
    """The width of the only input.

    Raises:
        Misfit: it has not one axis.
    """
    [only] = given.inputs
    require(len(only.shape) == 1, f"needs one axis and gets {list(only.shape)}")
    return only.shape[0]
