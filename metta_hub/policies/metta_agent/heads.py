"""From what the core says to logits. Source: specification, section 3.6. R rows, A actions, E width of embeddings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metta_hub.errors import WeightsMismatchError


class ActionEmbedding(nn.Module):
    """A vector for each action that was ever known, and which of them are actions now.

    Attributes:
        trained: whether weights were loaded, and the policy has met an environment before.
    """

    active_indices: Tensor

    def __init__(self, rows: int, width: int, actions: int) -> None:
        super().__init__()
        self.register_buffer("active_indices", torch.tensor(range(1, actions + 1), dtype=torch.int64))
        self._net = nn.Embedding(rows, width)
        self.trained = False

    @property
    def rows(self) -> int:
        """How many vectors there are; the first is never used."""
        return self._net.num_embeddings

    def forward(self) -> Tensor:
        """The vectors of the actions, [A, E]."""
        vectors: Tensor = self._net(self.active_indices)
        return vectors

    def activate(self, rows: Sequence[int]) -> None:
        """Let these rows be the actions, in this order."""
        self.active_indices = torch.tensor(rows, dtype=torch.int64, device=self.active_indices.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """How many actions there are, the state dict says: it may be of another environment than the metadata."""
        loaded = state_dict.get(f"{prefix}active_indices")
        if isinstance(loaded, Tensor) and loaded.numel() and not loaded.is_meta:
            least, most = int(loaded.min()), int(loaded.max())
            if least < 0 or most >= self.rows:
                sentence = (
                    f"The weights do not fit the policy: an action has row {most if most >= self.rows else least}"
                )
                raise WeightsMismatchError(
                    f"{sentence} of {self.rows} embeddings.",
                    misshapen=[f"{prefix}active_indices"],
                    hint="the weights are damaged, or of another policy",
                )
        if isinstance(loaded, Tensor) and loaded.ndim == 1 and loaded.shape != self.active_indices.shape:
            self.active_indices = self.active_indices.new_empty(loaded.shape)
        self.trained = isinstance(loaded, Tensor) and bool(loaded.numel())
        super()._load_from_state_dict(state_dict, prefix, *args)


class SingleHead(nn.Module):
    """One query for each row, compared with the vector of each action."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(1, hidden, width).normal_(std=hidden**-0.5))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Tensor, actions: Tensor) -> Tensor:
        """[R, H'] and [A, E] → logits [R, A]."""
        return (hidden @ self.W[0]).tanh() @ actions.T + self.bias


class BilinearHead(nn.Module):
    """K queries for each row, compared with the vector of each action; a perceptron joins what they find."""

    def __init__(self, hidden: int, width: int, queries: int, between: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(queries, hidden, width).normal_(std=hidden**-0.5))
        self.bias = nn.Parameter(torch.zeros(queries))
        self._MLP = nn.Sequential(nn.Linear(queries, between), nn.ReLU(), nn.Linear(between, 1))

    def forward(self, hidden: Tensor, actions: Tensor) -> Tensor:
        """[R, H'] and [A, E] → logits [R, A]."""
        queries = torch.einsum("rh,khe->rke", hidden, self.W).tanh()
        found = (queries @ actions.T).transpose(1, 2) + self.bias
        joined: Tensor = self._MLP(found.relu())
        return joined.squeeze(-1)
