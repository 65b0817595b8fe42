"""A list of vectors -> one vector, padding left out; and where the items of a history stand, counted from the newest.

Letters: B lists, M values of a list, L items of a history, I scores of an item, W width of
a vector, V rows of a table.
"""

import tensorflow as tf

from retrieval_contract.config.features import ListPooling


def pool_list(
    values_BMW: tf.Tensor, allowed_BM: tf.Tensor, pooling: ListPooling, weights_BM: tf.Tensor | None = None
) -> tf.Tensor:
    """One vector from the allowed values of each list.

    `mean`: sum w x / sum w; `sum`: sum w x; `sqrt_n`: sum w x / sqrt(sum w^2); `max`: the largest of each number,
    whatever the weights. Without weights each w is 1. Other places are selected away first, so they get no gradient
    and what stands there does not matter.

    Args:
        values_BMW: vectors [..., M, W].
        allowed_BM: True where a place counts [..., M].
        pooling: which of the four.
        weights_BM: weights [..., M], finite and not negative; none means 1.

    Returns:
        Vectors [..., W]; zeros for a list where no place is allowed, whose weights sum to 0, or where M is 0.
    """
    zero = tf.zeros([], values_BMW.dtype)
    if pooling == "max":
        lowest = tf.constant(float("-inf"), values_BMW.dtype)
        highest_BW = tf.reduce_max(tf.where(allowed_BM[..., None], values_BMW, lowest), axis=-2)
        return tf.where(tf.reduce_any(allowed_BM, axis=-1, keepdims=True), highest_BW, zero)
    x_BMW = tf.where(allowed_BM[..., None], values_BMW, zero)
    if weights_BM is None:
        number_B1 = tf.math.count_nonzero(allowed_BM, axis=-1, keepdims=True, dtype=x_BMW.dtype)
        total_B1 = squares_B1 = number_B1
    else:
        w_BM = tf.where(allowed_BM, tf.cast(weights_BM, x_BMW.dtype), zero)
        x_BMW = x_BMW * w_BM[..., None]
        total_B1 = tf.reduce_sum(w_BM, axis=-1, keepdims=True)
        squares_B1 = tf.reduce_sum(tf.square(w_BM), axis=-1, keepdims=True)
    sum_BW = tf.reduce_sum(x_BMW, axis=-2)
    if pooling == "sum":
        return sum_BW
    divisor_B1 = total_B1 if pooling == "mean" else tf.sqrt(squares_B1)
    return sum_BW / tf.where(divisor_B1 == 0, tf.ones_like(divisor_B1), divisor_B1)


def steps_back(real_BL: tf.Tensor) -> tf.Tensor:
    """How many steps each place lies before the newest item [B, L] int32; 0 at padded places.

    Args:
        real_BL: True where an item is; the first places of each row.
    """
    newest_B1 = tf.math.count_nonzero(real_BL, axis=1, keepdims=True, dtype=tf.int32) - 1
    return tf.maximum(newest_B1 - tf.range(tf.shape(real_BL)[1]), 0)


def softmax_over_real(scores_BLI: tf.Tensor, real_BL: tf.Tensor) -> tf.Tensor:
    """Softmax over the real items of each history, for each of several scores.

    Args:
        scores_BLI: scores [B, L, I].
        real_BL: True where an item is.

    Returns:
        Shares [B, L, I]: exactly 0, and without gradient, at padded places; all 0 for an empty history.
    """
    out = tf.constant(float("-inf"), scores_BLI.dtype)
    scores_BLI = tf.where(real_BL[:, :, None], scores_BLI, out)
    highest_B1I = tf.stop_gradient(tf.reduce_max(scores_BLI, axis=1, keepdims=True))
    # -inf less -inf is NaN: an empty history has no highest score.
    highest_B1I = tf.where(highest_B1I == out, tf.zeros_like(highest_B1I), highest_B1I)
    exp_BLI = tf.exp(scores_BLI - highest_B1I)
    sum_B1I = tf.reduce_sum(exp_BLI, axis=1, keepdims=True)
    return exp_BLI / tf.where(sum_B1I == 0, tf.ones_like(sum_B1I), sum_B1I)


def at_last_item(places_BLW: tf.Tensor, real_BL: tf.Tensor) -> tf.Tensor:
    """The vector at the newest item of each history.

    Args:
        places_BLW: vectors of the places [B, L, W].
        real_BL: True where an item is; the first places of each row.

    Returns:
        Vectors [B, W]; zeros for an empty history, or where L is 0.
    """
    last_BL = real_BL & (steps_back(real_BL) == 0)
    return tf.reduce_sum(tf.where(last_BL[:, :, None], places_BLW, tf.zeros([], places_BLW.dtype)), axis=1)


def rows_of(table_VW: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    """Rows of a small table whose gradient is dense, because every step moves all of it: positions.

    Args:
        table_VW: the table [V, W].
        rows: which [...], int32.

    Returns:
        Rows [..., W].
    """
    # A gather from the variable itself would give IndexedSlices, and the optimiser would move the rows touched alone.
    return tf.gather(tf.reshape(table_VW, table_VW.shape), rows)
