"""Softmax cross-entropy, plain and refined, and what all losses take from logits and weights.

Letters: B queries in the batch, N candidates scored.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def softmax_cross_entropy(
    logits_BN: Tensor,
    weights_B: Tensor,
    positive_columns_B: Tensor | None = None,
    total_weight: Tensor | None = None,
) -> Tensor:
    """Weighted mean over queries of the negative log-probability of each query's positive.

    `l_i = logsumexp_j s_ij - s_ip`, loss = `sum_i w_i l_i / sum_i w_i`. A mean, not the sum that TFRS takes.

    Args:
        logits_BN: logits [B, N]. -inf takes a column out of its row; a positive must not be -inf.
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B]; none means the diagonal.
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.

    Returns:
        Scalar, nats per query. 0, with gradients 0, where all weights are 0. One column or none beside -inf gives 0.

    Source:
        Numerics, order on the logits, 7.
    """
    if positive_columns_B is None:
        positive_columns_B = torch.arange(len(logits_BN), device=logits_BN.device)
    logits_BN = _without_silent_rows(logits_BN, weights_B)
    losses_B = functional.cross_entropy(logits_BN, positive_columns_B, reduction="none")
    return weighted_mean(losses_B, weights_B, total_weight)


def refined_softmax(
    logits_BN: Tensor,
    weights_B: Tensor,
    positive_columns_B: Tensor,
    total_weight: Tensor | None = None,
    *,
    log_q_N: Tensor,
) -> Tensor:
    """Softmax loss whose positive is neither corrected nor in the sum, each row weighted by how far it is from learned.

    With the n negatives d of row i: `log q'_id = log q_d - log(1 - q_p)`, `x = logsumexp_d(s_id - log q'_id)`,
    `w = sigmoid(x - log n - s_ip)` without gradient, `l_i = -w (s_ip - x)`; loss = `sum_i w_i l_i / sum_i w_i`.

    Args:
        logits_BN: logits [B, N], not corrected. -inf takes a column out of its row; the positive's other copies must
            be out.
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B].
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.
        log_q_N: natural log of each column's sampling probability [N], or [B, N] where rows have columns of their own.

    Returns:
        Scalar. 0, with gradients 0, where all weights are 0; a row without negatives has loss 0.

    Source:
        Khrylchenko et al., RecSys 2025, arXiv 2507.09331; numerics, sampling-bias correction.
    """
    positive_B1, negatives_BN, num_B = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    corrected_BN = negatives_BN - log_q_N
    alone_B = num_B == 0
    if bool(alone_B.any()):
        # A row without negatives goes through with zeros and is thrown away: -inf - -inf would be NaN.
        corrected_BN = corrected_BN.masked_fill(alone_B.unsqueeze(1), 0)
    x_B = corrected_BN.logsumexp(dim=1) + _log_of_others(log_q_N, positive_columns_B)
    gap_B = x_B - positive_B1.squeeze(1)
    share_B = torch.sigmoid(gap_B.detach() - num_B.clamp(min=1).to(gap_B.dtype).log())
    return weighted_mean((share_B * gap_B).masked_fill(alone_B, 0), weights_B, total_weight)


def positives_and_negatives(
    logits_BN: Tensor, weights_B: Tensor, positive_columns_B: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the positives out of the logits.

    Args:
        logits_BN: logits [B, N]; -inf is no negative.
        weights_B: sample weights [B]; a row of weight 0 becomes a row of zeros, so that nothing in it, infinite or NaN,
            can reach loss or gradient.
        positive_columns_B: column of each row's positive [B].

    Returns:
        Positives [B, 1], logits [B, N] with -inf in their places too, and the number n of negatives [B].
    """
    logits_BN = _without_silent_rows(logits_BN, weights_B)
    columns_B1 = positive_columns_B.unsqueeze(1)
    negatives_BN = logits_BN.scatter(1, columns_B1, -math.inf)
    num_B = (negatives_BN.detach() != -math.inf).sum(dim=1)
    return logits_BN.gather(1, columns_B1), negatives_BN, num_B


def weighted_mean(loss_B: Tensor, weights_B: Tensor, total_weight: Tensor | None = None) -> Tensor:
    """`sum_i w_i l_i / sum_i w_i`, or by a given total.

    Args:
        loss_B: losses of the rows [B].
        weights_B: sample weights [B], finite and not negative.
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.

    Returns:
        Scalar; 0, with gradients 0, where the total is 0.
    """
    total = weights_B.sum() if total_weight is None else total_weight
    return (weights_B * loss_B).sum() / torch.where(total > 0, total, 1)


def _without_silent_rows(logits_BN: Tensor, weights_B: Tensor) -> Tensor:
    """Put 0 in every row whose weight is 0."""
    silent_B = weights_B == 0
    return logits_BN.masked_fill(silent_B.unsqueeze(1), 0) if bool(silent_B.any()) else logits_BN


def _log_of_others(log_q_N: Tensor, positive_columns_B: Tensor) -> Tensor:
    """`log(1 - q_p)` [B], finite where q_p rounds to 1: then only rows without negatives are left."""
    if log_q_N.ndim == 1:
        log_q_B = log_q_N[positive_columns_B]
    else:
        log_q_B = log_q_N.gather(1, positive_columns_B.unsqueeze(1)).squeeze(1)
    return torch.expm1(log_q_B).neg().clamp(min=torch.finfo(log_q_B.dtype).tiny).log()
