"""In-batch hard negatives: step 6 of the order on the logits.

Letters: B queries in the batch, N candidates scored, K negatives kept.
"""

import tensorflow as tf


def keep_hardest(logits_BN: tf.Tensor, positive_columns_B: tf.Tensor, num_hardest: int) -> tf.Tensor:
    """Keep each row's largest negatives, and its positive; give -inf to the others.

    Args:
        logits_BN: logits [B, N], after the masks: what is -inf already counts as gone.
        positive_columns_B: column of each row's positive [B], which stays and is not counted.
        num_hardest: negatives K that stay; as many as remain, or more, change nothing.

    Returns:
        Logits [B, N]; of equal logits the smaller column stays.
    """
    rows_B = tf.range(tf.shape(logits_BN)[0])
    places_B2 = tf.stack([rows_B, tf.cast(positive_columns_B, tf.int32)], axis=1)
    out = tf.constant(float("-inf"), logits_BN.dtype)
    negatives_BN = tf.tensor_scatter_nd_update(logits_BN, places_B2, tf.fill(tf.shape(rows_B), out))
    num_kept = tf.minimum(num_hardest, tf.shape(logits_BN)[1])
    columns_BK = tf.math.top_k(tf.stop_gradient(negatives_BN), num_kept).indices
    places_K2 = tf.stack([tf.repeat(rows_B, num_kept), tf.reshape(columns_BK, [-1])], axis=1)
    kept_S2 = tf.concat([places_K2, places_B2], axis=0)
    # Not scatter_nd: where fewer than K remain the positive stands among them, and stands twice here.
    nowhere_BN = tf.zeros_like(logits_BN, tf.bool)
    kept_BN = tf.tensor_scatter_nd_update(nowhere_BN, kept_S2, tf.ones_like(kept_S2[:, 0], tf.bool))
    return tf.where(kept_BN, logits_BN, out)
