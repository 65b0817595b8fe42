"""Approximate search in plain TensorFlow operations, for a SavedModel that a stock TF Serving loads.

The partitions that promise most are scored roughly, and the best candidates of those are scored again by the vectors
kept beside. Where that leaves fewer than k, or would look through a large part of the partitions anyway, all candidates
are looked at, in the graph too.

Letters: B queries, N candidates, D width, K results, M excluded rows, S places scanned, C candidates rescored.
"""

import math
from typing import Self, final

import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.arrays import BoolArray, Float32Array
from retrieval_contract.indexes.stored import StoredVectors
from tfrs_models.indexes.each_query import each_query
from tfrs_models.indexes.kept_vectors import KeptVectors
from tfrs_models.indexes.partition_scan import PartitionScan, Scored, best
from tfrs_models.indexes.partitioned_index import PartitionedIndex, num_searched, structure


@final
class PartitionedSearch(tf.Module):
    """Search of candidates with the largest inner product; all it holds are variables, saved with the model."""

    def __init__(
        self, scan: PartitionScan, stored: StoredVectors, settings: config.Index, living_N: BoolArray | None = None
    ) -> None:
        """Put the parts together; `from_index` and `from_vectors` make them.

        Args:
            scan: the partitions.
            stored: vectors to rescore by; of kind none, rough scores stand.
            settings: the run's `index`.
            living_N: False for candidates never to return; None: all may be.
        """
        super().__init__()
        self._scan = scan
        self._kept = None if stored.kind == "none" else KeptVectors(stored)
        self._living = None if living_N is None else tf.Variable(living_N, trainable=False, name="living")
        self._searched = num_searched(settings, scan.num_partitions)
        self._rescored = settings.partitioned_rescore

    @classmethod
    def from_vectors(cls, values_ND: Float32Array, settings: config.Index) -> Self:
        """Partition candidates and make their search."""
        scan = PartitionScan(*structure(values_ND, settings))
        return cls(scan, StoredVectors.keep(values_ND, settings.store), settings)

    @classmethod
    def from_index(cls, index: PartitionedIndex) -> Self:
        """The search of an index that was built: its partitions, its vectors, without the rows it has forgotten."""
        return cls(*index.exported(), index.settings, index.living_N)

    def __call__(
        self,
        queries_BD: tf.Tensor,
        k: tf.Tensor,
        excluded_BM: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
    ) -> Scored:
        """Find the k candidates with the largest inner product, approximately.

        Args:
            queries_BD: finite query vectors, float32; B may be 0.
            k: results a query, int32 scalar; more than N gives all and padding.
            excluded_BM: rows not to return, int32, -1 where there is none; repeated ones count once. None: nothing.
            allowed: bool [N] or [B, N], True counts. None: all do.

        Returns:
            Rows int32 and scores float32 [B, K], best first, no row twice, equal scores by the smaller row among the
            rescored; row -1 and score -inf where fewer than k exist. A score is the inner product in float64 rounded
            to float32, of the vectors kept; without those a rough one.
        """
        each = {"query": queries_BD, "excluded": excluded_BM, "allowed": allowed}
        if allowed is not None and len(allowed.shape) == 1:
            del each["allowed"]
        each = {name: tensor for name, tensor in each.items() if tensor is not None}

        def answer(one: dict[str, tf.Tensor]) -> Scored:
            return self._answer(one["query"], k, one.get("excluded"), one.get("allowed", allowed))

        return each_query(answer, each)

    def _answer(
        self, query_D: tf.Tensor, k: tf.Tensor, excluded_M: tf.Tensor | None, allowed_N: tf.Tensor | None
    ) -> Scored:
        barred = tf.constant([-1]) if excluded_M is None else tf.concat([[-1], excluded_M], axis=0)
        num_wanted = k + tf.size(barred)
        number = self._scan.to_search(self._searched, num_wanted, allowed_N)

        def some() -> Scored:
            return self._best(query_D, self._scan.some(query_D, number, num_wanted), k, barred, allowed_N)

        def every() -> Scored:
            if self._kept is None:
                return self._best(query_D, self._scan.every(query_D), k, barred, allowed_N)
            living_N = allowed_N
            if self._living is not None:
                living_N = self._living if allowed_N is None else self._living & allowed_N
            scored = tf.range(self._kept.size), self._kept.products(query_D)
            return self._best(query_D, scored, k, barred, living_N)

        nothing = tf.fill([k], -1), tf.fill([k], -math.inf)
        rows_K, scores_K = tf.cond(self._scan.is_deep(number), lambda: nothing, some)
        return tf.cond(tf.reduce_any(rows_K < 0), every, lambda: (rows_K, scores_K))

    def _best(
        self, query_D: tf.Tensor, scored: Scored, k: tf.Tensor, barred: tf.Tensor, allowed_N: tf.Tensor | None
    ) -> Scored:
        """The best K of what is scored, allowed, and not barred."""
        depth = tf.maximum(self._rescored, 2 * k) + tf.size(barred)
        rows_C, scores_C = best(scored, depth, allowed_N)
        rows_C, at_C = tf.raw_ops.ListDiff(x=rows_C, y=barred)
        # In the order of rows: `top_k` breaks ties by the place.
        order_C = tf.argsort(rows_C)
        rows_C = tf.gather(rows_C, order_C)
        if self._kept is None:
            scores_C = tf.gather(scores_C, tf.gather(at_C, order_C))
        else:
            scores_C = self._kept.scores(query_D, rows_C)
        missing = [[0, tf.maximum(k - tf.size(rows_C), 0)]]
        scores_K, at_K = tf.math.top_k(tf.pad(scores_C, missing, constant_values=-math.inf), k)
        return tf.gather(tf.pad(rows_C, missing, constant_values=-1), at_K), scores_K
