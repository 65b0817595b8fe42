"""What may not count as a negative: steps 4 and 5 of the order on the logits.

A mask selects -inf before the softmax. A mask that is multiplied, or that adds a large negative number, leaves a trace.

Letters: B queries in the batch, N candidates scored, M pairs of a query and a candidate, C columns or places that are
searched, H places found.
"""

import tensorflow as tf


def mask_accidental_hits(
    logits_BN: tf.Tensor, candidate_rows_N: tf.Tensor, positive_columns_B: tf.Tensor | None = None
) -> tf.Tensor:
    """Give -inf to the other columns that hold the same candidate as the row's own positive.

    Args:
        logits_BN: logits [B, N].
        candidate_rows_N: entity rows of the columns [N], or [B, N] where each row has columns of its own; entity, not
            vocabulary rows: all unseen candidates share one of the latter and are yet different candidates.
        positive_columns_B: column of each row's positive [B]; none means column i of row i.

    Returns:
        Logits [B, N]; the positive's own column always stays.
    """
    places_B2 = _places(logits_BN, positive_columns_B)
    if candidate_rows_N.shape.rank == 1:
        positive_rows_B = tf.gather(candidate_rows_N, places_B2[:, 1])
    else:
        positive_rows_B = tf.gather_nd(candidate_rows_N, places_B2)
    same_BN = positive_rows_B[:, None] == candidate_rows_N
    return _select_out(
        logits_BN, tf.tensor_scatter_nd_update(same_BN, places_B2, tf.zeros_like(positive_rows_B, tf.bool))
    )


def mask_known_positives(
    logits_BN: tf.Tensor,
    candidate_rows_N: tf.Tensor,
    positive_columns_B: tf.Tensor | None,
    places_M: tf.Tensor,
    rows_M: tf.Tensor,
) -> tf.Tensor:
    """Give -inf to every column that holds a candidate which the row's query is known to like.

    It costs what is found and a sort of the columns, not the product of rows, columns and known positives.

    Args:
        logits_BN: logits [B, N].
        candidate_rows_N: entity rows of the columns [N], or [B, N] where each row has columns of its own.
        positive_columns_B: column of each row's positive [B]; none means column i of row i.
        places_M: row of the logits, 0 to B - 1, of each known pair [M].
        rows_M: entity row of the candidate of each pair [M]; those that are in no column change nothing.

    Returns:
        Logits [B, N]; the positive's own column always stays.
    """
    rows_H, columns_H = matches(candidate_rows_N, places_M, rows_M)
    known_BN = tf.scatter_nd(
        tf.stack([rows_H, columns_H], axis=1), tf.ones_like(columns_H, tf.bool), tf.shape(logits_BN)
    )
    places_B2 = _places(logits_BN, positive_columns_B)
    return _select_out(
        logits_BN, tf.tensor_scatter_nd_update(known_BN, places_B2, tf.zeros_like(places_B2[:, 0], tf.bool))
    )


def mask_disallowed(logits_BN: tf.Tensor, allowed_BN: tf.Tensor) -> tf.Tensor:
    """Give -inf to every place that is not allowed.

    Args:
        logits_BN: logits [B, N].
        allowed_BN: True where a candidate counts for a query [B, N].

    Returns:
        Logits [B, N]; a row whose positive is not allowed has an infinite loss, which the loss leaves visible.
    """
    return _select_out(logits_BN, tf.logical_not(allowed_BN))


def matches(candidate_rows_N: tf.Tensor, places_M: tf.Tensor, rows_M: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Find every column that holds the candidate of a pair.

    Args:
        candidate_rows_N: entity rows of the columns [N], or [B, N] where each row has columns of its own.
        places_M: row of the logits of each pair [M].
        rows_M: entity row of the candidate of each pair [M].

    Returns:
        Row and column of each place of the logits that was found [H], int32, pair by pair.
    """
    if candidate_rows_N.shape.rank == 1:
        pairs_H, columns_H = _found(candidate_rows_N, rows_M)
        return tf.gather(places_M, pairs_H), columns_H
    # One key for each place of the logits, so that a pair meets the columns of its own row only.
    stride = tf.cast(1 + tf.reduce_max(tf.concat([tf.reshape(candidate_rows_N, [-1]), rows_M], axis=0)), tf.int64)
    first_B1 = tf.range(tf.shape(candidate_rows_N, tf.int64)[0])[:, None] * stride
    keys_C = tf.reshape(first_B1 + tf.cast(candidate_rows_N, tf.int64), [-1])
    pairs_H, flat_H = _found(keys_C, tf.cast(places_M, tf.int64) * stride + tf.cast(rows_M, tf.int64))
    return tf.gather(places_M, pairs_H), flat_H % tf.shape(candidate_rows_N)[1]


def _found(keys_C: tf.Tensor, wanted_M: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Every meeting of a wanted key with a place that holds it: number of the wanted one [H], and place [H], int32."""
    order_C = tf.argsort(keys_C)
    sorted_C = tf.gather(keys_C, order_C)
    first_M, end_M = (tf.searchsorted(sorted_C, wanted_M, side=side) for side in ("left", "right"))
    counts_M = end_M - first_M
    wanted_H = tf.repeat(tf.range(tf.shape(wanted_M)[0]), counts_M)
    before_M = tf.cumsum(counts_M, exclusive=True)
    place_H = tf.range(tf.shape(wanted_H)[0]) - tf.gather(before_M - first_M, wanted_H)
    return wanted_H, tf.gather(order_C, place_H)


def _places(logits_BN: tf.Tensor, positive_columns_B: tf.Tensor | None) -> tf.Tensor:
    """Row and column of each row's positive [B, 2]."""
    rows_B = tf.range(tf.shape(logits_BN)[0])
    columns_B = rows_B if positive_columns_B is None else tf.cast(positive_columns_B, tf.int32)
    return tf.stack([rows_B, columns_B], axis=1)


def _select_out(logits_BN: tf.Tensor, out_BN: tf.Tensor) -> tf.Tensor:
    return tf.where(out_BN, tf.constant(float("-inf"), logits_BN.dtype), logits_BN)
