"""Which queries and relevant candidates belong to a slice of the report.

A slice keeps some of the relevant pairs; its metrics are those of the queries that still have one, ranked as before.
`head` and `tail` part the catalogue by train positives; "cold" is who has no train row at all, positive or not. Cold
candidates are what popularity and linear models cannot find, so beside that slice stand the baselines and chance.

Letters: N candidates, R relevant pairs, Q queries, K results.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array
from retrieval_contract.evaluation.metrics import Float64Array

COLD_CANDIDATES: Final = "cold_candidates"
"""The slice of relevant candidates that training never met."""


def slice_pairs(
    query_rows: Int64Array,
    candidate_rows: Int32Array,
    *,
    seen: scipy.sparse.csr_matrix,
    counts: Int64Array,
    head_fraction: float,
) -> Mapping[str, BoolArray]:
    """Say which relevant pairs belong to each slice.

    Args:
        query_rows: entity row of each relevant pair's query [R].
        candidate_rows: its candidate's [R].
        seen: train rows, positive or not [num queries, N].
        counts: train positives of each candidate [N].
        head_fraction: share of the catalogue that is `head`.

    Returns:
        Name -> True for the slice's pairs [R].
    """
    cold_query = np.diff(seen.indptr) == 0
    cold_candidate = np.bincount(seen.indices, minlength=seen.shape[1]) == 0
    head = head_candidates(counts, head_fraction)
    return {
        "cold_queries": cold_query[query_rows],
        COLD_CANDIDATES: cold_candidate[candidate_rows],
        "head": head[candidate_rows],
        "tail": ~head[candidate_rows],
    }


def head_candidates(counts: Int64Array, head_fraction: float) -> BoolArray:
    """True for the most popular share of the catalogue [N], rounded, one at least; ties by the smaller row."""
    size = max(1, round(head_fraction * len(counts)))
    head = np.zeros(len(counts), np.bool_)
    head[np.argsort(-counts, kind="stable")[:size]] = True
    return head


def chance(num_relevant_Q: Int64Array, num_ranked_Q: Int64Array, cutoffs: Sequence[int]) -> Mapping[str, float]:
    """What a ranking in random order would score: exact means over the queries of a slice.

    `recall@K = min(K, M) / M` for M ranked candidates, whatever is relevant; `hit_rate@K = 1 - C(M - r, K) / C(M, K)`
    for r relevant ones.

    Args:
        num_relevant_Q: relevant candidates of the slice, 1 or more.
        num_ranked_Q: candidates that are ranked: the catalogue less what is left out.
        cutoffs: K.
    """
    values: dict[str, float] = {}
    for k in cutoffs:
        values[f"recall@{k}"] = float(np.mean(np.minimum(k, num_ranked_Q) / num_ranked_Q))
        values[f"hit_rate@{k}"] = float(np.mean(_share_found(num_relevant_Q, num_ranked_Q, k)))
    return values


def _share_found(num_relevant_Q: Int64Array, num_ranked_Q: Int64Array, k: int) -> Float64Array:
    """Probability that one of the relevant is among the first k of a random order [Q]."""
    log_missed_Q = np.zeros(len(num_ranked_Q))
    # C(M - r, K) / C(M, K) factor by factor: factorials of large catalogues would cancel to nothing.
    for i in range(int(num_relevant_Q.max())):
        left_Q = np.maximum(num_ranked_Q - i, 1)
        with np.errstate(divide="ignore"):
            factor_Q = np.log1p(-np.minimum(k / left_Q, 1.0))
        log_missed_Q += np.where(i < num_relevant_Q, factor_Q, 0.0)
    return -np.expm1(log_missed_Q)
