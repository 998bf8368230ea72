"""A network of many layers for the Hub's mixin."""

import torch
from huggingface_hub import PyTorchModelHubMixin


class Chain(torch.nn.Module, PyTorchModelHubMixin):
    """So many linear layers of one width, with ReLU between them."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, width] → [B, width]."""
        for layer in self.layers:
            x = layer(x).relu()
        return x
