"""Measure one scorer: every metric by query, as sums above and below a fraction.

Letters: P queries of the part, Q of them ranked, R relevant pairs, N candidates, B queries of a block, K results, C
cutoffs.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array
from retrieval_contract.evaluation import metrics
from retrieval_contract.evaluation.metrics import Float64Array, RelevantRanks
from retrieval_contract.evaluation.question import Question
from retrieval_contract.evaluation.ranking import rank_relevant
from retrieval_contract.evaluation.scorers import Scorer

AT_CUTOFF: Final[Mapping[str, Callable[[RelevantRanks, int], Float64Array]]] = {
    "recall": metrics.recall,
    "hit_rate": metrics.hit_rate,
    "precision": metrics.precision,
    "ndcg": metrics.ndcg,
    "map": metrics.average_precision,
}
"""Metrics at K that follow from the ranks, by the name in the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fractions:
    """Metrics as fractions of sums over the part's queries."""

    above: Mapping[str, Float64Array]
    """By metric, what each query adds to the numerator [P]."""
    below: Float64Array
    """What it adds to the denominator [P]: 1 where it counts, or its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything measured of one scorer."""

    ranks: Int64Array
    """Ranks of the relevant pairs [R]."""
    by_query: Fractions
    """Means over ranked queries."""
    by_row: Fractions
    """Means over held-out rows."""
    overall: Mapping[str, float]
    """Metrics of all queries together: no means, and without an interval, as resampling queries would bias them."""


def measure(scorer: Scorer, question: Question) -> Measured:
    """Rank, and compute every metric at every cutoff."""
    shown = _Shown(question)
    ranks = rank_relevant(
        scorer,
        question.relevant,
        excluded=question.excluded,
        max_bytes=question.max_bytes,
        num_best=question.cutoffs[-1],
        visit=shown.add,
    )
    relevant = RelevantRanks.of(ranks, question.pair_queries)
    by_query = {f"{name}@{k}": metric(relevant, k) for name, metric in AT_CUTOFF.items() for k in question.cutoffs}
    by_query["mrr"] = metrics.reciprocal_rank(relevant)
    by_query |= {f"popularity_percentile@{k}": shown.percentiles_QC[:, c] for c, k in enumerate(question.cutoffs)}
    exposures = list(zip(question.cutoffs, shown.exposures_CN, strict=True))
    return Measured(
        ranks=ranks,
        by_query=over_part(by_query, question.ranked, question.num_part_queries),
        by_row=accuracy(ranks, question),
        overall={f"coverage@{k}": metrics.coverage(row_N) for k, row_N in exposures}
        | {f"gini@{k}": metrics.gini(row_N) for k, row_N in exposures},
    )


def accuracy(ranks: Int64Array, question: Question) -> Fractions:
    """Share of held-out rows whose candidate is among the best K: TFRS's factorized top-K categorical accuracy.

    A row that is there twice counts twice; one whose candidate the ranking leaves out is a miss.
    """
    row_ranks, num_part = question.row_ranks(ranks), question.num_part_queries
    below = np.bincount(question.row_queries, minlength=num_part).astype(float)
    above = {
        f"accuracy@{k}": np.bincount(question.row_queries, weights=row_ranks <= k, minlength=num_part).astype(float)
        for k in question.cutoffs
    }
    return Fractions(above=above, below=below)


def over_part(values: Mapping[str, Float64Array], places: Int64Array, num_part_queries: int) -> Fractions:
    """Spread values of some queries over all of the part [P]; the others do not count.

    Args:
        values: by metric, a value for each place.
        places: which of the part's queries.
        num_part_queries: P.
    """
    below = np.zeros(num_part_queries)
    below[places] = 1
    above = {name: np.zeros(num_part_queries) for name in values}
    for name, array in values.items():
        above[name][places] = array
    return Fractions(above=above, below=below)


def measure_slice(ranks: Int64Array, pairs: BoolArray, question: Question) -> Fractions:
    """Recall, hit rate and MRR of some relevant pairs, over the queries that have one; ranks stay as they are."""
    queries, places = np.unique(question.pair_queries[pairs], return_inverse=True)
    relevant = RelevantRanks.of(ranks[pairs], places)
    values = {f"recall@{k}": metrics.recall(relevant, k) for k in question.cutoffs}
    values |= {f"hit_rate@{k}": metrics.hit_rate(relevant, k) for k in question.cutoffs}
    values["mrr"] = metrics.reciprocal_rank(relevant)
    return over_part(values, question.ranked[queries], question.num_part_queries)


class _Shown:
    """What is recommended to whom, counted block by block from several threads."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._lock = threading.Lock()
        self._places = np.array(question.cutoffs) - 1
        self._between_CN = np.zeros((len(question.cutoffs), len(question.percentiles)), np.int64)
        self.percentiles_QC = np.zeros((len(question.query_rows), len(question.cutoffs)))

    def add(self, positions: Int64Array, best_BK: Int32Array) -> None:
        """Count a block's best candidates."""
        means_BK = metrics.mean_percentile(best_BK, self._question.percentiles)
        self.percentiles_QC[positions] = means_BK[:, self._places]
        with self._lock:
            for c, (start, stop) in enumerate(zip([0, *self._question.cutoffs], self._question.cutoffs, strict=False)):
                rows = best_BK[:, start:stop].ravel()
                np.add.at(self._between_CN[c], rows[rows >= 0], 1)

    @property
    def exposures_CN(self) -> Int64Array:
        """How often each candidate is among the best K of a query, for each cutoff."""
        return np.cumsum(self._between_CN, axis=0)
