"""Ordinary layers of Metta's agents, and the core. Source: specification, sections 3.1, 3.4 and 3.5. R rows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metta_hub.architecture.layers import NONLINEARITIES

_LINEAR_OF_A_BLOCK = 4


class Layer(nn.Module):
    """A layer, and a nonlinearity behind it."""

    def __init__(self, layer: nn.Module, nonlinearity: str | None) -> None:
        super().__init__()
        if nonlinearity is None:
            self._net = layer
        else:
            # A name of the table, nothing else, is looked up in torch.nn.
            found = {name: getattr(nn, name) for name in NONLINEARITIES}[nonlinearity]
            self._net = nn.Sequential(layer, found())

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives."""
        given: Tensor = self._net(x)
        return given


class Concatenate(nn.Module):
    """Sources put side by side, each perhaps a slice.

    Attributes:
        cuts: for each source where its slice starts and ends; None and None for all of it.
        axis: along which, the rows not counted.
    """

    def __init__(self, cuts: Sequence[tuple[int | None, int | None]], axis: int) -> None:
        super().__init__()
        self.cuts, self.axis = tuple(cuts), axis

    def forward(self, *sources: Tensor) -> Tensor:
        """Tensors that differ along one axis → one of them all."""
        dim = self.axis + 1
        parts = [
            source if stop is None else source.narrow(dim, start or 0, stop - (start or 0))
            for source, (start, stop) in zip(sources, self.cuts, strict=True)
        ]
        return torch.cat(parts, dim)


class Swish(nn.Module):
    """x times the sigmoid of x, as steep as it has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same."""
        return x * torch.sigmoid(self.beta * x)


class ResidualBlock(nn.Module):
    """Four linear layers, each normalised and swished, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts = ([nn.Linear(width, width), nn.LayerNorm(width), Swish()] for _ in range(_LINEAR_OF_A_BLOCK))
        self.block = nn.Sequential(*(part for layer in parts for part in layer))

    def forward(self, x: Tensor) -> Tensor:
        """[R, D] → the same."""
        given: Tensor = x + self.block(x)
        return given


class Residual(nn.Module):
    """Residual blocks, one behind the other."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.residual_layers = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """[R, D] → the same."""
        given: Tensor = self.residual_layers(x)
        return given


class Core(nn.Module):
    """The LSTM. Rows of B sequences of T steps, row = b*T + t."""

    def __init__(self, inside: int, hidden: int, layers: int) -> None:
        super().__init__()
        self._net = nn.LSTM(inside, hidden, layers)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[B*T, in] and a state of each [L, B, H] → [B*T, H] and the state after the last step, detached."""
        steps = x.view(state[0].shape[1], -1, x.shape[-1]).transpose(0, 1)
        out, (hidden, cell) = self._net(steps, state)
        return out.transpose(0, 1).flatten(0, 1), (hidden.detach(), cell.detach())
