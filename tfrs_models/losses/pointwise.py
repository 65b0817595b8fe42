"""Losses that judge each pair alone: is this candidate the query's, yes or no.

A negative of row i is a column other than its positive's whose logit is not -inf; n_i is their number.

Letters: B queries in the batch, N candidates scored, V candidates of the catalogue.
"""

import tensorflow as tf

from tfrs_models.losses.softmax import positives_and_negatives, weighted_mean


def sigmoid(
    logits_BN: tf.Tensor,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor | None = None,
    total_weight: tf.Tensor | None = None,
    *,
    bias: tf.Tensor,
) -> tf.Tensor:
    """Binary cross-entropy of every pair: `l_i = softplus(-(s_ip + bias)) + sum_neg softplus(s_ij + bias)`.

    Args:
        logits_BN: logits s [B, N]; -inf leaves a candidate out.
        weights_B: sample weights [B]; a row of weight 0 counts as deleted, whatever its logits.
        positive_columns_B: column p of each row's positive [B]; none means column i of row i.
        total_weight: what the weighted sum is divided by, scalar; none means the sum of `weights_B`.
        bias: learned, scalar; takes up that nearly all pairs are negatives.

    Returns:
        Loss, scalar; a row without negatives gives the first term alone.

    Source: Zhai et al., ICCV 2023 (SigLIP), eq. 1.
    """
    positive_B, negative_BN = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    # The bias's gradient passes in rows of weight 0 too, and is selected out by the mean.
    loss_B = tf.math.softplus(-(positive_B + bias)) + _sum_of_softplus(logits_BN + bias, negative_BN)
    return weighted_mean(loss_B, weights_B, total_weight)


def gbce(
    logits_BN: tf.Tensor,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor | None = None,
    total_weight: tf.Tensor | None = None,
    *,
    num_candidates: int,
    t: float,
) -> tf.Tensor:
    """Generalised binary cross-entropy: `l_i = (beta_i softplus(-s_ip) + sum_neg softplus(s_ij)) / (n_i + 1)`.

    `alpha_i = min(1, n_i / (V - 1))` is the share of the catalogue that stands against the positive, and
    `beta_i = 1 - t (1 - alpha_i)`, which is the paper's `alpha (t (1 - 1 / alpha) + 1 / alpha)`.

    Args:
        logits_BN: logits s [B, N]; -inf leaves a candidate out.
        weights_B: sample weights [B]; a row of weight 0 counts as deleted, whatever its logits.
        positive_columns_B: column p of each row's positive [B]; none means column i of row i.
        total_weight: what the weighted sum is divided by, scalar; none means the sum of `weights_B`.
        num_candidates: candidates V of the catalogue.
        t: calibration, 0 (plain binary cross-entropy) to 1.

    Returns:
        Loss, scalar; a row without negatives gives `(1 - t) softplus(-s_ip)`.

    Source: Petrov and Macdonald, RecSys 2023 (gSASRec), eq. 9 and 10.
    """
    positive_B, negative_BN = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    num_negatives_B = tf.math.count_nonzero(negative_BN, axis=1, dtype=logits_BN.dtype)
    alpha_B = tf.minimum(num_negatives_B / max(num_candidates - 1, 1), 1)
    beta_B = 1 - t * (1 - alpha_B)
    sum_B = beta_B * tf.math.softplus(-positive_B) + _sum_of_softplus(logits_BN, negative_BN)
    return weighted_mean(sum_B / (num_negatives_B + 1), weights_B, total_weight)


def _sum_of_softplus(logits_BN: tf.Tensor, negative_BN: tf.Tensor) -> tf.Tensor:
    """Sum over each row's negatives [B]; selected before and after, so that no gradient elsewhere becomes NaN."""
    zeros_BN = tf.zeros_like(logits_BN)
    softplus_BN = tf.math.softplus(tf.where(negative_BN, logits_BN, zeros_BN))
    return tf.reduce_sum(tf.where(negative_BN, softplus_BN, zeros_BN), axis=1)
