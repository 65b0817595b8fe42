"""What may not count as a negative: steps 4 and 5 of the order on the logits.

A mask selects -inf before the softmax. A mask that is multiplied, or that adds a large negative number, leaves a trace.
"""

import tensorflow as tf


def mask_accidental_hits(logits_BN: tf.Tensor, candidate_rows_B: tf.Tensor) -> tf.Tensor:
    """Give -inf to the other columns that hold the same candidate as the row's own positive.

    Args:
        logits_BN: logits [B, B], the positive of row i in column i.
        candidate_rows_B: entity rows of the columns [B]; entity, not vocabulary rows: all unseen candidates share one
            of the latter and are yet different candidates.

    Returns:
        Logits [B, B]; the positive's own column always stays.
    """
    same_BN = candidate_rows_B[:, None] == candidate_rows_B[None, :]
    return _select_out(logits_BN, tf.linalg.set_diag(same_BN, tf.zeros_like(candidate_rows_B, tf.bool)))


def mask_disallowed(logits_BN: tf.Tensor, allowed_BN: tf.Tensor) -> tf.Tensor:
    """Give -inf to every place that is not allowed.

    Args:
        logits_BN: logits [B, N].
        allowed_BN: True where a candidate counts for a query [B, N].

    Returns:
        Logits [B, N]; a row whose positive is not allowed has an infinite loss, which the loss leaves visible.
    """
    return _select_out(logits_BN, tf.logical_not(allowed_BN))


def _select_out(logits_BN: tf.Tensor, out_BN: tf.Tensor) -> tf.Tensor:
    return tf.where(out_BN, tf.constant(float("-inf"), logits_BN.dtype), logits_BN)
