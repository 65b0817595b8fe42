"""Every other query's positive is a negative: steps 1 to 3 of the order on the logits.

Letters: B queries in the batch, N candidates scored (the first B are the queries' positives), D vector width.
"""

import tensorflow as tf


def in_batch_logits(
    query_BD: tf.Tensor,
    candidate_BD: tf.Tensor,
    *,
    temperature: float,
    bias_N: tf.Tensor | None = None,
    log_q_N: tf.Tensor | None = None,
) -> tf.Tensor:
    """Logits `<q_i, v_j> / temperature + bias_j - log_q_j`.

    The order matters: neither the bias nor log_q is divided by the temperature, and log_q is never clipped.

    Args:
        query_BD: query vectors [B, D].
        candidate_BD: candidate vectors [N, D]; row i is the positive of query i.
        temperature: positive.
        bias_N: candidate bias [N]; none means none.
        log_q_N: natural log of each candidate's sampling probability [N]; none means no correction.

    Returns:
        Logits [B, N].
    """
    logits_BN = tf.matmul(query_BD, candidate_BD, transpose_b=True) / temperature
    if bias_N is not None:
        logits_BN += bias_N
    if log_q_N is not None:
        logits_BN -= tf.cast(log_q_N, logits_BN.dtype)
    return logits_BN
