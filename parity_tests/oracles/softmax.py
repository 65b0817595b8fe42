"""In-batch logits, in the order in which their terms do not commute, and softmax cross-entropy, in float64.

    s_ij = <q_i, v_j> / tau + b_j - log_q_j;   other columns with the candidate of row i's positive: -inf
    l_i = logsumexp_j s_ij - s_ii;             loss = sum_i w_i l_i / sum_i w_i, 0 where no row weighs anything

Source: numerics, order on the logits; logQ: Bengio and Senecal 2008; Yi et al., RecSys 2019, eq. 4.
Letters: B queries in the batch, N candidates scored (in a batch N = B, and column i is row i's positive).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def in_batch_logits(
    query_BD: Array, candidate_ND: Array, *, temperature: float, bias_N: Array | None, log_q_N: Array
) -> Array:
    """Steps 1 to 3: inner product over temperature, plus bias, minus log_q."""
    logits_BN = query_BD @ candidate_ND.T / temperature
    if bias_N is not None:
        logits_BN = logits_BN + bias_N[None, :]
    return logits_BN - log_q_N[None, :]


def without_accidental_hits(logits_BN: Array, candidate_rows_N: NDArray[Any]) -> Array:
    """Step 4: -inf on every column but the own one that holds the same candidate as the row's positive."""
    same_BN = candidate_rows_N[:, None] == candidate_rows_N[None, :]
    np.fill_diagonal(same_BN, val=False)
    return np.where(same_BN, -np.inf, logits_BN)


def positive_columns(num_rows: int) -> NDArray[np.int64]:
    """Column of each row's positive."""
    return np.arange(num_rows)


def softmax_cross_entropy(logits_BN: Array, weights_B: Array) -> tuple[float, Array]:
    """Weighted mean of the rows' cross-entropies, and its gradient.

    Args:
        logits_BN: -inf where a column is not allowed.
        weights_B: finite, not negative; all zero gives loss 0 and gradient 0.

    Returns:
        Loss in nats per query, and its gradient with respect to the logits [B, N].
    """
    rows, columns = np.arange(len(logits_BN)), positive_columns(len(logits_BN))
    shifted_BN = logits_BN - logits_BN.max(axis=1, keepdims=True)
    log_p_BN = shifted_BN - np.log(np.exp(shifted_BN).sum(axis=1, keepdims=True))
    total = weights_B.sum()
    if total == 0:
        return 0.0, np.zeros_like(logits_BN)
    targets_BN = np.zeros_like(logits_BN)
    targets_BN[rows, columns] = 1
    loss = -(weights_B * log_p_BN[rows, columns]).sum() / total
    return float(loss), (np.exp(log_p_BN) - targets_BN) * weights_B[:, None] / total
