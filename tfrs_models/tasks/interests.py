"""Which of a query's several vectors a positive is scored with, in training.

Letters: B queries, I interests, D vector width.
"""

import tensorflow as tf


def attend_label(interests_BID: tf.Tensor, positive_BD: tf.Tensor, power: float) -> tf.Tensor:
    """Label-aware attention: `sum_i a_i k_i`, `a = softmax_i(sign(s_i) |s_i|^power)`, `s_i = <k_i, v>`.

    The gradient passes through the shares, to interests and positives.

    Args:
        interests_BID: a query's vectors k [B, I, D].
        positive_BD: the vector v of its positive, without the candidate bias [B, D].
        power: above 0; the larger, the nearer to a choice.

    Returns:
        Vectors [B, D]. A score of exactly 0 gets no gradient: the power's own would be infinite below 1.

    Source: Li et al., CIKM 2019 (MIND), eq. 7; the sign is ours, since a power of a negative number is none.
    """
    score_BI = tf.linalg.matvec(interests_BID, positive_BD)
    nothing_BI = score_BI == 0
    powered_BI = tf.pow(tf.abs(tf.where(nothing_BI, tf.ones_like(score_BI), score_BI)), power)
    powered_BI = tf.where(nothing_BI, tf.zeros_like(score_BI), tf.sign(score_BI) * powered_BI)
    return tf.linalg.matvec(interests_BID, tf.nn.softmax(powered_BI), transpose_a=True)


def choose_interest(interests_BID: tf.Tensor, positive_BD: tf.Tensor) -> tf.Tensor:
    """The vector with the largest inner product with the positive's; of equal ones the first.

    The gradient passes to the chosen vector alone.

    Args:
        interests_BID: a query's vectors [B, I, D].
        positive_BD: the vector of its positive, without the candidate bias [B, D].

    Returns:
        Vectors [B, D].

    Source: Cen et al., KDD 2020 (ComiRec), eq. 9.
    """
    score_BI = tf.linalg.matvec(tf.stop_gradient(interests_BID), tf.stop_gradient(positive_BD))
    highest_BI = score_BI == tf.reduce_max(score_BI, axis=1, keepdims=True)
    # Not tf.argmax, which does not promise the first of equal ones. With NaN none is the highest: any will do.
    num_interests = interests_BID.shape[1]
    first_B = tf.reduce_min(tf.where(highest_BI, tf.range(num_interests), num_interests - 1), axis=1)
    chosen_BI1 = (tf.range(num_interests) == first_B[:, None])[:, :, None]
    return tf.reduce_sum(tf.where(chosen_BI1, interests_BID, tf.zeros_like(interests_BID)), axis=1)
