"""Dropout whose draws belong to a given generator, so that a resumed step draws what the interrupted one would have."""

from typing import final

import torch
from torch import Tensor, nn

_DRAWS = 1 << 16
"""Values of the 16 random bits that decide over one number."""


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


@final
class BulkDropout(nn.Module):
    """The same for large arrays, many times as fast: one 64-bit draw decides over four numbers.

    The rate is rounded to a multiple of 1/65,536, and what is kept is divided by the share that this leaves, so that
    the mean stays.
    """

    def __init__(self, rate: float) -> None:
        """Keep the rate.

        Args:
            rate: share of numbers dropped, 0 <= rate < 1.
        """
        super().__init__()
        assert 0 <= rate < 1, rate
        self._dropped = min(round(rate * _DRAWS), _DRAWS - 1)

    @property
    def is_active(self) -> bool:
        """True in training with a rate above 0."""
        return self.training and self._dropped > 0

    @property
    def scale(self) -> float:
        """What kept numbers are multiplied by."""
        return _DRAWS / (_DRAWS - self._dropped)

    def kept(self, shape: torch.Size, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """Draw: int16, 1 where a number is kept and 0 where not.

        No booleans: on a CPU torch has no vector code that compares to them or selects by them.
        """
        words = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64, device=device)
        bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[: shape.numel()]
        return bits.ge_(self._dropped - _DRAWS // 2).view(shape)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Drop.

        Args:
            x: any shape.
            generator: source of the draws, on x's device; none means torch's global one.

        Returns:
            The shape of x; x itself in evaluation or where the rate is 0, and then nothing is drawn.
        """
        if not self.is_active:
            return x
        return x * self.kept(x.shape, x.device, generator).to(x.dtype).mul_(self.scale)
