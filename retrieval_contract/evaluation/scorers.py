"""Who scores candidates for queries: vectors by inner product, or any function.

A query may have several vectors (interests): a candidate's score is the largest of their inner products. A score is
what the exact index serves: the inner product in float64, rounded to float32. A float32 matrix product is only near it,
and gives two equal vectors unequal scores, or one query other scores in another block, because the order
of additions depends on the place in the matrix. A scorer therefore says how near its rough scores are, and gives exact
ones for the few pairs where that matters.

Letters: B queries of a block, N candidates, T some of them, D vector width, I vectors of a query, P pairs of query and
candidate.
"""

import abc
from collections.abc import Callable
from functools import cached_property
from typing import final

import numpy as np

from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.errors import RunError, first_rows
from retrieval_contract.evaluation.shifted_products import ShiftedProducts

PAIR_BYTES = 2_000_000
"""Bound on temporary arrays of pairs, such that a cache holds them."""


class Scorer(abc.ABC):
    """Scores of all candidates for some queries; queries are named by their position, 0 to Q - 1."""

    num_candidates: int
    """N."""

    @abc.abstractmethod
    def scores(self, positions: Int64Array) -> Float32Array:
        """Rough scores [B, N] of the queries at `positions` [B], without NaN; the caller may write into the array."""

    @abc.abstractmethod
    def margins(self, positions: Int64Array) -> Float32Array:
        """Differences [B] of rough scores above which the exact ones differ the same way; 0 where scores are exact."""

    @abc.abstractmethod
    def exact(self, positions: Int64Array, candidate_rows: Int64Array, rough: Float32Array) -> Float32Array:
        """Exact scores [P] of pairs, whose rough scores [P] are at hand."""


@final
class VectorScorer(Scorer):
    """Inner products of query vectors and candidate vectors; the largest of a query's where it has several."""

    def __init__(self, query_vectors: Float32Array, candidate_vectors: Float32Array) -> None:
        """Check the vectors, so that no score can be NaN.

        Args:
            query_vectors: [Q, D] or [Q, I, D].
            candidate_vectors: [N, D].

        Raises:
            RunError: a value that is not finite, or products that overflow float32.
        """
        assert query_vectors.ndim in (2, 3) and candidate_vectors.ndim == 2, "vectors are matrices"
        assert query_vectors.shape[-1] == candidate_vectors.shape[1], "towers meet at one width"
        query_norms = _finite_norms(query_vectors, "query")
        largest = _finite_norms(candidate_vectors, "candidate").max(initial=0.0)
        if query_norms.max(initial=0.0) * largest > np.finfo(np.float32).max / 4:
            raise RunError("the vectors are so long that their inner products overflow: training diverged")
        self.num_candidates = len(candidate_vectors)
        query_vectors = query_vectors.reshape(len(query_vectors), -1, query_vectors.shape[-1])
        self._query_vectors = np.ascontiguousarray(query_vectors, np.float32)
        self._candidate_vectors = np.ascontiguousarray(candidate_vectors, np.float32)
        self._largest = max(largest, np.finfo(np.float32).tiny)
        # Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5: |error| <= gamma_D |x|.|y|, and
        # |x|.|y| <= ||x|| ||y||. Eight more roundings cover gamma's denominator, the rounding to float32, the
        # comparison's own and underflow; twice, because two scores are compared. The largest of several products is no
        # further off than the furthest of them.
        num_roundings = query_vectors.shape[-1] + 8
        self._margins = (2 * num_roundings * (2.0**-24 * largest * query_norms + 2.0**-126)).astype(np.float32)

    def scores(self, positions: Int64Array) -> Float32Array:
        """Rough inner products [B, N]."""
        vectors_BID = self._query_vectors[positions]
        scores_BN = vectors_BID[:, 0] @ self._turned_DN
        for interest in range(1, vectors_BID.shape[1]):
            np.maximum(scores_BN, vectors_BID[:, interest] @ self._turned_DN, out=scores_BN)
        return scores_BN

    def shifted(self, positions: Int64Array) -> ShiftedProducts:
        """Scores of some queries [B], less a number of each one's own, a tile of candidates at a time."""

        def copy(rows: slice, into_TD: Float32Array) -> None:
            into_TD[:] = self._candidate_vectors[rows]

        return ShiftedProducts(copy, self._query_vectors[positions], self._largest)

    @cached_property
    def _turned_DN(self) -> Float32Array:
        """Candidates as a product over all of them reads them fastest."""
        return np.ascontiguousarray(self._candidate_vectors.T)

    def margins(self, positions: Int64Array) -> Float32Array:
        """Twice the error bound of a float32 inner product [B]."""
        return self._margins[positions]

    def exact(self, positions: Int64Array, candidate_rows: Int64Array, rough: Float32Array) -> Float32Array:
        """Inner products in float64, rounded to float32 [P]."""
        exact_P = np.empty(len(rough), np.float32)
        num_pairs = max(1, PAIR_BYTES // (8 * self._query_vectors[0].size))
        for start in range(0, len(rough), num_pairs):
            here = slice(start, start + num_pairs)
            query_PID = self._query_vectors[positions[here]].astype(np.float64)
            candidate_PD = self._candidate_vectors[candidate_rows[here]].astype(np.float64)
            exact_P[here] = np.einsum("pid,pd->pi", query_PID, candidate_PD).max(axis=1)
        return exact_P


@final
class FunctionScorer(Scorer):
    """Scores by any function of the queries' positions, taken as they are."""

    def __init__(self, function: Callable[[Int64Array], Float32Array], num_candidates: int, *, name: str) -> None:
        """Wrap a function.

        Args:
            function: positions [B] -> scores [B, N], finite, a new array each time.
            num_candidates: N.
            name: for the message when a score is not finite.
        """
        self.num_candidates = num_candidates
        self._function = function
        self._name = name

    def scores(self, positions: Int64Array) -> Float32Array:
        """The function's scores [B, N].

        Raises:
            RunError: a score that is not finite.
        """
        scores_BN = self._function(positions)
        assert scores_BN.shape == (len(positions), self.num_candidates) and scores_BN.dtype == np.float32
        if not np.isfinite(scores_BN).all():
            raise RunError(f"{self._name} gives scores that are not finite")
        return scores_BN

    def margins(self, positions: Int64Array) -> Float32Array:
        """Zeros [B]: the scores are exact."""
        return np.zeros(len(positions), np.float32)

    def exact(self, positions: Int64Array, candidate_rows: Int64Array, rough: Float32Array) -> Float32Array:
        """The scores themselves [P]."""
        return rough


def _finite_norms(vectors: Float32Array, side: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Length of each vector, or of the longest of several [E], in float64, where squares of float32 cannot overflow.

    Raises:
        RunError: NaN or infinity.
    """
    norms = np.sqrt(np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64))
    norms = norms.reshape(len(norms), -1).max(axis=1, initial=0.0)
    wrong = np.flatnonzero(~np.isfinite(norms))
    if wrong.size:
        where = first_rows(wrong.tolist(), wrong.size)
        raise RunError(
            f"{side} vectors with values that are not finite ({where}): training diverged, or the weights are damaged"
        )
    return norms
