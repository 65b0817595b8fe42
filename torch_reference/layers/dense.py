"""Hidden layers and the linear layer to the common width. Letters: B rows, F width in, D width out."""

from collections.abc import Callable, Sequence
from typing import Literal, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_reference.layers.dropout import SeededDropout
from torch_reference.layers.norm import BatchNorm, LayerNorm

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,  # the exact form with erf is torch's default
    "silu": functional.silu,
    "tanh": torch.tanh,
}


@final
class DenseLayers(nn.Module):
    """`x @ kernel + bias` for every layer; behind each but the last, which stays linear, norm, activation and dropout.

    A hidden layer so is `dropout(act(norm(x @ kernel + bias)))`, to which `residual` adds x where the widths are equal.
    Without layers it is the identity.
    """

    def __init__(
        self,
        layer_dims: Sequence[tuple[int, int]],
        activation: str,
        dropout: float,
        dtype: str = "float32",
        *,
        norm: Literal["none", "batch", "layer"] = "none",
        residual: bool = False,
    ) -> None:
        """Build the layers.

        Args:
            layer_dims: (in, out) of every layer; the last one is the linear layer to the common width.
            activation: a key of `ACTIVATIONS`.
            dropout: rate after each hidden layer, in training.
            dtype: of kernels and biases.
            norm: of hidden layers.
            residual: add a hidden layer's input to its output where their widths are equal.
        """
        super().__init__()
        self._linears = nn.ModuleList(
            nn.Linear(width_in, width_out, dtype=getattr(torch, dtype)) for width_in, width_out in layer_dims
        )
        self._norms = nn.ModuleList(_norm(norm, width_out, dtype) for _, width_out in layer_dims[:-1])
        self._activation = ACTIVATIONS[activation]
        self._dropout = SeededDropout(dropout)
        self._residual = residual

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers in order."""
        return [cast(nn.Linear, linear) for linear in self._linears]

    @property
    def norms(self) -> list[LayerNorm | BatchNorm]:
        """The hidden layers' norms in order; none where not configured."""
        return [norm for norm in self._norms if isinstance(norm, LayerNorm | BatchNorm)]

    def forward(self, x_BF: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Apply the layers.

        Args:
            x_BF: input [B, F].
            generator: source of dropout.

        Returns:
            Output [B, D].
        """
        for linear, norm in zip(self._linears[:-1], self._norms, strict=True):
            out_BF = self._dropout(self._activation(norm(linear(x_BF))), generator)
            x_BF = out_BF + x_BF if self._residual and out_BF.shape == x_BF.shape else out_BF
        for last in self._linears[-1:]:
            x_BF = last(x_BF)
        return x_BF


def _norm(kind: Literal["none", "batch", "layer"], width: int, dtype: str) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return BatchNorm(width, dtype) if kind == "batch" else LayerNorm(width, dtype)
