"""Attention pooling of a history. Letters: B histories, L items, W width of an item."""

from typing import final

import torch
from torch import Tensor, nn

from torch_reference.layers.pooling import softmax_over_real


@final
class AttentionPooling(nn.Module):
    """`sum_l a_l h_l` with `a = softmax(tanh(h W + b) . v)` over the real items."""

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Build the weights.

        Args:
            width: W.
            dtype: of the computation.
        """
        super().__init__()
        kind = getattr(torch, dtype)
        self.kernel = nn.Parameter(torch.zeros(width, width, dtype=kind))
        self.bias = nn.Parameter(torch.zeros(width, dtype=kind))
        self.vector = nn.Parameter(torch.zeros(width, 1, dtype=kind))

    @property
    def parts(self) -> dict[str, tuple[Tensor, bool]]:
        """Canonical part -> tensor, and whether it is transposed."""
        return {name: (getattr(self, name), False) for name in ("kernel", "bias", "vector")}

    def forward(self, items_BLW: Tensor, real_BL: Tensor) -> Tensor:
        """Pool.

        Args:
            items_BLW: items [B, L, W], zeros at padded places.
            real_BL: True where there is an item [B, L].

        Returns:
            Vectors [B, W]; zeros for an empty history.
        """
        scores_BL1 = torch.tanh(items_BLW @ self.kernel + self.bias) @ self.vector
        return (softmax_over_real(scores_BL1, real_BL) * items_BLW).sum(dim=1)
