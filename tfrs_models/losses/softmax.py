"""Losses that compare a positive with the log-sum of a row's columns.

Letters: B queries in the batch, N candidates scored, D vector width, b rows of a block, H pairs that are left out.
"""

from collections.abc import Callable

import tensorflow as tf

_BLOCK_NUMBERS = 2**22
"""Logits that are held at a time where there is no array of all of them."""


def softmax_cross_entropy(
    logits_BN: tf.Tensor,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor | None = None,
    total_weight: tf.Tensor | None = None,
) -> tf.Tensor:
    """Weighted mean of each query's cross-entropy.

    `l_i = log sum_j exp(logits_ij) - logits_ip`, and the loss is `sum_i w_i l_i / sum_i w_i`: a mean, where TFRS and
    Keras default to a sum over the batch.

    Args:
        logits_BN: logits [B, N]; -inf leaves a candidate out.
        weights_B: sample weights [B], not negative; a row of weight 0 counts as deleted, whatever its logits.
        positive_columns_B: column p of each row's positive [B]; none means column i of row i.
        total_weight: what the weighted sum is divided by, scalar; none means the sum of `weights_B`. Rows that are a
            part of a batch give the whole batch's.

    Returns:
        Loss, scalar, nats per query; 0 where all weights are 0; infinite where a row with weight has lost its positive.
    """
    return weighted_mean(_cross_entropy(logits_BN, _places(logits_BN, positive_columns_B)), weights_B, total_weight)


