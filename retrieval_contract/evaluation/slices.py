"""Which queries and relevant candidates belong to a slice of the report.

A slice keeps some of the relevant pairs; its metrics are those of the queries that still have one, ranked as before.
`head` and `tail` part the catalogue by train positives; "cold" is who has no train row at all, positive or not.

Letters: N candidates, R relevant pairs.
"""

from collections.abc import Mapping

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array


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
        "cold_candidates": cold_candidate[candidate_rows],
        "head": head[candidate_rows],
        "tail": ~head[candidate_rows],
    }


def head_candidates(counts: Int64Array, head_fraction: float) -> BoolArray:
    """True for the most popular share of the catalogue [N], rounded, one at least; ties by the smaller row."""
    size = max(1, round(head_fraction * len(counts)))
    head = np.zeros(len(counts), np.bool_)
    head[np.argsort(-counts, kind="stable")[:size]] = True
    return head
