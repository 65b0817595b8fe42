"""Hidden layers and the linear layer to the common width. Letters: B queries in the batch, F width in, D width out."""

from collections.abc import Callable, Sequence
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_reference.layers.dropout import SeededDropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,  # the exact form with erf is torch's default
    "silu": functional.silu,
    "tanh": torch.tanh,
}


@final
class DenseLayers(nn.Module):
    """`x @ kernel + bias` for every layer, activation and dropout after each but the last, which stays linear.

    Without layers it is the identity.
    """

    def __init__(
        self, layer_dims: Sequence[tuple[int, int]], activation: str, dropout: float, dtype: str = "float32"
    ) -> None:
        """Build the layers.

        Args:
            layer_dims: (in, out) of every layer; the last one is the linear layer to the common width.
            activation: a key of `ACTIVATIONS`.
            dropout: rate after each hidden layer, in training.
            dtype: of kernels and biases.
        """
        super().__init__()
        self._linears = nn.ModuleList(
            nn.Linear(width_in, width_out, dtype=getattr(torch, dtype)) for width_in, width_out in layer_dims
        )
        self._activation = ACTIVATIONS[activation]
        self._dropout = SeededDropout(dropout)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers in order."""
        return [cast(nn.Linear, linear) for linear in self._linears]

    def forward(self, x_BF: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Apply the layers.

        Args:
            x_BF: input [B, F].
            generator: source of dropout.

        Returns:
            Output [B, D].
        """
        for linear in self._linears[:-1]:
            x_BF = self._dropout(self._activation(linear(x_BF)), generator)
        for last in self._linears[-1:]:
            x_BF = last(x_BF)
        return x_BF
