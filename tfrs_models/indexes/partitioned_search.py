"""Approximate search in plain TensorFlow operations, for a SavedModel that a stock TF Serving loads.

The partitions whose centroids have the largest inner product with the query are copied out block by block, scored by
one matrix product, and the best are rescored by their float32 vectors. Where that leaves fewer than k (after exclusions
or a mask), all candidates are looked at, in the graph too.

Letters: B queries, N candidates, D width, K results, P partitions, E blocks, R rows of a block, M excluded rows,
S places scanned, C candidates rescored.
"""

import math
from typing import Self, final

import numpy as np
import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array
from tfrs_models.indexes.partitions import Partitions, partition

ROWS_IN_BLOCK = 32
"""Long enough to copy fast, short enough that filling up costs little."""
SPARE = 4
"""Searched partitions hold at least this many times what is asked for."""


@final
class PartitionedSearch(tf.Module):
    """Search of candidates with the largest inner product; all it holds are variables, saved with the model."""

    def __init__(self, partitions: Partitions, values_ND: Float32Array, settings: config.Index) -> None:
        super().__init__()
        sizes_P = np.add.reduceat((partitions.rows >= 0).sum(axis=1), partitions.starts[:-1])
        self._num_partitions = len(sizes_P)
        self._searched = max(1, min(self._num_partitions, self._num_partitions // 40))
        blocks_ERD = values_ND[partitions.rows] * (partitions.rows >= 0)[:, :, None]
        self._values = _variable(values_ND, "values")
        self._centroids = _variable(partitions.centroids, "centroids")
        self._starts = _variable(partitions.starts, "starts")
        self._rows = _variable(partitions.rows, "rows")
        self._blocks = _variable(blocks_ERD.reshape(len(blocks_ERD), -1), "blocks")
        self._least_held = _variable(np.cumsum(np.sort(sizes_P)).astype(np.int32), "least_held")

    @classmethod
    def from_vectors(cls, values_ND: Float32Array, settings: config.Index) -> Self:
        """Partition candidates and make their search."""
        num_partitions = max(1, round(math.sqrt(len(values_ND))))
        return cls(partition(values_ND, num_partitions, rows_in_block=ROWS_IN_BLOCK), values_ND, settings)

    def __call__(
        self,
        queries_BD: tf.Tensor,
        k: tf.Tensor,
        excluded_BM: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Find the k candidates with the largest inner product, approximately.

        Args:
            queries_BD: finite query vectors, float32; B may be 0.
            k: results a query, int32 scalar of 1 or more; more than N gives N results and padding.
            excluded_BM: rows not to return, int32, -1 where there is none; repeated ones count once. None: nothing.
            allowed: bool [N] or [B, N], True counts. None: all do.

        Returns:
            Rows int32 and scores float32 [B, K], best first, no row twice, equal scores by the smaller row; row -1 and
            score -inf where fewer exist.
        """
        num_queries = tf.shape(queries_BD)[0]
        # A loop over no query cannot say how wide its result is: one query of zeros goes along, and is cut off again.
        padded = [_one_more(queries_BD)]
        if excluded_BM is not None:
            padded.append(_one_more(excluded_BM))
        if allowed is not None and len(allowed.shape) == 2:
            padded.append(_one_more(allowed))

        def search_one(inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
            query_D, *rest = inputs
            excluded_M = rest.pop(0) if excluded_BM is not None else None
            return self._search_one(query_D, k, excluded_M, rest[0] if rest else allowed)

        rows_BK, scores_BK = tf.map_fn(
            search_one,
            tuple(padded),
            fn_output_signature=(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)),
        )
        return rows_BK[:num_queries], scores_BK[:num_queries]

    def _search_one(
        self, query_D: tf.Tensor, k: tf.Tensor, excluded_M: tf.Tensor | None, allowed_N: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        num_excluded = 0 if excluded_M is None else tf.size(excluded_M)
        rows_S, scores_S = self._scan(query_D, SPARE * (k + num_excluded))
        rows_K, scores_K = self._best(query_D, rows_S, scores_S, k, excluded_M, allowed_N)

        def all_candidates() -> tuple[tf.Tensor, tf.Tensor]:
            scores_N = tf.linalg.matvec(self._values, query_D)
            return self._best(query_D, tf.range(tf.size(scores_N)), scores_N, k, excluded_M, allowed_N)

        return tf.cond(rows_K[-1] >= 0, lambda: (rows_K, scores_K), all_candidates)

    def _scan(self, query_D: tf.Tensor, num_wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows [S], -1 for padding, and rough scores of the best partitions, which hold as many as wanted."""
        enough = 1 + tf.searchsorted(self._least_held, [num_wanted])[0]
        num_searched = tf.minimum(tf.maximum(self._searched, enough), self._num_partitions)
        _, best = tf.math.top_k(tf.linalg.matvec(self._centroids, query_D), num_searched, sorted=False)
        blocks = tf.ragged.range(tf.gather(self._starts, best), tf.gather(self._starts, best + 1)).flat_values
        blocks_SD = tf.reshape(tf.gather(self._blocks, blocks), [-1, self._centroids.shape[1]])
        return tf.reshape(tf.gather(self._rows, blocks), [-1]), tf.linalg.matvec(blocks_SD, query_D)

    def _best(
        self,
        query_D: tf.Tensor,
        rows_S: tf.Tensor,
        scores_S: tf.Tensor,
        k: tf.Tensor,
        excluded_M: tf.Tensor | None,
        allowed_N: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        counts_S = rows_S >= 0
        if allowed_N is not None:
            counts_S &= tf.gather(allowed_N, tf.maximum(rows_S, 0))
        scores_S = tf.where(counts_S, scores_S, -math.inf)
        depth = 2 * k + (0 if excluded_M is None else tf.size(excluded_M))
        rough_C, at_C = tf.math.top_k(scores_S, tf.minimum(depth, tf.size(scores_S)), sorted=False)
        rows_C = tf.sort(tf.where(rough_C > -math.inf, tf.gather(rows_S, at_C), -1))
        scores_C = self._exact_scores(query_D, rows_C)
        counts_C = rows_C >= 0
        if excluded_M is not None:
            counts_C &= ~tf.reduce_any(rows_C[:, None] == excluded_M, axis=1)
        scores_C = tf.where(counts_C, scores_C, -math.inf)
        missing = tf.maximum(k - tf.size(scores_C), 0)
        scores_C = tf.pad(scores_C, [[0, missing]], constant_values=-math.inf)
        scores_K, at_K = tf.math.top_k(scores_C, k)
        rows_K = tf.gather(tf.pad(rows_C, [[0, missing]], constant_values=-1), at_K)
        return tf.where(scores_K > -math.inf, rows_K, -1), scores_K

    def _exact_scores(self, query_D: tf.Tensor, rows_C: tf.Tensor) -> tf.Tensor:
        """Inner products in float64, rounded to float32: equal vectors get equal scores wherever they lie."""
        values_CD = tf.cast(tf.gather(self._values, tf.maximum(rows_C, 0)), tf.float64)
        return tf.cast(tf.reduce_sum(values_CD * tf.cast(query_D, tf.float64), axis=1), tf.float32)


def _variable(array: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(array, trainable=False, name=name)


def _one_more(rows: tf.Tensor) -> tf.Tensor:
    return tf.pad(rows, [[0, 1]] + [[0, 0]] * (len(rows.shape) - 1))
