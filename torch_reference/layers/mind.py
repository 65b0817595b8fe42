"""Capsules by dynamic routing (MIND). Letters: B histories, L items, W width of an item, I interests."""

from typing import final

import torch
from torch import Tensor, nn

from torch_reference.layers.pooling import steps_back


@final
class MindPooling(nn.Module):
    """`u_l = h_l S`; capsules `k_i = squash(sum_l w_li u_l)`, w a softmax over the capsules of logits b.

    After every iteration but the last, `b_li += <k_i, u_l>`. Only the sum of the last iteration has a gradient: there w
    is a constant. Logits start from N(0, 1), drawn from the generator in training; else from the weight `routing`, by
    the item's place counted back from the newest.

    Source: Li et al., CIKM 2019 (MIND), section 3.3: behaviour to interest with a shared S.
    """

    routing: Tensor

    def __init__(
        self, width: int, max_length: int, num_interests: int, num_iterations: int, dtype: str = "float32"
    ) -> None:
        """Build the weights.

        Args:
            width: W.
            max_length: longest history.
            num_interests: I.
            num_iterations: of the routing, 1 or more.
            dtype: of the computation.
        """
        super().__init__()
        kind = getattr(torch, dtype)
        self.kernel = nn.Parameter(torch.zeros(width, width, dtype=kind))
        self.register_buffer("routing", torch.zeros(max_length, num_interests, dtype=kind))
        self._num_iterations = num_iterations

    @property
    def parts(self) -> dict[str, tuple[Tensor, bool]]:
        """Canonical part -> tensor, and whether it is transposed."""
        return {"kernel": (self.kernel, False), "routing": (self.routing, False)}

    def forward(self, items_BLW: Tensor, real_BL: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pool.

        Args:
            items_BLW: items [B, L, W], zeros at padded places.
            real_BL: True where there is an item [B, L].
            generator: source of the logits' start in training; none takes the fixed one, in training too.

        Returns:
            Capsules [B, I, W]; zeros for an empty history.
        """
        mapped_BLW = items_BLW @ self.kernel
        with torch.no_grad():
            logits_BLI = self._start(real_BL, generator)
            for _ in range(self._num_iterations - 1):
                capsules_BIW = _squash(_shares(logits_BLI, real_BL).mT @ mapped_BLW)
                logits_BLI = logits_BLI + mapped_BLW @ capsules_BIW.mT
            shares_BLI = _shares(logits_BLI, real_BL)
        return _squash(shares_BLI.mT @ mapped_BLW)

    def _start(self, real_BL: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.training and generator is not None:
            shape = (*real_BL.shape, self.routing.shape[1])
            return torch.randn(shape, generator=generator, dtype=self.routing.dtype, device=self.routing.device)
        return self.routing[steps_back(real_BL)]


def _shares(logits_BLI: Tensor, real_BL: Tensor) -> Tensor:
    """How each item spreads over the capsules; padded places give nothing."""
    return torch.where(real_BL.unsqueeze(2), logits_BLI.softmax(dim=2), 0)


def _squash(z_BIW: Tensor) -> Tensor:
    """`|z|^2 / (1 + |z|^2) z / |z|`; 0 at z = 0, with gradient 0, which is the limit of both."""
    square_BI1 = (z_BIW * z_BIW).sum(dim=2, keepdim=True)
    is_zero_BI1 = square_BI1 == 0
    # The root of 0 has no slope: it sees a 1 there, and what comes out is not taken.
    length_BI1 = torch.where(is_zero_BI1, 1, square_BI1).sqrt()
    return torch.where(is_zero_BI1, 0, z_BIW * (length_BI1 / (1 + square_BI1)))
