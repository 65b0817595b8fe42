"""Logits of queries against columns: steps 1 to 3 of the order on the logits.

Letters: B queries in the batch, N candidates scored, X columns of one row alone (impressions), D vector width.
"""

import tensorflow as tf


def in_batch_logits(
    query_BD: tf.Tensor,
    candidate_BD: tf.Tensor,
    *,
    temperature: float | tf.Tensor,
    bias_N: tf.Tensor | None = None,
    log_q_N: tf.Tensor | None = None,
) -> tf.Tensor:
    """Logits `<q_i, v_j> / temperature + bias_j - log_q_j`: every column stands against every query.

    The order matters: neither the bias nor log_q is divided by the temperature, and log_q is never clipped.

    Args:
        query_BD: query vectors [B, D].
        candidate_BD: candidate vectors [N, D]; the other queries' positives, and whatever else is a column.
        temperature: positive.
        bias_N: candidate bias [N]; none means none.
        log_q_N: natural log of each candidate's sampling probability [N]; none means no correction.

    Returns:
        Logits [B, N].
    """
    # Divided before the product: B D quotients instead of B N.
    logits_BN = tf.matmul(query_BD / temperature, candidate_BD, transpose_b=True)
    offset_N = _offset(bias_N, log_q_N, logits_BN.dtype)
    return logits_BN if offset_N is None else logits_BN + offset_N


def row_wise_logits(
    query_BD: tf.Tensor,
    candidate_BXD: tf.Tensor,
    *,
    temperature: float | tf.Tensor,
    bias_BX: tf.Tensor | None = None,
    log_q_BX: tf.Tensor | None = None,
) -> tf.Tensor:
    """Logits `<q_i, v_ix> / temperature + bias_ix - log_q_ix`: a column stands against its own query alone.

    Args:
        query_BD: query vectors [B, D].
        candidate_BXD: candidate vectors [B, X, D].
        temperature: positive.
        bias_BX: candidate bias [B, X]; none means none.
        log_q_BX: natural log of each candidate's sampling probability [B, X]; none means no correction.

    Returns:
        Logits [B, X].
    """
    logits_BX = tf.linalg.matvec(candidate_BXD, query_BD / temperature)
    offset_BX = _offset(bias_BX, log_q_BX, logits_BX.dtype)
    return logits_BX if offset_BX is None else logits_BX + offset_BX


def _offset(bias: tf.Tensor | None, log_q: tf.Tensor | None, dtype: tf.DType) -> tf.Tensor | None:
    """What a column adds to its logits: bias minus log_q; none where there is neither."""
    if log_q is None:
        return bias
    log_q = tf.cast(log_q, dtype)
    return -log_q if bias is None else bias - log_q
