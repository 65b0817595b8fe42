"""Several processes with a part of the batch each, that see one another's candidates. One process changes nothing.

Letters: b rows of a replica, B rows of all.
"""

from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.nn import functional


def num_replicas() -> int:
    """Processes that train together."""
    return distributed.get_world_size() if _several() else 1


def replica() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _several() else 0


def gathered(x: Tensor) -> Tensor:
    """Rows of all replicas, behind each other in the order of their numbers.

    The gradient of x is the sum over replicas of the gradients of its rows: what `distributed.all_gather` does not
    give, whose results are constants, not even where one's own rows are put back in their place.

    Args:
        x: rows [b, ...] of this replica; b is the same on all.

    Returns:
        Rows [B, ...]; x itself in one process.
    """
    return cast(Tensor, _Gather.apply(x)) if _several() else x


def summed(x: Tensor) -> Tensor:
    """Sum over replicas, without a gradient; x itself in one process.

    Args:
        x: the same shape on all replicas, dense; or a sparse gradient, whose rows may differ.

    Returns:
        The sum, the same to the byte on all replicas; sparse where x is, and coalesced.
    """
    if not _several():
        return x
    if x.is_sparse:
        return _sparse_sum(x)
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _all(x: Tensor) -> list[Tensor]:
    """The tensors of all replicas, of one shape."""
    # By way of the CPU: gloo gathers nothing that lies on a GPU.
    own = x.detach().cpu().contiguous()
    parts = [torch.empty_like(own) for _ in range(num_replicas())]
    distributed.all_gather(parts, own)
    return [part.to(x.device) for part in parts]


def _sparse_sum(x: Tensor) -> Tensor:
    """Sum of sparse gradients [V, W] that touch other rows on every replica."""
    x = x.coalesce()
    indices, values = x.indices(), x.values()
    lengths = [int(length) for length in _all(torch.tensor(len(values)))]
    # A gather needs one shape: what is short is filled up, and the filling is cut off again.
    filling = max(lengths) - len(values)
    all_indices = _all(functional.pad(indices, (0, filling)))
    all_values = _all(functional.pad(values, (0, 0, 0, filling)))
    return torch.sparse_coo_tensor(
        torch.cat([part[:, :length] for part, length in zip(all_indices, lengths, strict=True)], dim=1),
        torch.cat([part[:length] for part, length in zip(all_values, lengths, strict=True)]),
        x.shape,
    ).coalesce()


class _Gather(torch.autograd.Function):
    """Gather forward, sum of the gradients backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.num_rows = len(x)
        return torch.cat(_all(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        start = replica() * ctx.num_rows
        return summed(gradients[0])[start : start + ctx.num_rows]
