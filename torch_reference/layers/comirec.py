"""Self-attentive interests (ComiRec-SA). Letters: B histories, L items, W width, A attention width, I interests."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_reference.layers.pooling import softmax_over_real, steps_back


@final
class ComiRecPooling(nn.Module):
    """`U_i = sum_l a_li h_l` with a the softmax over the real items of `tanh((h + position) W1) W2`.

    Source: Cen et al., KDD 2020, equations 7 and 8; positions count back from the newest item.
    """

    def __init__(
        self, width: int, max_length: int, num_interests: int, attention_dim: int, dtype: str = "float32"
    ) -> None:
        """Build the weights.

        Args:
            width: W.
            max_length: longest history.
            num_interests: I.
            attention_dim: A.
            dtype: of the computation.
        """
        super().__init__()
        kind = getattr(torch, dtype)
        self.position = nn.Parameter(torch.zeros(max_length, width, dtype=kind))
        self.kernel_1 = nn.Parameter(torch.zeros(width, attention_dim, dtype=kind))
        self.kernel_2 = nn.Parameter(torch.zeros(attention_dim, num_interests, dtype=kind))

    @property
    def parts(self) -> dict[str, tuple[Tensor, bool]]:
        """Canonical part -> tensor, and whether it is transposed."""
        return {name: (getattr(self, name), False) for name in ("position", "kernel_1", "kernel_2")}

    def forward(self, items_BLW: Tensor, real_BL: Tensor) -> Tensor:
        """Pool.

        Args:
            items_BLW: items [B, L, W], zeros at padded places.
            real_BL: True where there is an item [B, L].

        Returns:
            Interests [B, I, W]; zeros for an empty history.
        """
        placed_BLW = items_BLW + functional.embedding(steps_back(real_BL), self.position)
        scores_BLI = torch.tanh(placed_BLW @ self.kernel_1) @ self.kernel_2
        return softmax_over_real(scores_BLI, real_BL).mT @ items_BLW
