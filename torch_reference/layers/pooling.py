"""One vector from a padded list of them.

Letters: B lists, M places of each, W width; lists may have more leading dimensions than B, as the lists of a history's
items do.
"""

import math

import torch
from torch import Tensor

from retrieval_contract.config.features import ListPooling


def pool_list(values_BMW: Tensor, allowed_BM: Tensor, pooling: ListPooling, weights_BM: Tensor | None = None) -> Tensor:
    """Pool the allowed places of every list.

    With h the values, w the weights (1 where there are none) and sums over allowed places: `mean` is
    `sum w h / sum w`, `sum` is `sum w h`, `sqrt_n` is `sum w h / sqrt(sum w^2)`; `max` takes the largest of each number
    and does not look at weights.

    Args:
        values_BMW: vectors [..., M, W]; what stands at other than allowed places has no influence, NaN included.
        allowed_BM: True where a place counts [..., M].
        pooling: how.
        weights_BM: finite and not negative [..., M].

    Returns:
        Vectors [..., W]; zeros for a list without an allowed place, or whose weights are all 0.
    """
    allowed_BM1 = allowed_BM.unsqueeze(-1)
    if pooling == "max":
        found_BW = values_BMW.masked_fill(~allowed_BM1, -math.inf).amax(dim=-2)
        # An empty list has -inf; selected before any arithmetic could meet it.
        return torch.where(allowed_BM.any(dim=-1, keepdim=True), found_BW, 0)
    values_BMW = torch.where(allowed_BM1, values_BMW, 0)
    if weights_BM is None:
        count_B1 = allowed_BM.sum(dim=-1, keepdim=True).clamp(min=1)
        total_BW = values_BMW.sum(dim=-2)
        if pooling == "sum":
            return total_BW
        return total_BW / (count_B1 if pooling == "mean" else count_B1.to(total_BW.dtype).sqrt())
    weights_BM = torch.where(allowed_BM, weights_BM, 0).to(values_BMW.dtype)
    if pooling == "sqrt_n":
        # Only the weights' ratios count; scaled, their squares neither vanish nor overflow.
        weights_BM = weights_BM / _or_one(weights_BM.amax(dim=-1, keepdim=True))
    total_BW = (weights_BM.unsqueeze(-1) * values_BMW).sum(dim=-2)
    if pooling == "sum":
        return total_BW
    if pooling == "mean":
        return total_BW / _or_one(weights_BM.sum(dim=-1, keepdim=True))
    return total_BW / _or_one((weights_BM * weights_BM).sum(dim=-1, keepdim=True)).sqrt()


def softmax_over_real(scores_BLI: Tensor, real_BL: Tensor) -> Tensor:
    """Softmax over the real places of every list.

    Args:
        scores_BLI: scores [B, L, I].
        real_BL: True where there is an item [B, L].

    Returns:
        Shares [B, L, I]: 0 at padded places; of an empty list all 0, with gradients 0.
    """
    real_BL1 = real_BL.unsqueeze(-1)
    # A row of -inf alone would be NaN; an empty list goes through with zeros instead.
    empty_B11 = ~real_BL1.any(dim=1, keepdim=True)
    shares_BLI = torch.where(real_BL1, scores_BLI, torch.where(empty_B11, 0.0, -math.inf)).softmax(dim=1)
    return torch.where(real_BL1, shares_BLI, 0)


def steps_back(real_BL: Tensor) -> Tensor:
    """How many steps every place is before the newest item [B, L]; 0 at padded places, which stand behind."""
    place_L = torch.arange(real_BL.shape[1], device=real_BL.device)
    return (real_BL.sum(dim=1, keepdim=True) - 1 - place_L).clamp(min=0)


def at_last_item(places_BLW: Tensor, real_BL: Tensor) -> Tensor:
    """The vector at the last real place of every list [B, W]; zeros for an empty list."""
    last_B = (real_BL.sum(dim=1) - 1).clamp(min=0)
    found_BW = places_BLW[torch.arange(last_B.shape[0], device=last_B.device), last_B]
    return torch.where(real_BL.any(dim=1, keepdim=True), found_BW, 0)


def _or_one(x: Tensor) -> Tensor:
    """x, and 1 where it is 0, to divide by."""
    return torch.where(x > 0, x, 1)
