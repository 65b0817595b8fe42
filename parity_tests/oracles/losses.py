"""Row losses and their slopes, one row at a time, over columns that are really deleted, in float64.

A row is its positive's logit and the logits of the n negatives that are left: what is masked, and a row that weighs
nothing, is taken out before anything is computed. loss = sum_i w_i l_i / sum_i w_i.

Source: softmax: Bengio and Senecal 2008; refined: Khrylchenko et al., RecSys 2025, arXiv 2507.09331; BPR: Rendle et al.
2009, eq. 6; triplet: Schroff et al. 2015, eq. 2; contrastive: Hadsell et al. 2006, eq. 4, with d = 1 - cosine; sigmoid:
Zhai et al. 2023, algorithm 1, a row's pairs summed; gBCE: Petrov and Macdonald, RecSys 2023, eq. 8 to 11.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp, softmax

from parity_tests.oracles.differentiation import Array
from retrieval_contract.config import Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a row's loss is computed from."""

    positive: float
    """Logit of the positive."""
    negatives: Array
    """Logits of the remaining negatives [n]."""
    log_q_positive: float
    """log_q of the positive's column."""
    log_q: Array
    """log_q of the negatives [n]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A row's loss in nats and its slopes."""

    loss: float
    by_positive: float
    """dl / ds_p."""
    by_negatives: Array
    """dl / ds_j [n]."""


RowLoss = Callable[[Row], Value]


def weighted_mean(
    row_loss: RowLoss, logits_BN: Array, log_q_BN: Array, weights_B: Array, positives_B: NDArray[Any]
) -> tuple[float, Array]:
    """Loss of a batch and its gradient with respect to the logits.

    Args:
        row_loss: of one row.
        logits_BN: -inf where a column does not count.
        log_q_BN: of every column.
        weights_B: finite, not negative; all zero gives loss 0 and gradient 0.
        positives_B: column of each row's positive.

    Returns:
        Loss, and gradient [B, N], 0 where a column or a row does not count.
    """
    loss, flow_BN, total = 0.0, np.zeros(logits_BN.shape), weights_B.sum()
    for row in np.flatnonzero(weights_B):
        positive = positives_B[row]
        left = np.flatnonzero(logits_BN[row] != -np.inf)
        left = left[left != positive]
        value = row_loss(
            Row(
                positive=logits_BN[row, positive],
                negatives=logits_BN[row, left],
                log_q_positive=log_q_BN[row, positive],
                log_q=log_q_BN[row, left],
            )
        )
        share = weights_B[row] / total
        loss += share * value.loss
        flow_BN[row, positive] = share * value.by_positive
        flow_BN[row, left] = share * value.by_negatives
    return loss, flow_BN


def row_loss(settings: Loss, *, num_candidates: int) -> RowLoss:
    """The configured loss of one row; the sigmoid's bias is in its logits already."""
    by_kind: dict[str, RowLoss] = {
        "softmax": refined_softmax if settings.log_q == "refined" else cross_entropy,
        "full_softmax": cross_entropy,
        "bpr": bpr,
        "triplet": lambda row: triplet(row, margin=settings.margin),
        "contrastive": lambda row: contrastive(row, margin=settings.margin),
        "sigmoid": sigmoid,
        "gbce": lambda row: gbce(row, num_candidates=num_candidates, t=settings.gbce_t),
    }
    return by_kind[settings.kind]


def cross_entropy(row: Row) -> Value:
    """`logsumexp_j s_j - s_p` over the positive and the negatives."""
    every = np.append(row.negatives, row.positive)
    p = softmax(every)
    return Value(loss=logsumexp(every) - row.positive, by_positive=p[-1] - 1, by_negatives=p[:-1])


def refined_softmax(row: Row) -> Value:
    """`-w (s_p - x)`, x = logsumexp of the corrected negatives; the weight w is a constant to the gradient.

    Where the positive is all that is drawn, x is -inf, and `w x` has the limit 0.
    """
    if not len(row.negatives) or row.log_q_positive == 0:
        return Value(loss=0.0, by_positive=0.0, by_negatives=np.zeros(len(row.negatives)))
    corrected = row.negatives - (row.log_q - np.log(-np.expm1(row.log_q_positive)))
    x = float(logsumexp(corrected))
    w = refined_weight(row.positive, x, len(corrected))
    return Value(loss=-w * (row.positive - x), by_positive=-w, by_negatives=w * softmax(corrected))


def refined_weight(positive: float, x: float, n: int) -> float:
    """`1 - e^{s_p} / (e^{s_p} + e^x / n)`: how far the row is from learned."""
    return float(expit(x - np.log(n) - positive))


def bpr(row: Row) -> Value:
    """Mean over the negatives of `softplus(s_j - s_p)`."""
    return _mean(softplus(row.negatives - row.positive), expit(row.negatives - row.positive))


def triplet(row: Row, *, margin: float) -> Value:
    """Mean over the negatives of `max(0, margin + s_j - s_p)`; slope 0 where that is 0."""
    over = margin + row.negatives - row.positive
    return _mean(np.maximum(over, 0), (over > 0).astype(np.float64))


def contrastive(row: Row, *, margin: float) -> Value:
    """`(d_p^2 + mean over the negatives of max(0, margin - d_j)^2) / 2`, d = 1 - s."""
    distance, inside = 1 - row.positive, np.maximum(margin - (1 - row.negatives), 0)
    n = max(len(inside), 1)
    return Value(
        loss=(distance**2 + (inside**2).sum() / n) / 2,
        by_positive=-distance,
        by_negatives=inside / n,
    )


def sigmoid(row: Row) -> Value:
    """`softplus(-s_p) + sum over the negatives of softplus(s_j)`, the learned bias in s."""
    return Value(
        loss=softplus(-row.positive) + softplus(row.negatives).sum(),
        by_positive=-expit(-row.positive),
        by_negatives=expit(row.negatives),
    )


def gbce(row: Row, *, num_candidates: int, t: float) -> Value:
    """`(beta softplus(-s_p) + sum over the negatives of softplus(s_j)) / (n + 1)`."""
    n = len(row.negatives)
    beta = gbce_beta(n, num_candidates=num_candidates, t=t)
    return Value(
        loss=(beta * softplus(-row.positive) + softplus(row.negatives).sum()) / (n + 1),
        by_positive=-beta * expit(-row.positive) / (n + 1),
        by_negatives=expit(row.negatives) / (n + 1),
    )


def gbce_beta(n: int, *, num_candidates: int, t: float) -> float:
    """`alpha (t (1 - 1/alpha) + 1/alpha)` at sampling rate alpha = n / (V - 1), at most 1; alpha 0 gives 1 - t."""
    alpha = min(1.0, n / (num_candidates - 1))
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha) if alpha else 1 - t


def softplus(x: Any) -> Any:
    """`log(1 + e^x)`, without overflow."""
    return np.logaddexp(0, x)


def _mean(losses_n: Array, slopes_n: Array) -> Value:
    """Mean over pairs, each of which rises with s_j - s_p."""
    if not len(losses_n):
        return Value(loss=0.0, by_positive=0.0, by_negatives=losses_n)
    slopes_n = slopes_n / len(losses_n)
    return Value(loss=float(losses_n.mean()), by_positive=-slopes_n.sum(), by_negatives=slopes_n)
