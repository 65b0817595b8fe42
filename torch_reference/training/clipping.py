"""The norm of a whole gradient, and clipping by it.

A sparse gradient must be coalesced: its norm counts a row that was looked up twice once, with the sum of both.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Gradients = Mapping[str, Tensor]
"""Gradient of each parameter by canonical name: dense, or sparse and coalesced."""


def global_norm(gradients: Gradients) -> float:
    """L2 norm over all parameters together; 0 where there are none, not finite where one of them is not."""
    norms = [torch.linalg.vector_norm(_values(gradient)) for gradient in gradients.values()]
    return float(torch.linalg.vector_norm(torch.stack(norms), dtype=torch.float64)) if norms else 0.0


def clip_by_global_norm(gradients: Gradients, clip_norm: float | None) -> tuple[Gradients, float]:
    """Scale all gradients by `clip_norm / max(norm, clip_norm)`.

    Args:
        gradients: by canonical name; not written.
        clip_norm: largest norm allowed; none means no clipping.

    Returns:
        The gradients, scaled, and their norm before clipping. Where the norm is not finite they come back as they were.
    """
    norm = global_norm(gradients)
    if clip_norm is None or not math.isfinite(norm) or norm <= clip_norm:
        return gradients, norm
    return {name: gradient * (clip_norm / norm) for name, gradient in gradients.items()}, norm


def _values(gradient: Tensor) -> Tensor:
    return gradient.values() if gradient.is_sparse else gradient
