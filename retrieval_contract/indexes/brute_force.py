"""Exact scores and exact ranking of candidates: what every index ends in, and falls back to.

A score is the inner product computed in float64 and rounded to float32. Float32 matrix products give two equal vectors
unequal scores, and one query other scores in another batch, because the order of additions depends on the place in the
matrix; they are used here only to find which candidates can be among the best, with their error bound as margin.

Letters: B queries, N candidates, D width, M candidates proposed for a query, K results, P pairs of query and candidate.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array, TopK
from retrieval_contract.evaluation.best import lower_bound
from retrieval_contract.evaluation.best_of_tiles import padded
from retrieval_contract.evaluation.threads import evenly, in_threads
from retrieval_contract.evaluation.tiles import QUERIES, are_worth_it
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.stored import StoredVectors, norms
from retrieval_contract.indexes.tiled_search import possible_in_tiles

CHUNK_BYTES = 64_000_000
"""Bound on each temporary array."""
LEAST_TOGETHER = 64
"""Queries from which on a large catalogue is searched tile by tile; fewer leave the product too little to do there."""


def inner_products(stored: StoredVectors, queries_BD: Float32Array, rows_BM: Int32Array) -> Float32Array:
    """Score given candidates of each query.

    Args:
        stored: candidate vectors.
        queries_BD: query vectors.
        rows_BM: candidate rows; -1 where there is none.

    Returns:
        Scores [B, M], -inf where the row is -1.
    """
    scores_BM = np.full(rows_BM.shape, -np.inf, np.float32)
    at_P, columns_P = np.nonzero(rows_BM >= 0)
    scores_BM[at_P, columns_P] = stored.scores(queries_BD, at_P, rows_BM[at_P, columns_P])
    return scores_BM


def rank(
    stored: StoredVectors,
    queries_BD: Float32Array,
    rows_BM: Int32Array,
    k: int,
    excluded: Excluded,
    *,
    num_allowed: int | None = None,
) -> tuple[TopK, BoolArray]:
    """Score proposed candidates and keep the best K, ties by the smaller row.

    Args:
        stored: candidate vectors.
        queries_BD: query vectors.
        rows_BM: proposed candidate rows in any order; repeated ones count once, -1 where there is none.
        k: results a query.
        excluded: candidates to leave out.
        num_allowed: candidates that could have been proposed, the excluded ones among them; all by default.

    Returns:
        The best K, and for each query whether it is settled: K results were found (or all there are), and no candidate
        that was not proposed could tie with the last of them by being as good as the worst proposed.
    """
    rows_BM = np.sort(rows_BM, axis=1)
    rows_BM[:, 1:][rows_BM[:, 1:] == rows_BM[:, :-1]] = -1
    rows_BM[excluded.contains(rows_BM)] = -1
    scores_BM = inner_products(stored, queries_BD, rows_BM)
    # Rows ascend, so a stable sort breaks ties by the smaller row.
    places_B = np.arange(len(queries_BD))
    ordered_BM = places_B[:, None], np.argsort(-scores_BM, axis=1, kind="stable")
    rows_BM, scores_BM = rows_BM[ordered_BM], scores_BM[ordered_BM]
    num_found_B = (rows_BM >= 0).sum(axis=1)
    num_available_B = (excluded.size if num_allowed is None else num_allowed) - excluded.counts
    worst_B = scores_BM[places_B, np.maximum(num_found_B - 1, 0)]
    rows_BK, scores_BK = _first(rows_BM, k, -1), _first(scores_BM, k, -np.inf)
    settled_B = (num_found_B == num_available_B) | ((num_found_B > k) & (scores_BK[:, -1] > worst_B))
    return TopK(rows=rows_BK, scores=scores_BK), settled_B


def _first(array_BM: NDArray[Any], k: int, filling: float) -> NDArray[Any]:
    """The first K columns, filled up where there are fewer; a view where there are enough."""
    missing = k - array_BM.shape[1]
    return array_BM[:, :k] if missing <= 0 else np.pad(array_BM, ((0, 0), (0, missing)), constant_values=filling)


def exact_top_k(
    stored: StoredVectors, queries_BD: Float32Array, k: int, excluded: Excluded, allowed_N: BoolArray | None = None
) -> TopK:
    """Rank all candidates of each query that are not excluded.

    Args:
        stored: candidate vectors.
        queries_BD: query vectors.
        k: results a query, N at most.
        excluded: candidates to leave out.
        allowed_N: candidates that count; None allows all.

    Returns:
        The best K; where fewer are left, the rest is padded with row -1 and score -inf.
    """
    num_queries, size = len(queries_BD), stored.size
    rows_BK, scores_BK = np.empty((num_queries, k), np.int32), np.empty((num_queries, k), np.float32)
    margin_B = _margin(queries_BD, stored.largest_norm)

    def answer(here: Int64Array, possible: Callable[..., Int32Array]) -> None:
        excluded_here = excluded.at(here)
        rows_BM = possible(stored, queries_BD[here], margin_B[here], k, excluded_here, allowed_N)
        top, _ = rank(stored, queries_BD[here], rows_BM, k, excluded_here)
        rows_BK[here], scores_BK[here] = top.rows, top.scores

    if num_queries >= LEAST_TOGETHER and are_worth_it(size, k):
        in_threads(partial(answer, possible=possible_in_tiles), evenly(np.arange(num_queries), QUERIES))
    else:
        chunk = max(1, CHUNK_BYTES // (4 * size))
        for start in range(0, num_queries, chunk):
            answer(np.arange(start, min(start + chunk, num_queries)), _possible)
    return TopK(rows=rows_BK, scores=scores_BK)


def _margin(queries_BD: Float32Array, largest_norm: float) -> Float32Array:
    """Twice the error of a float32 inner product and of rounding, for each query [B].

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5: |error| <= gamma_D |x|.|y|, here
    with |x|.|y| <= ||x|| ||y||, and D + 8 in place of D for gamma's denominator, later roundings, and underflow.
    """
    num_roundings = queries_BD.shape[1] + 8
    return (2 * num_roundings * (2.0**-24 * largest_norm * norms(queries_BD) + 2.0**-126)).astype(np.float32)


def _possible(
    stored: StoredVectors,
    queries_BD: Float32Array,
    margin_B: Float32Array,
    k: int,
    excluded: Excluded,
    allowed_N: BoolArray | None,
) -> Int32Array:
    """Rows that can be among the best K by rough scores, ascending, padded with -1 [B, M]."""
    scores_BN = stored.products(queries_BD)
    if allowed_N is not None:
        scores_BN[:, ~allowed_N] = -np.inf
    scores_BN[excluded.places, excluded.rows] = -np.inf
    possible_BN = (scores_BN >= (lower_bound(scores_BN, k) - margin_B)[:, None]) & (scores_BN > -np.inf)
    at_P, rows_P = np.nonzero(possible_BN)
    return padded(at_P, rows_P, len(scores_BN))
