"""Dropout whose draws belong to a given generator, so that a resumed step draws what the interrupted one would have."""

from typing import final

import torch
from torch import Tensor, nn


@final
class SeededDropout(nn.Module):
    """Zero each number with probability `rate` and divide the others by `1 - rate`; in training mode only."""

    def __init__(self, rate: float) -> None:
        """Keep the rate.

        Args:
            rate: share of numbers dropped, 0 <= rate < 1.
        """
        super().__init__()
        assert 0 <= rate < 1, rate
        self.rate = rate

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Drop.

        Args:
            x: any shape.
            generator: source of the draws, on x's device; none means torch's global one.

        Returns:
            The shape of x; x itself in evaluation or where the rate is 0, and then nothing is drawn.
        """
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = torch.empty_like(x).bernoulli_(keep, generator=generator)
        return x * kept.div_(keep)
