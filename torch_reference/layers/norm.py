"""Norms of hidden layers. Letters: B rows encoded together, W width."""

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

NormPart = Literal["scale", "offset", "mean", "variance"]
LAYER_EPSILON = 1e-6
BATCH_EPSILON = 1e-3
KEPT = 0.99
"""Share of themselves that batch norm's moving statistics keep at every step."""


@final
class LayerNorm(nn.Module):
    """`scale * (x - mean) / sqrt(variance + 1e-6) + offset`, by the numbers of each row; population variance.

    Source: Ba, Kiros and Hinton, 2016, equation 3.
    """

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Begin at scale 1 and offset 0.

        Args:
            width: W.
            dtype: of the computation.
        """
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width, dtype=getattr(torch, dtype)))
        self.offset = nn.Parameter(torch.zeros(width, dtype=getattr(torch, dtype)))

    @property
    def parts(self) -> dict[NormPart, Tensor]:
        """Canonical part -> tensor."""
        return {"scale": self.scale, "offset": self.offset}

    def forward(self, x_BW: Tensor) -> Tensor:
        """Normalise each row [..., W]."""
        return functional.layer_norm(x_BW, self.scale.shape, self.scale, self.offset, LAYER_EPSILON)


@final
class BatchNorm(nn.Module):
    """`scale * (x - mean) / sqrt(variance + 1e-3) + offset`, by the rows that are encoded together.

    In training mean and population variance are the batch's, with a gradient through them; else the moving ones, which
    move by `0.99 moving + 0.01 batch` when `commit` is called, and never by themselves: a step that is thrown away
    leaves no trace.

    Source: Ioffe and Szegedy, ICML 2015, algorithm 1; the moving variance is the population's, as TensorFlow's is.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Begin at scale 1, offset 0, mean 0 and variance 1.

        Args:
            width: W.
            dtype: of the computation.
        """
        super().__init__()
        kind = getattr(torch, dtype)
        self.scale = nn.Parameter(torch.ones(width, dtype=kind))
        self.offset = nn.Parameter(torch.zeros(width, dtype=kind))
        self.register_buffer("mean", torch.zeros(width, dtype=kind))
        self.register_buffer("variance", torch.ones(width, dtype=kind))
        self._batch: tuple[Tensor, Tensor] | None = None

    @property
    def parts(self) -> dict[NormPart, Tensor]:
        """Canonical part -> tensor; mean and variance are not trained."""
        return {"scale": self.scale, "offset": self.offset, "mean": self.mean, "variance": self.variance}

    def forward(self, x_BW: Tensor) -> Tensor:
        """Normalise rows [B, W]."""
        mean_W, variance_W = self.mean, self.variance
        if self.training:
            mean_W = x_BW.mean(dim=0)
            variance_W = ((x_BW - mean_W) ** 2).mean(dim=0)
            self._batch = mean_W.detach(), variance_W.detach()
        return self.scale * ((x_BW - mean_W) / torch.sqrt(variance_W + BATCH_EPSILON)) + self.offset

    @torch.no_grad()
    def commit(self) -> None:
        """Move the moving statistics towards those of the last batch, once."""
        if self._batch is not None:
            for moving_W, batch_W in zip((self.mean, self.variance), self._batch, strict=True):
                moving_W.mul_(KEPT).add_(batch_W, alpha=1 - KEPT)
            self._batch = None
