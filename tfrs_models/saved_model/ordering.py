"""From proposed candidates to the best K, in the graph: exact scores, each candidate once, ties by the smaller row.

Letters: B queries, I vectors of each, D width, N candidates, M proposed, X excluded, K results.
"""

import tensorflow as tf

Found = tuple[tf.Tensor, tf.Tensor]
"""Rows int32 [B, K], -1 where there is none, and scores float32 [B, K], -inf there; best first."""


def rescored(
    values_ND: tf.Tensor,
    queries_BID: tf.Tensor,
    rows_BM: tf.Tensor,
    k: tf.Tensor,
    excluded_BX: tf.Tensor | None = None,
) -> Found:
    """Score proposed candidates and keep the best K.

    A score is the inner product, the largest over a query's vectors, computed in float64 and rounded to float32, as
    `retrieval_contract.indexes` computes it.

    Args:
        values_ND: candidate vectors float32.
        queries_BID: query vectors float32.
        rows_BM: proposed rows int32 in any order; repeated ones count once, -1 where there is none.
        k: results a query, int32 scalar.
        excluded_BX: rows int32 to leave out in any order, -1 where there is none; None leaves none out.
    """
    rows_BM = distinct(rows_BM)
    if excluded_BX is not None:
        rows_BM = tf.where(contains(excluded_BX, rows_BM), -1, rows_BM)
    vectors_BMD = tf.cast(tf.gather(values_ND, tf.maximum(rows_BM, 0)), tf.float64)
    scores_BIM = tf.matmul(tf.cast(queries_BID, tf.float64), vectors_BMD, transpose_b=True)
    return best(rows_BM, tf.cast(tf.reduce_max(scores_BIM, axis=1), tf.float32), k)


def distinct(rows_BM: tf.Tensor) -> tf.Tensor:
    """Rows ascending, with -1 in the place of all copies but the first."""
    rows_BM = tf.sort(rows_BM, axis=1)
    copies_BM = tf.concat([tf.zeros_like(rows_BM[:, :1], tf.bool), rows_BM[:, 1:] == rows_BM[:, :-1]], axis=1)
    return tf.where(copies_BM, -1, rows_BM)


def contains(excluded_BX: tf.Tensor, rows_BM: tf.Tensor) -> tf.Tensor:
    """Say for each row [B, M] whether it stands among a query's excluded ones."""
    none_B1 = tf.fill([tf.shape(excluded_BX)[0], 1], -1)
    excluded_BX = tf.sort(tf.concat([excluded_BX, none_B1], axis=1), axis=1)
    places_BM = tf.minimum(tf.searchsorted(excluded_BX, rows_BM), tf.shape(excluded_BX)[1] - 1)
    return tf.gather(excluded_BX, places_BM, batch_dims=1) == rows_BM


def best(rows_BM: tf.Tensor, scores_BM: tf.Tensor, k: tf.Tensor) -> Found:
    """The best K of candidates whose rows ascend, -1 anywhere among them, so that ties go to the smaller row."""
    scores_BM = tf.where(rows_BM < 0, -float("inf"), scores_BM)
    missing = [[0, 0], [0, tf.maximum(k - tf.shape(rows_BM)[1], 0)]]
    rows_BM = tf.pad(rows_BM, missing, constant_values=-1)
    scores_BM = tf.pad(scores_BM, missing, constant_values=-float("inf"))
    # The op takes the smaller place first where scores are equal.
    scores_BK, places_BK = tf.math.top_k(scores_BM, k)
    return tf.gather(rows_BM, places_BK, batch_dims=1), scores_BK


def merged(rows_BM: tf.Tensor, scores_BM: tf.Tensor, k: tf.Tensor) -> Found:
    """The best K of results that several vectors of a query gave; a candidate's score is its largest.

    Args:
        rows_BM: rows int32 in any order, -1 where there is none.
        scores_BM: their scores.
        k: results a query, int32 scalar.
    """
    # By row, and among the copies of a row the largest score first: both sorts keep the order of what is equal.
    by_score_BM = tf.argsort(scores_BM, axis=1, direction="DESCENDING", stable=True)
    rows_BM = tf.gather(rows_BM, by_score_BM, batch_dims=1)
    by_row_BM = tf.argsort(rows_BM, axis=1, stable=True)
    scores_BM = tf.gather(tf.gather(scores_BM, by_score_BM, batch_dims=1), by_row_BM, batch_dims=1)
    return best(distinct(rows_BM), scores_BM, k)