def catalogue_cross_entropy(
    scaled_BD: tf.Tensor,
    vectors_ND: tf.Tensor,
    bias_N: tf.Tensor | None,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor,
    total_weight: tf.Tensor | None = None,
    gone: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> tf.Tensor:
    """`softmax_cross_entropy` from the vectors: logits `<q_i, v_j> + b_j`, of which no array [B, N] exists.

    A block of rows at a time, and its gradient on the way, while its logits are at hand.

    Args:
        scaled_BD: query vectors over the temperature q [B, D].
        vectors_ND: candidate vectors v [N, D].
        bias_N: candidate bias b [N]; none means none.
        weights_B: sample weights [B]; a row of weight 0 counts as deleted.
        positive_columns_B: column of each row's positive [B].
        total_weight: as in `softmax_cross_entropy`.
        gone: row, ascending, and column of what is left out, both [H]; no positive among them; none leaves out nothing.

    Returns:
        Loss, scalar, nats per query; it can be differentiated once.
    """
    weights_B = tf.cast(weights_B, scaled_BD.dtype)
    total = tf.reduce_sum(weights_B) if total_weight is None else tf.cast(total_weight, scaled_BD.dtype)
    share_B = tf.stop_gradient(weights_B / tf.where(total == 0, tf.ones_like(total), total))
    # Selected, not multiplied: 0 times a vector that is not finite is not 0.
    scaled_BD = tf.where(share_B[:, None] == 0, tf.zeros_like(scaled_BD), scaled_BD)

    @tf.custom_gradient
    def find(
        scaled_BD: tf.Tensor, vectors_ND: tf.Tensor, bias_N: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        loss, *found = _in_blocks(scaled_BD, vectors_ND, bias_N, share_B, positive_columns_B, gone)
        return loss, lambda upstream: [upstream * x for x in found]

    return find(scaled_BD, vectors_ND, tf.zeros_like(vectors_ND[:, 0]) if bias_N is None else bias_N)


def _in_blocks(
    scaled_BD: tf.Tensor,
    vectors_ND: tf.Tensor,
    bias_N: tf.Tensor,
    share_B: tf.Tensor,
    positive_columns_B: tf.Tensor,
    gone: tuple[tf.Tensor, tf.Tensor] | None,
) -> tuple[tf.Tensor, ...]:
    """`sum_i w_i l_i`, scalar, where w_i is `share_B`; and its gradients on queries, vectors and bias."""
    num_rows = tf.shape(scaled_BD)[0]
    block_size = tf.maximum(_BLOCK_NUMBERS // tf.shape(vectors_ND)[0], 1)
    num_blocks = -(-num_rows // block_size)

    def block(
        number: tf.Tensor, loss: tf.Tensor, on_rows: tf.TensorArray, on_vectors_ND: tf.Tensor, on_bias_N: tf.Tensor
    ) -> tuple[object, ...]:
        rows = slice(number * block_size, (number + 1) * block_size)
        scaled_bD, share_b = scaled_BD[rows], share_B[rows]
        logits_bN = tf.matmul(scaled_bD, vectors_ND, transpose_b=True) + bias_N
        if gone is not None:
            logits_bN = _without(logits_bN, gone, rows.start)
        places_b2 = _places(logits_bN, positive_columns_B[rows])
        exp_bN, sum_b, highest_b = _scaled_exp(logits_bN)
        loss_b = tf.math.log(sum_b) + highest_b - tf.gather_nd(logits_bN, places_b2)
        on_logits_bN = tf.tensor_scatter_nd_sub(exp_bN * (share_b / sum_b)[:, None], places_b2, share_b)
        return (
            number + 1,
            loss + tf.reduce_sum(share_b * loss_b),
            on_rows.write(number, tf.matmul(on_logits_bN, vectors_ND)),
            on_vectors_ND + tf.matmul(on_logits_bN, scaled_bD, transpose_a=True),
            on_bias_N + tf.reduce_sum(on_logits_bN, axis=0),
        )

    shape = [None, vectors_ND.shape[1]]
    on_rows = tf.TensorArray(scaled_BD.dtype, size=num_blocks, element_shape=shape, infer_shape=False)
    start = (0, tf.zeros([], scaled_BD.dtype), on_rows, tf.zeros_like(vectors_ND), tf.zeros_like(bias_N))
    _, loss, on_rows, on_vectors_ND, on_bias_N = tf.while_loop(
        lambda number, *_: number < num_blocks, block, start, parallel_iterations=1
    )
    return loss, on_rows.concat(), on_vectors_ND, on_bias_N


def _without(logits_bN: tf.Tensor, gone: tuple[tf.Tensor, tf.Tensor], first: tf.Tensor) -> tf.Tensor:
    """The logits of a block that begins with row `first`, -inf where a column is gone."""
    rows_H, columns_H = gone
    begin, end = tf.unstack(tf.searchsorted(rows_H, tf.stack([first, first + tf.shape(logits_bN)[0]])))
    places_H2 = tf.stack([rows_H[begin:end] - first, columns_H[begin:end]], axis=1)
    out_H = tf.fill([end - begin], tf.constant(float("-inf"), logits_bN.dtype))
    return tf.tensor_scatter_nd_update(logits_bN, places_H2, out_H)


def refined_softmax(
    logits_BN: tf.Tensor,
    weights_B: tf.Tensor,
    positive_columns_B: tf.Tensor | None = None,
    total_weight: tf.Tensor | None = None,
    *,
    log_q_N: tf.Tensor,
) -> tf.Tensor:
    """Softmax whose sampling-bias correction knows that the positive was not sampled.

    With the row's n negatives, `log q'_ij = log_q_j - log(1 - exp(log_q_p))` and
    `x_i = log sum_neg exp(s_ij - log q'_ij)`: `l_i = -w_i (s_ip - x_i)`, where `w_i = sigmoid(x_i - log n - s_ip)` is
    taken without gradient. A row that is learned already counts for little.

    Args:
        logits_BN: logits s [B, N], not corrected; -inf leaves a candidate out.
        weights_B: sample weights [B]; a row of weight 0 counts as deleted, whatever its logits.
        positive_columns_B: column p of each row's positive [B]; none means column i of row i.
        total_weight: as in `softmax_cross_entropy`.
        log_q_N: natural log of each column's sampling probability [N], or [B, N] where rows have columns of their own.

    Returns:
        Loss, scalar; a row without negatives gives 0, and so does one whose positive has probability 1.

    Source: Khrylchenko et al., RecSys 2025 (arXiv 2507.09331); there n is the batch's size less one.
    """
    places_B2 = _places(logits_BN, positive_columns_B)
    positive_B, negative_BN = positives_and_negatives(logits_BN, weights_B, positive_columns_B)
    log_q_N = tf.cast(log_q_N, logits_BN.dtype)
    log_q_B = tf.gather(log_q_N, places_B2[:, 1]) if log_q_N.shape.rank == 1 else tf.gather_nd(log_q_N, places_B2)
    # Not log(1 - exp(x)): the log_q of a rare candidate would be lost in the 1.
    log_others_B = tf.math.log(-tf.math.expm1(log_q_B))
    out = tf.constant(float("-inf"), logits_BN.dtype)
    counts_B = tf.reduce_any(negative_BN, axis=1) & (log_others_B != out)
    x_B = _log_sum_exp(tf.where(negative_BN, logits_BN - log_q_N, out)) + log_others_B
    x_B = tf.where(counts_B, x_B, tf.zeros_like(x_B))
    num_negatives_B = tf.math.count_nonzero(negative_BN, axis=1, dtype=x_B.dtype)
    w_B = tf.stop_gradient(tf.sigmoid(x_B - tf.math.log(tf.maximum(num_negatives_B, 1)) - positive_B))
    loss_B = tf.where(counts_B, w_B * (x_B - positive_B), tf.zeros_like(x_B))
    return weighted_mean(loss_B, weights_B, total_weight)


def weighted_mean(loss_B: tf.Tensor, weights_B: tf.Tensor, total_weight: tf.Tensor | None = None) -> tf.Tensor:
    """`sum_i w_i l_i / sum_i w_i`.

    Args:
        loss_B: loss of each row [B]; of a row of weight 0 it may be anything.
        weights_B: sample weights [B].
        total_weight: what is divided by, scalar; none means the sum of `weights_B`; 0 gives 0.
    """
    weights_B = tf.cast(weights_B, loss_B.dtype)
    # Selected, not multiplied: a row without weight may have lost its positive, and 0 * inf is NaN.
    sum_ = tf.reduce_sum(weights_B * tf.where(weights_B == 0, tf.zeros_like(loss_B), loss_B))
    total = tf.reduce_sum(weights_B) if total_weight is None else tf.cast(total_weight, loss_B.dtype)
    return sum_ / tf.where(total == 0, tf.ones_like(total), total)


def positives_and_negatives(
    logits_BN: tf.Tensor, weights_B: tf.Tensor, positive_columns_B: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Logit of each row's positive [B], and True where a column is a negative of a row [B, N].

    A row of weight 0 has a positive of 0 and no negatives, so that nothing in it can reach a gradient.
    """
    places_B2 = _places(logits_BN, positive_columns_B)
    counts_B = weights_B != 0
    positive_B = tf.gather_nd(logits_BN, places_B2)
    # Not `>`: a NaN must stay visible.
    there_BN = (logits_BN != float("-inf")) & counts_B[:, None]
    negative_BN = tf.tensor_scatter_nd_update(there_BN, places_B2, tf.zeros_like(counts_B))
    return tf.where(counts_B, positive_B, tf.zeros_like(positive_B)), negative_BN


def _places(logits_BN: tf.Tensor, positive_columns_B: tf.Tensor | None) -> tf.Tensor:
    """Row and column of each row's positive [B, 2]."""
    rows_B = tf.range(tf.shape(logits_BN)[0])
    columns_B = rows_B if positive_columns_B is None else tf.cast(positive_columns_B, tf.int32)
    return tf.stack([rows_B, columns_B], axis=1)


@tf.custom_gradient
def _cross_entropy(
    logits_BN: tf.Tensor, places_B2: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None]]]:
    """Row losses [B]; the gradient is one product of what is there already, where autodiff makes five passes."""
    exp_BN, sum_B, highest_B = _scaled_exp(logits_BN)
    loss_B = tf.math.log(sum_B) + highest_B - tf.gather_nd(logits_BN, places_B2)

    def gradient(upstream_B: tf.Tensor) -> tuple[tf.Tensor, None]:
        # A row without weight may hold inf or NaN: times 0 is 0 here.
        scale_B = tf.math.multiply_no_nan(1 / sum_B, upstream_B)
        gradient_BN = tf.math.multiply_no_nan(exp_BN, scale_B[:, None])
        return tf.tensor_scatter_nd_sub(gradient_BN, places_B2, upstream_B), None

    return loss_B, gradient


def _log_sum_exp(logits_BN: tf.Tensor) -> tf.Tensor:
    """Row-wise log sum exp [B]; of a row that is -inf throughout 0, so that no gradient becomes NaN."""
    _, sum_B, highest_B = _scaled_exp(logits_BN)
    return tf.math.log(sum_B) + highest_B


def _scaled_exp(logits_BN: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`exp(logits - highest)` [B, N], its sum [B], and the highest [B]; 0, 1 and 0 of a row that is -inf throughout."""
    highest_B = tf.stop_gradient(tf.reduce_max(logits_BN, axis=1))
    highest_B = tf.where(highest_B == float("-inf"), tf.zeros_like(highest_B), highest_B)
    exp_BN = tf.exp(logits_BN - highest_B[:, None])
    sum_B = tf.reduce_sum(exp_BN, axis=1)
    return exp_BN, tf.where(sum_B == 0, tf.ones_like(sum_B), sum_B), highest_B
