"""L2 normalisation. Letters: B queries in the batch, D vector width."""

import torch
from torch import Tensor

SMALLEST_SQUARE = 1e-24
"""Squared length under which a vector is divided by 1e-12 instead of by its own length."""


def l2_normalize(x_BD: Tensor) -> Tensor:
    """Scale every vector to length 1: `x / sqrt(max(sum x^2, 1e-24))`.

    A vector of zeros stays zeros; its gradient is the incoming one times 1e12.

    Args:
        x_BD: vectors [B, D], float32 or float64.

    Returns:
        Vectors of length 1 [B, D].
    """
    square_B1 = (x_BD * x_BD).sum(dim=-1, keepdim=True)
    return x_BD / torch.sqrt(torch.clamp(square_B1, min=SMALLEST_SQUARE))
