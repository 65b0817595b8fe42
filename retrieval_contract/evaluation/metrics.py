"""Metrics from exact ranks, one function each, a value per query.

Sources: recall, MAP and MRR as in Manning, Raghavan and Schuetze, Introduction to Information Retrieval, ch. 8; NDCG by
Jaervelin and Kekaelaeinen 2002 with binary gain. MAP@K divides by min(K, number relevant), where `trec_eval` and
`ir_measures` divide by the number relevant.

Letters: Q queries, R relevant candidates of all queries, N candidates, K results.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array
from retrieval_contract.evaluation.counting import within

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RelevantRanks:
    """Ranks of the relevant candidates of Q queries, each of which has one or more."""

    ranks: Int64Array
    """Ranks [R], 1 is best, distinct and ascending within a query."""
    queries: Int64Array
    """Query of each rank [R], 0 to Q - 1, ascending."""
    counts: Int64Array
    """Relevant candidates of each query [Q], 1 or more."""

    @classmethod
    def of(cls, ranks: Int64Array, queries: Int64Array) -> Self:
        """Put ranks in order.

        Args:
            ranks: in any order [R].
            queries: the query of each, every one of 0 to Q - 1 among them.
        """
        order = np.lexsort((ranks, queries))
        counts = np.bincount(queries)
        assert counts.all(), "a query without a relevant candidate is excluded before"
        return cls(ranks=ranks[order], queries=queries[order], counts=counts)

    @property
    def nth(self) -> Int64Array:
        """Place of each rank among its query's, from 1 [R]."""
        return within(self.counts) + 1

    def hits(self, k: int) -> Float64Array:
        """Relevant candidates among the best K [Q]."""
        return self.sums(self.ranks <= k)

    def sums(self, values_R: Float64Array | BoolArray) -> Float64Array:
        """Sum of values at the ranks, by query [Q]."""
        return np.bincount(self.queries, weights=values_R, minlength=len(self.counts)).astype(np.float64)


def recall(relevant: RelevantRanks, k: int) -> Float64Array:
    """Share of the relevant candidates that are among the best K [Q]."""
    return relevant.hits(k) / relevant.counts


def hit_rate(relevant: RelevantRanks, k: int) -> Float64Array:
    """1 where any relevant candidate is among the best K, else 0 [Q]."""
    return (relevant.hits(k) > 0).astype(np.float64)


def precision(relevant: RelevantRanks, k: int) -> Float64Array:
    """Share of the K places that hold a relevant candidate, K also where the exclusions leave fewer [Q]."""
    return relevant.hits(k) / k


def reciprocal_rank(relevant: RelevantRanks) -> Float64Array:
    """One over the rank of the first relevant candidate, over the whole ranking [Q]."""
    return relevant.sums((relevant.nth == 1) / relevant.ranks)


def ndcg(relevant: RelevantRanks, k: int) -> Float64Array:
    """Discounted gain among the best K over that of a perfect ranking [Q]: gain 1, discount 1 / log2(rank + 1)."""
    gains = np.where(relevant.ranks <= k, 1 / np.log2(relevant.ranks + 1.0), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(1, min(k, relevant.counts.max(initial=1)) + 1) + 1.0))
    return relevant.sums(gains) / ideal[np.minimum(relevant.counts, k) - 1]


def average_precision(relevant: RelevantRanks, k: int) -> Float64Array:
    """Precision at the rank of each relevant candidate among the best K, summed, over min(K, number relevant) [Q]."""
    precisions = np.where(relevant.ranks <= k, relevant.nth / relevant.ranks, 0.0)
    return relevant.sums(precisions) / np.minimum(relevant.counts, k)


def popularity_percentiles(counts: Int64Array) -> Float64Array:
    """Where each candidate stands in popularity [N]: the share of the catalogue below it, plus half of its equals.

    The mean over the catalogue is one half, so that recommending at random scores one half.
    """
    ordered = np.sort(counts)
    return (np.searchsorted(ordered, counts, "left") + np.searchsorted(ordered, counts, "right")) / (2 * len(counts))


def mean_percentile(best_BK: Int32Array, percentiles: Float64Array) -> Float64Array:
    """Mean popularity percentile of what is recommended, for every cutoff up to K at once.

    Args:
        best_BK: candidate rows, best first; -1 where there is none, always behind.
        percentiles: from `popularity_percentiles` [N].

    Returns:
        [B, K]: column k - 1 is the mean over the best k; 0 where nothing at all is left to recommend.
    """
    there = best_BK >= 0
    sums = np.cumsum(np.where(there, percentiles[best_BK], 0.0), axis=1)
    return sums / np.maximum(np.cumsum(there, axis=1), 1)


def coverage(exposures: Int64Array) -> float:
    """Share of the catalogue that is recommended to anybody.

    Args:
        exposures: how often each candidate is among the best K of a query [N].
    """
    return float(np.mean(exposures > 0))


def gini(exposures: Int64Array) -> float:
    """Inequality of exposure: 0 where all candidates are shown equally often, 1 - 1/N where only one ever is.

    Args:
        exposures: how often each candidate is among the best K of a query [N].

    Returns:
        (2 sum_i i x_(i)) / (N sum x) - (N + 1) / N with x ascending and i from 1; 0 where nothing is shown.
    """
    total, size = int(exposures.sum()), len(exposures)
    if total == 0:
        return 0.0
    weighted = float(np.arange(1, size + 1) @ np.sort(exposures).astype(np.float64))
    return 2 * weighted / (size * total) - (size + 1) / size
