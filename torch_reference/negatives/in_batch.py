"""Inner products as logits: of every query with every column, or with candidates of its own.

Letters: B queries in the batch, N candidates scored, X candidates of each query's own, D vector width.
"""

import torch
from torch import Tensor


def in_batch_logits(
    query_BD: Tensor,
    candidate_BD: Tensor,
    *,
    temperature: float | Tensor,
    bias_N: Tensor | None = None,
    log_q_N: Tensor | None = None,
) -> Tensor:
    """Score every query with every column: `<q_i, v_j> / tau + b_j - log_q_j`.

    The temperature divides neither the bias nor log_q.

    Args:
        query_BD: query vectors [B, D].
        candidate_BD: candidate vectors [N, D], those of the batch's positives first.
        temperature: tau, positive; a tensor of one number where it is learned.
        bias_N: candidate bias [N].
        log_q_N: natural log of each column's sampling probability [N].

    Returns:
        Logits [B, N].

    Source:
        Numerics, order on the logits, 1 to 3.
    """
    scaled_BD = query_BD / temperature
    if bias_N is None and log_q_N is None:
        return scaled_BD @ candidate_BD.mT
    # What is added to a whole column is put together first: one pass over [B, N] instead of three.
    column_N = bias_N if log_q_N is None else -log_q_N if bias_N is None else bias_N - log_q_N
    assert column_N is not None
    return column_N.addmm(scaled_BD, candidate_BD.mT)


def row_wise_logits(
    query_BD: Tensor,
    candidate_BXD: Tensor,
    *,
    temperature: float | Tensor,
    bias_BX: Tensor | None = None,
    log_q_BX: Tensor | None = None,
) -> Tensor:
    """Score every query with candidates of its own: `<q_i, v_ix> / tau + b_ix - log_q_ix`.

    Args:
        query_BD: query vectors [B, D].
        candidate_BXD: candidate vectors [B, X, D].
        temperature: tau, positive; a tensor of one number where it is learned.
        bias_BX: candidate bias [B, X].
        log_q_BX: natural log of each candidate's sampling probability [B, X].

    Returns:
        Logits [B, X].

    Source:
        Numerics, order on the logits, 1 to 3.
    """
    logits_BX = torch.einsum("bd,bxd->bx", query_BD / temperature, candidate_BXD)
    if bias_BX is not None:
        logits_BX = logits_BX + bias_BX
    return logits_BX if log_q_BX is None else logits_BX - log_q_BX
