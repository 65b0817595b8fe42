"""Softmax cross-entropy, plain and refined, and what all losses take from logits and weights.

Letters: B queries in the batch, N candidates scored.
"""

import math
from typing import Any, cast

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


def catalogue_cross_entropy(
    scaled_BD: Tensor,
    vectors_ND: Tensor,
    bias_N: Tensor | None,
    weights_B: Tensor,
    positive_columns_B: Tensor,
    total_weight: Tensor | None = None,
    *,
    gone: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Softmax cross-entropy over inner products, without an array of logits [B, N].

    The same loss as `softmax_cross_entropy(scaled_BD @ vectors_ND.T + bias_N, ...)`. A few hundred rows of logits are
    made at a time and the gradient is taken from them at once, while they are in the cache.

    Args:
        scaled_BD: query vectors divided by the temperature [B, D].
        vectors_ND: candidate vectors [N, D].
        bias_N: candidate bias [N].
        weights_B: sample weights [B], finite and not negative; a row of weight 0 may hold anything.
        positive_columns_B: column p of each row's positive [B].
        total_weight: what is divided by where these rows are a part of a larger batch; none means the sum of weights.
        gone: row, ascending, and column of what leaves the sum, both [H]; no positive among them.

    Returns:
        Scalar, nats per query; 0, with gradients 0, where all weights are 0. It can be differentiated once.
    """
    total = weights_B.sum() if total_weight is None else total_weight
    shares_B = (weights_B / torch.where(total > 0, total, 1)).detach()
    loss = _CatalogueCrossEntropy.apply(scaled_BD, vectors_ND, bias_N, shares_B, positive_columns_B, gone)
    return cast(Tensor, loss)


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


_BLOCK = 1 << 21
"""Logits made at a time: eight megabytes, which stay in a processor's cache."""


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over blocks of rows."""

    @staticmethod
    def forward(
        ctx: Any,
        scaled_BD: Tensor,
        vectors_ND: Tensor,
        bias_N: Tensor | None,
        shares_B: Tensor,
        positive_columns_B: Tensor,
        gone: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        # A row of weight 0 may hold anything: selected here, so that its softmax is finite.
        scaled_BD = torch.where(shares_B.unsqueeze(1) > 0, scaled_BD, 0)
        to_scaled_BD, to_vectors_ND = torch.empty_like(scaled_BD), torch.zeros_like(vectors_ND)
        to_bias_N = None if bias_N is None else torch.zeros_like(bias_N)
        size = max(1, min(len(scaled_BD), _BLOCK // max(1, len(vectors_ND))))
        block_RN, shares_RN = (vectors_ND.new_empty(size, len(vectors_ND)) for _ in range(2))
        losses = []
        for start in range(0, len(scaled_BD), size):
            rows = slice(start, min(start + size, len(scaled_BD)))
            scaled_RD, positives_R = scaled_BD[rows], positive_columns_B[rows]
            num_rows = len(scaled_RD)
            logits_RN = torch.mm(scaled_RD, vectors_ND.mT, out=block_RN[:num_rows])
            if bias_N is not None:
                logits_RN += bias_N
            if gone is not None:
                first, last = torch.searchsorted(gone[0], gone[0].new_tensor([rows.start, rows.stop])).tolist()
                logits_RN[gone[0][first:last] - rows.start, gone[1][first:last]] = -math.inf
            chances_RN = torch.softmax(logits_RN, dim=1, out=shares_RN[:num_rows])
            places_R = torch.arange(num_rows, device=positives_R.device)
            # The largest share is exp(largest logit - logsumexp), and never underflows.
            sums_R = logits_RN.amax(dim=1) - chances_RN.amax(dim=1).log()
            losses.append(sums_R - logits_RN[places_R, positives_R])
            chances_RN[places_R, positives_R] -= 1
            shares_R1 = shares_B[rows].unsqueeze(1)
            torch.mm(chances_RN, vectors_ND, out=to_scaled_BD[rows]).mul_(shares_R1)
            to_vectors_ND.addmm_(chances_RN.mT, scaled_RD * shares_R1)
            if to_bias_N is not None:
                to_bias_N += (chances_RN.mT @ shares_R1).squeeze(1)
        ctx.save_for_backward(to_scaled_BD, to_vectors_ND, to_bias_N)
        return torch.dot(torch.cat(losses), shares_B)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        found = (None if tensor is None else tensor * gradients[0] for tensor in ctx.saved_tensors)
        return (*found, None, None, None)
