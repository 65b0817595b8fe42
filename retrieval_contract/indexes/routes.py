"""Which way a search goes: by the structure's proposals, deeper where much is left out, or over all that is allowed.

Whatever the way, K results come whenever K exist, and none that is excluded or not allowed.

Letters: B queries, N candidates, A allowed ones, D width, K results, M proposals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array, TopK
from retrieval_contract.indexes.brute_force import exact_top_k, rank
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.stored import StoredVectors

Propose = Callable[[Float32Array, int, BoolArray | None], TopK]
DEEP = 8
"""Where this share of the candidates is asked for, one in so many, a structure saves nothing and all are looked at."""
FEW = 10_000
"""Allowed candidates up to which they are simply scored, all of them."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The ways through one index."""

    stored: StoredVectors
    propose: Propose
    """About `depth` candidates a query, with the structure's own scores."""
    masks: bool
    """`propose` returns allowed candidates only, so that it need not be asked for more of them."""

    def search(self, queries_BD: Float32Array, k: int, excluded: Excluded, allowed_N: BoolArray | None) -> TopK:
        """Find the best K of each query.

        Args:
            queries_BD: finite query vectors.
            k: results a query, N at most.
            excluded: pairs to leave out.
            allowed_N: candidates that count, for all these queries; None allows all.
        """
        num_allowed = self.stored.size if allowed_N is None else int(np.count_nonzero(allowed_N))
        if num_allowed == 0 or not len(queries_BD):
            return _nothing(len(queries_BD), k)
        if allowed_N is not None:
            excluded = excluded.within(allowed_N)
        if self.stored.kind == "none":
            return self._by_structure(queries_BD, k, excluded, allowed_N, num_allowed)
        if allowed_N is not None and num_allowed <= FEW:
            return self._exact(queries_BD, k, excluded, allowed_N, num_allowed)
        return self._each_depth(queries_BD, k, excluded, allowed_N, num_allowed)

    def _each_depth(
        self, queries_BD: Float32Array, k: int, excluded: Excluded, allowed_N: BoolArray | None, num_allowed: int
    ) -> TopK:
        """Search queries with about as many exclusions together."""
        depths_B = self._depths(k + 1 + excluded.counts, num_allowed)
        first = int(depths_B[0])
        if (depths_B == first).all():
            return self._to_depth(first, queries_BD, k, excluded, allowed_N, num_allowed)
        top = _nothing(len(queries_BD), k)
        for depth in np.unique(depths_B):
            at = np.flatnonzero(depths_B == depth)
            found = self._to_depth(int(depth), queries_BD[at], k, excluded.at(at), allowed_N, num_allowed)
            top.rows[at], top.scores[at] = found.rows, found.scores
        return top

    def _depths(self, wanted_B: Int64Array, num_allowed: int) -> Int64Array:
        """Proposals to ask for: more where only some are allowed and the structure does not know which."""
        wanted = wanted_B if self.masks else wanted_B * (self.stored.size / num_allowed)
        # Powers of two: a handful of calls however unequal the queries' exclusions are, and some slack to see ties by.
        return np.asarray(2 ** np.ceil(np.log2(wanted)), np.int64)

    def _to_depth(
        self,
        depth: int,
        queries_BD: Float32Array,
        k: int,
        excluded: Excluded,
        allowed_N: BoolArray | None,
        num_allowed: int,
    ) -> TopK:
        if DEEP * depth >= (num_allowed if self.masks else self.stored.size):
            return self._exact(queries_BD, k, excluded, allowed_N, num_allowed)
        rows_BM = _allowed_rows(self.propose(queries_BD, depth, allowed_N).rows, allowed_N)
        top, settled_B = rank(self.stored, queries_BD, rows_BM, k, excluded, num_allowed=num_allowed)
        open_places = np.flatnonzero(~settled_B)
        if open_places.size:
            again = self._exact(queries_BD[open_places], k, excluded.at(open_places), allowed_N, num_allowed)
            top.rows[open_places], top.scores[open_places] = again.rows, again.scores
        return top

    def _exact(
        self, queries_BD: Float32Array, k: int, excluded: Excluded, allowed_N: BoolArray | None, num_allowed: int
    ) -> TopK:
        """Look at all that is allowed: at a copy of it where that is the smaller part."""
        if allowed_N is None or 2 * num_allowed > self.stored.size:
            return exact_top_k(self.stored, queries_BD, k, excluded, allowed_N)
        rows_A = np.flatnonzero(allowed_N)
        part = StoredVectors.keep(self.stored.take(rows_A), "float32")
        found = exact_top_k(part, queries_BD, min(k, num_allowed), excluded.among(rows_A))
        top = _nothing(len(queries_BD), k)
        top.rows[:, : found.rows.shape[1]] = np.where(found.rows >= 0, rows_A[found.rows], -1)
        top.scores[:, : found.rows.shape[1]] = found.scores
        return top

    def _by_structure(
        self, queries_BD: Float32Array, k: int, excluded: Excluded, allowed_N: BoolArray | None, num_allowed: int
    ) -> TopK:
        """Without stored vectors the structure's scores stand; where too few are left, it is asked for all."""
        depths_B = np.minimum(self._depths(k + excluded.counts, num_allowed), self.stored.size)
        depth = int(depths_B.max(initial=1))
        while True:
            proposed = self.propose(queries_BD, depth, allowed_N)
            top = _best_of(proposed, k, excluded, allowed_N)
            short = (top.rows >= 0).sum(axis=1) < np.minimum(k, num_allowed - excluded.counts)
            if depth >= self.stored.size or not short.any():
                return top
            depth = min(8 * depth, self.stored.size)


def _nothing(num_queries: int, k: int) -> TopK:
    return TopK(rows=np.full((num_queries, k), -1, np.int32), scores=np.full((num_queries, k), -np.inf, np.float32))


def _allowed_rows(rows_BM: Int32Array, allowed_N: BoolArray | None) -> Int32Array:
    """The proposals, -1 in place of those that are not allowed."""
    if allowed_N is None:
        return rows_BM
    return np.where((rows_BM >= 0) & allowed_N[rows_BM], rows_BM, -1)


def _best_of(proposed: TopK, k: int, excluded: Excluded, allowed_N: BoolArray | None) -> TopK:
    """The best K of what is proposed by the scores that came with it, each once, ties by the smaller row."""
    rows_BM = _allowed_rows(proposed.rows, allowed_N)
    order_BM = np.lexsort((-proposed.scores, rows_BM), axis=1)
    rows_BM = np.take_along_axis(rows_BM, order_BM, axis=1)
    scores_BM = np.take_along_axis(proposed.scores, order_BM, axis=1)
    out_BM = excluded.contains(rows_BM) | (rows_BM < 0)
    out_BM[:, 1:] |= rows_BM[:, 1:] == rows_BM[:, :-1]
    rows_BM, scores_BM = np.where(out_BM, -1, rows_BM), np.where(out_BM, -np.inf, scores_BM)
    order_BK = np.argsort(-scores_BM, axis=1, kind="stable")[:, :k]
    top = _nothing(len(rows_BM), k)
    top.rows[:, : order_BK.shape[1]] = np.take_along_axis(rows_BM, order_BK, axis=1)
    top.scores[:, : order_BK.shape[1]] = np.take_along_axis(scores_BM, order_BK, axis=1)
    return top
