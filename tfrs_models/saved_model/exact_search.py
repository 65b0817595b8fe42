"""Search of all candidates in plain TensorFlow ops.

Letters: B queries, I vectors of each, D width, N candidates, U candidates that are looked at, X excluded, K results.
"""

from typing import Any, final

import tensorflow as tf

from tfrs_models.saved_model.blocks import in_blocks
from tfrs_models.saved_model.ordering import Found, rescored

SPARE = 16
"""Candidates beyond K that are scored again in float64, so that float32 rounding decides nothing among the best K
unless more than so many lie within it."""
FEW = 8
"""Where a filter leaves fewer than one in so many candidates, their vectors are gathered and the others not read."""


@final
class ExactSearch(tf.Module):
    """Every allowed candidate is scored for every query by one matrix product."""

    def __init__(self, values_ND: Any) -> None:
        """Keep the vectors, float32 [N, D], as a variable."""
        super().__init__()
        self.values_ND = tf.Variable(values_ND, trainable=False, dtype=tf.float32, name="candidate_vectors")
        self.size: int = self.values_ND.shape[0]
        # Called from several branches: as a function it stands in the graph once.
        self._search_once = tf.function(self._search, autograph=False, reduce_retracing=True)

    def __call__(
        self,
        queries_BID: tf.Tensor,
        k: tf.Tensor,
        excluded_BX: tf.Tensor | None = None,
        allowed_BN: tf.Tensor | None = None,
    ) -> Found:
        """Find the best K; fewer only where fewer are allowed.

        Args:
            queries_BID: query vectors float32, B of any size; a candidate's score is its largest over them.
            k: results a query, int32 scalar, 1 to N.
            excluded_BX: rows int32 to leave out, -1 where there is none; None leaves none out.
            allowed_BN: True where a candidate counts; None lets all count.
        """
        given = [tensor for tensor in (queries_BID, excluded_BX, allowed_BN) if tensor is not None]

        def search(parts: list[tf.Tensor]) -> Found:
            parts = list(parts)
            queries, excluded = parts.pop(0), parts.pop(0) if excluded_BX is not None else None
            return self._search_once(queries, k, excluded, parts.pop(0) if allowed_BN is not None else None)

        return in_blocks(search, given, bytes_each=4 * self.size * (queries_BID.shape[1] or 1))

    def _search(
        self, queries_BID: tf.Tensor, k: tf.Tensor, excluded_BX: tf.Tensor | None, allowed_BN: tf.Tensor | None
    ) -> Found:
        if allowed_BN is None:
            scores_BN = _scores(queries_BID, self.values_ND)
            if excluded_BX is not None:
                scores_BN = _set(scores_BN, excluded_BX, -float("inf"))
            return self._best(queries_BID, scores_BN, tf.range(self.size), k)
        if excluded_BX is not None:
            allowed_BN = _set(allowed_BN, excluded_BX, False)
        rows_U = tf.cast(tf.where(tf.reduce_any(allowed_BN, axis=0))[:, 0], tf.int32)

        def over_few() -> Found:
            scores_BU = _scores(queries_BID, tf.gather(self.values_ND, rows_U))
            allowed_BU = tf.gather(allowed_BN, rows_U, axis=1)
            return self._best(queries_BID, tf.where(allowed_BU, scores_BU, -float("inf")), rows_U, k)

        def over_all() -> Found:
            scores_BN = tf.where(allowed_BN, _scores(queries_BID, self.values_ND), -float("inf"))
            return self._best(queries_BID, scores_BN, tf.range(self.size), k)

        return tf.cond(FEW * tf.shape(rows_U)[0] < self.size, over_few, over_all)

    def _best(self, queries_BID: tf.Tensor, scores_BU: tf.Tensor, rows_U: tf.Tensor, k: tf.Tensor) -> Found:
        """The best K by rough scores of the candidates `rows_U`, -inf where one does not count."""
        top = tf.math.top_k(scores_BU, tf.minimum(k + SPARE, tf.shape(rows_U)[0]))
        rows_BM = tf.where(top.values > -float("inf"), tf.gather(rows_U, top.indices), -1)
        return rescored(self.values_ND, queries_BID, rows_BM, k)


def _scores(queries_BID: tf.Tensor, values_UD: tf.Tensor) -> tf.Tensor:
    """Float32 inner products [B, U], the largest over a query's vectors."""
    shape = tf.shape(queries_BID)
    flat = tf.matmul(tf.reshape(queries_BID, [-1, shape[2]]), values_UD, transpose_b=True)
    if queries_BID.shape[1] == 1:
        return flat
    return tf.reduce_max(tf.reshape(flat, [shape[0], shape[1], tf.shape(values_UD)[0]]), axis=1)


def _set(array_BN: tf.Tensor, rows_BX: tf.Tensor, value: float | bool) -> tf.Tensor:
    """The array with a value at the given rows of each query; -1 is none."""
    places_PX = tf.where(rows_BX >= 0)
    rows_P = tf.cast(tf.gather_nd(rows_BX, places_PX), tf.int64)
    at_P2 = tf.stack([places_PX[:, 0], rows_P], axis=1)
    return tf.tensor_scatter_nd_update(array_BN, at_P2, tf.fill(tf.shape(rows_P), value))
