"""The partitions that promise most to a query, copied out block by block and scored, in plain TensorFlow operations.

Letters: N candidates, D width, C dimensions of the codes, P partitions, E blocks, S places scanned, M best ones.
"""

import math
from typing import Any, final

import numpy as np
import tensorflow as tf

from tfrs_models.indexes.each_query import each_query
from tfrs_models.indexes.partition_blocks import Blocks
from tfrs_models.indexes.partitions import Partitions
from tfrs_models.indexes.principal_axes import Axes
from tfrs_models.indexes.products import products

SPARE = 4
"""Searched partitions hold on average at least this many times what is asked for."""
FURTHER = 4
"""So many times as many partitions are considered, for those that are small."""
DEEP = 4
"""Where one in so many partitions would be searched, reading all in their order costs less than copying."""
SMALL = 1_000
"""Places up to which all are looked at."""
SPREAD = 2.0
"""How many spreads above its centroid a partition is taken to reach towards the query; measured, see `promises`."""

Scored = tuple[tf.Tensor, tf.Tensor]
"""Rows int32, -1 where there is none, and their rough scores float32."""


@final
class PartitionScan(tf.Module):
    """Rough scores of candidates; all it holds are variables, saved with the model."""

    def __init__(self, partitions: Partitions, blocks: Blocks) -> None:
        """Make variables of arrays."""
        super().__init__()
        self.num_partitions, self.num_places = len(partitions.centroids), partitions.rows.size
        self._mean = _variable(blocks.axes.mean, "mean")
        self._directions = _variable(blocks.axes.directions, "directions")
        self._centroids = _variable(blocks.axes.turned(partitions.centroids), "centroids")
        self._spreads = _variable(SPREAD * partitions.spreads, "spreads")
        self._starts = _variable(partitions.starts, "starts")
        self._rows = _variable(partitions.rows, "rows")
        self._codes = _variable(blocks.codes, "codes")
        self._scales = _variable(blocks.scales, "scales")
        self._sizes = _variable(_sizes(partitions), "sizes")

    def blocks(self) -> Blocks:
        """What was laid out, as arrays: it is kept here only."""
        axes = Axes(mean=self._mean.numpy(), directions=self._directions.numpy())
        return Blocks(codes=self._codes.numpy(), scales=self._scales.numpy(), axes=axes)

    def follow(self, partitions: Partitions) -> None:
        """Take over that some places hold no candidate any more; nothing else may differ."""
        self._rows.assign(partitions.rows)
        self._sizes.assign(_sizes(partitions))

    def to_search(self, searched: tf.Tensor, num_wanted: tf.Tensor, allowed_N: tf.Tensor | None) -> tf.Tensor:
        """How many partitions to search.

        Args:
            searched: partitions, at least.
            num_wanted: candidates; partitions of the mean size hold `SPARE` times as many.
            allowed_N: candidates that count: the best so many lie in more partitions the fewer these are. None: all.

        Returns:
            1 to P, int32.
        """
        number = tf.maximum(tf.cast(searched, tf.float64), self._usual(tf.cast(num_wanted, tf.float64)))
        if allowed_N is not None:
            num_allowed = tf.math.count_nonzero(allowed_N, dtype=tf.int32)
            number *= tf.size(allowed_N) / tf.maximum(num_allowed, 1)
        return tf.cast(tf.minimum(number, self.num_partitions), tf.int32)

    def planned(self, searched: int, num_wanted: int) -> int:
        """`to_search` in plain numbers, where all candidates count."""
        return int(min(max(searched, self._usual(num_wanted)), self.num_partitions))

    def _usual(self, num_wanted: Any) -> Any:
        """Partitions of the mean size that hold `SPARE` times as many candidates as wanted."""
        return 1 + SPARE * self.num_partitions / self.num_places * num_wanted

    def is_deep(self, num_searched: Any) -> Any:
        """True where `every` costs no more than `some`, and finds all; of a number or a tensor."""
        return (DEEP * num_searched > self.num_partitions) | (self.num_places <= SMALL)

    def promises(self, query_D: tf.Tensor, query_C: tf.Tensor) -> tf.Tensor:
        """What the best candidate of each partition may score [P]: <q, c> + SPREAD |q| s.

        c is the centroid and s its candidates' spread; a partition that was made of two clusters has its centroid
        between them, and would be overlooked without the second term.
        """
        return tf.linalg.matvec(self._centroids, query_C) + tf.norm(query_D) * self._spreads

    def some(self, query_D: tf.Tensor, number: tf.Tensor, num_wanted: tf.Tensor) -> Scored:
        """Score the candidates of the partitions that promise most [S].

        Args:
            query_D: float32.
            number: partitions; up to `FURTHER` times as many where these hold fewer candidates than wanted.
            num_wanted: candidates.
        """
        query_C = self._turned(query_D)
        best = self._most_promising(self.promises(query_D, query_C), number, num_wanted)
        blocks = tf.ragged.range(tf.gather(self._starts, best), tf.gather(self._starts, best + 1)).flat_values
        codes_SC = tf.reshape(tf.gather(self._codes, blocks), [-1, self._scales.shape[0]])
        scores_S = tf.linalg.matvec(tf.cast(codes_SC, tf.float32), query_C * self._scales)
        return tf.reshape(tf.gather(self._rows, blocks), [-1]), scores_S

    def _most_promising(self, promises_P: tf.Tensor, number: tf.Tensor, num_wanted: tf.Tensor) -> tf.Tensor:
        """So many partitions, or as many more as hold what is wanted: rarely needed, and sorting them costs."""
        best = tf.math.top_k(promises_P, number).indices

        def more() -> tf.Tensor:
            further = tf.math.top_k(promises_P, tf.minimum(FURTHER * number, self.num_partitions)).indices
            enough = 1 + tf.searchsorted(tf.cumsum(tf.gather(self._sizes, further)), [num_wanted])[0]
            return further[: tf.maximum(number, enough)]

        return tf.cond(tf.reduce_sum(tf.gather(self._sizes, best)) < num_wanted, more, lambda: best)

    def every(self, query_D: tf.Tensor) -> Scored:
        """Score all candidates [S]."""
        return tf.reshape(self._rows, [-1]), products(self._codes, self._turned(query_D) * self._scales)

    def _turned(self, query_D: tf.Tensor) -> tf.Tensor:
        """A query along the axes of the codes [C]; their mean moves all of its scores alike, and is left out."""
        return tf.linalg.matvec(self._directions, query_D, transpose_a=True)


