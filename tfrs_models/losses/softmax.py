"""Softmax cross-entropy with the positive on the diagonal.

Letters: B queries in the batch, N candidates scored.
"""

import tensorflow as tf


def softmax_cross_entropy(logits_BN: tf.Tensor, weights_B: tf.Tensor) -> tf.Tensor:
    """Weighted mean of each query's cross-entropy.

    `l_i = log sum_j exp(logits_ij) - logits_ii`, and the loss is `sum_i w_i l_i / sum_i w_i`: a mean, where TFRS and
    Keras default to a sum over the batch.

    Args:
        logits_BN: logits [B, N], N >= B, the positive of row i in column i; -inf leaves a candidate out.
        weights_B: sample weights [B], not negative; a row of weight 0 counts as deleted, whatever its logits.

    Returns:
        Loss, scalar, nats per query; 0 where all weights are 0; infinite where a row with weight has lost its positive.
    """
    weights_B = tf.cast(weights_B, logits_BN.dtype)
    loss_B = _log_sum_exp(logits_BN) - tf.linalg.diag_part(logits_BN)
    # Selected, not multiplied: a row without weight may have lost its positive, and 0 * inf is NaN.
    loss_B = tf.where(weights_B == 0, tf.zeros_like(loss_B), loss_B)
    total = tf.reduce_sum(weights_B)
    return tf.reduce_sum(weights_B * loss_B) / tf.where(total == 0, tf.ones_like(total), total)


def _log_sum_exp(logits_BN: tf.Tensor) -> tf.Tensor:
    """Row-wise log sum exp [B]; of a row that is -inf throughout 0, so that no gradient becomes NaN."""
    highest_B = tf.stop_gradient(tf.reduce_max(logits_BN, axis=1))
    highest_B = tf.where(highest_B == float("-inf"), tf.zeros_like(highest_B), highest_B)
    sum_B = tf.reduce_sum(tf.exp(logits_BN - highest_B[:, None]), axis=1)
    return tf.math.log(tf.where(sum_B == 0, tf.ones_like(sum_B), sum_B)) + highest_B
