"""Deep cross layers. Letters: B rows, F width of the features put together."""

from typing import cast, final

import torch
from torch import Tensor, nn


@final
class CrossLayers(nn.Module):
    """`x' = x0 * (x W + b) + x`, layer by layer, x0 the features put together; without layers the identity.

    Source: Wang et al., WWW 2021 (DCN-v2), equation 1.
    """

    def __init__(self, width: int, num_layers: int, dtype: str = "float32") -> None:
        """Build the layers.

        Args:
            width: F.
            num_layers: how many.
            dtype: of kernels and biases.
        """
        super().__init__()
        self._linears = nn.ModuleList(nn.Linear(width, width, dtype=getattr(torch, dtype)) for _ in range(num_layers))

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers' kernels and biases, in order."""
        return [cast(nn.Linear, linear) for linear in self._linears]

    def forward(self, x_BF: Tensor) -> Tensor:
        """Apply the layers to rows [B, F]."""
        start_BF = x_BF
        for linear in self._linears:
            x_BF = start_BF * linear(x_BF) + x_BF
        return x_BF