def proposals(
    scan: PartitionScan, queries_BD: tf.Tensor, depth: tf.Tensor, searched: tf.Tensor, allowed_N: tf.Tensor | None
) -> Scored:
    """The best candidates of each query by rough scores, in no order [B, M = depth]; arguments as of the methods."""
    number = scan.to_search(searched, depth, allowed_N)

    def propose(query_D: tf.Tensor) -> Scored:
        scored = tf.cond(scan.is_deep(number), lambda: scan.every(query_D), lambda: scan.some(query_D, number, depth))
        return best(scored, depth, allowed_N)

    return each_query(lambda one: propose(one["query"]), {"query": queries_BD})


def best(scored: Scored, depth: tf.Tensor, allowed_N: tf.Tensor | None) -> Scored:
    """Keep the best `depth` of what is scored and allowed, in no order; -1 and -inf where fewer are [M = depth]."""
    rows_S, scores_S = scored
    counts_S = rows_S >= 0
    if allowed_N is not None:
        counts_S &= tf.gather(allowed_N, tf.maximum(rows_S, 0))
    scores_S = tf.where(counts_S, scores_S, -math.inf)
    num_kept = tf.minimum(depth, tf.size(scores_S))
    scores_M, at_M = tf.math.top_k(scores_S, num_kept, sorted=False)
    rows_M = tf.where(scores_M > -math.inf, tf.gather(rows_S, at_M), -1)
    missing = [[0, depth - num_kept]]
    return tf.pad(rows_M, missing, constant_values=-1), tf.pad(scores_M, missing, constant_values=-math.inf)


def _sizes(partitions: Partitions) -> np.ndarray[Any, Any]:
    """Candidates of each partition."""
    return np.add.reduceat((partitions.rows >= 0).sum(axis=1), partitions.starts[:-1]).astype(np.int32)


def _variable(array: np.ndarray[Any, Any], name: str) -> tf.Variable:
    return tf.Variable(array, trainable=False, name=name)
