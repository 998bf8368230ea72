"""Kinds of component that make logits. Source: specification of Metta's checkpoints, section 3.6."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from metta_hub.architecture.nouns import Bare, Given, Output, Shape, require
from metta_hub.architecture.options import PARAMETERS, Options
from metta_hub.strict_json import JSON


@dataclass(frozen=True, slots=True)
class ActionEmbedding:
    """One vector for each action that was ever known, and which of them are actions now.

    Attributes:
        rows: N; row 0 is never used.
        width: E.
    """

    rows: int
    width: int
    sources: ClassVar[int | None] = 0
    unseen: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `nn_params.num_embeddings` and `nn_params.embedding_dim`."""
        return cls(options.parameters.size("num_embeddings"), options.parameters.size("embedding_dim"))

    def infer(self, given: Given) -> Output:
        """Nothing → [A, E]."""
        require(
            given.environment.actions < self.rows, f"has {self.rows - 1} rows for {given.environment.actions} actions"
        )
        tensors: dict[str, Shape] = {
            "active_indices": (given.environment.actions,),
            "_net.weight": (self.rows, self.width),
        }
        return Output((given.environment.actions, self.width), tensors)

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """Both sizes show."""
        rows, width = tensors["_net.weight"]
        return {**config, PARAMETERS: {"num_embeddings": rows, "embedding_dim": width}}


@dataclass(frozen=True, slots=True)
class SingleHead(Bare):
    """One query for each row, compared with the embedding of each action."""

    sources: ClassVar[int | None] = 2

    def infer(self, given: Given) -> Output:
        """[H'] and [A, E] → [A]."""
        hidden, actions, width = _hidden_and_actions(given)
        return Output((actions,), {"W": (1, hidden, width), "bias": (1,)}, width)


@dataclass(frozen=True, slots=True)
class BilinearHead:
    """Several queries for each row, whose comparisons a perceptron joins.

    Attributes:
        queries: K.
        between: width inside the perceptron, m.
    """

    queries: int
    between: int
    sources: ClassVar[int | None] = 2
    unseen: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read `bilinear_output_dim` and `mlp_hidden_dim`."""
        return cls(options.size("bilinear_output_dim", 32), options.size("mlp_hidden_dim", 512))

    def infer(self, given: Given) -> Output:
        """[H'] and [A, E] → [A]."""
        hidden, actions, width = _hidden_and_actions(given)
        tensors: dict[str, Shape] = {
            "W": (self.queries, hidden, width),
            "bias": (self.queries,),
            "_MLP.0.weight": (self.between, self.queries),
            "_MLP.0.bias": (self.between,),
            "_MLP.2.weight": (1, self.between),
            "_MLP.2.bias": (1,),
        }
        return Output((actions,), tensors, self.queries * width + actions * (self.queries + self.between))

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """Both sizes show."""
        between, queries = tensors["_MLP.0.weight"]
        return {**config, "bilinear_output_dim": queries, "mlp_hidden_dim": between}


def _hidden_and_actions(given: Given) -> tuple[int, int, int]:
    hidden, actions = (source.shape for source in given.inputs)
    words = f"needs one axis and embeddings of actions, and gets {list(hidden)} and {list(actions)}"
    require(len(hidden) == 1 and len(actions) == 2, words)  # noqa: PLR2004  (actions, width)
    return hidden[0], actions[0], actions[1]
