"""Losses that compare a row's positive with each of its negatives.

A negative of row i is a column other than its positive's whose logit is not -inf; n_i is their number.

Letters: B queries in the batch, N candidates scored.
"""

import tensorflow as tf

from tfrs_models.losses.softmax import positives_and_negatives, weighted_mean


def bpr(
    logits_BN: tf.Tensor,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor | None = None,
    total_weight: tf.Tensor | None = None,
) -> tf.Tensor:
    """Bayesian personalised ranking: `l_i = (1 / n_i) sum_neg softplus(s_ij - s_ip)`.

    Args:
        logits_BN: logits s [B, N]; -inf leaves a candidate out.
        weights_B: sample weights [B]; a row of weight 0 counts as deleted, whatever its logits.
        positive_columns_B: column p of each row's positive [B]; none means column i of row i.
        total_weight: what the weighted sum is divided by, scalar; none means the sum of `weights_B`.

    Returns:
        Loss, scalar; a row without negatives gives 0.

    Source: Rendle et al., UAI 2009, which draws one negative; here the mean over all there are.
    """
    positive_B, negative_BN = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    loss_BN = tf.math.softplus(_selected(negative_BN, logits_BN - positive_B[:, None]))
    return weighted_mean(_mean(loss_BN, negative_BN), weights_B, total_weight)


def triplet(
    logits_BN: tf.Tensor,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor | None = None,
    total_weight: tf.Tensor | None = None,
    *,
    margin: float,
) -> tf.Tensor:
    """Hinge on each triple: `l_i = (1 / n_i) sum_neg max(0, margin + s_ij - s_ip)`.

    Args:
        logits_BN: logits s [B, N]; -inf leaves a candidate out.
        weights_B: sample weights [B]; a row of weight 0 counts as deleted, whatever its logits.
        positive_columns_B: column p of each row's positive [B]; none means column i of row i.
        total_weight: what the weighted sum is divided by, scalar; none means the sum of `weights_B`.
        margin: how far the positive must be above, in units of the logits.

    Returns:
        Loss, scalar; a row without negatives gives 0. On the hinge itself the gradient is 0.
    """
    positive_B, negative_BN = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    # relu, not maximum: the latter has a gradient on the hinge.
    loss_BN = tf.nn.relu(margin + _selected(negative_BN, logits_BN - positive_B[:, None]))
    return weighted_mean(_mean(loss_BN, negative_BN), weights_B, total_weight)


def contrastive(
    logits_BN: tf.Tensor,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor | None = None,
    total_weight: tf.Tensor | None = None,
    *,
    margin: float,
) -> tf.Tensor:
    """Pull pairs together and push others apart, with the distance `d = 1 - s`.

    `l_i = (d_ip^2 + (1 / n_i) sum_neg max(0, margin - d_ij)^2) / 2`.

    Args:
        logits_BN: cosines s [B, N]; -inf leaves a candidate out.
        weights_B: relevance of each pair [B]; a row of weight 0 counts as deleted, whatever its logits.
        positive_columns_B: column p of each row's positive [B]; none means column i of row i.
        total_weight: what the weighted sum is divided by, scalar; none means the sum of `weights_B`.
        margin: distance from which on a negative is left alone, 0 to 2.

    Returns:
        Loss, scalar; a row without negatives gives the first term alone.

    Source: Hadsell, Chopra and LeCun, CVPR 2006, with the cosine distance, and the mean over the row's negatives.
    """
    positive_B, negative_BN = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    apart_BN = tf.square(tf.nn.relu(margin - 1 + _selected(negative_BN, logits_BN)))
    loss_B = (tf.square(1 - positive_B) + _mean(apart_BN, negative_BN)) / 2
    return weighted_mean(loss_B, weights_B, total_weight)


def _selected(negative_BN: tf.Tensor, values_BN: tf.Tensor) -> tf.Tensor:
    """Values of the negatives, 0 elsewhere: selected before the loss, so that no gradient there becomes NaN."""
    return tf.where(negative_BN, values_BN, tf.zeros_like(values_BN))


def _mean(loss_BN: tf.Tensor, negative_BN: tf.Tensor) -> tf.Tensor:
    """Mean over each row's negatives [B]; 0 where it has none."""
    num_negatives_B = tf.math.count_nonzero(negative_BN, axis=1, dtype=loss_BN.dtype)
    return tf.reduce_sum(_selected(negative_BN, loss_BN), axis=1) / tf.maximum(num_negatives_B, 1)
