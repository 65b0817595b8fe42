"""Does a structure that took updates in still find what it should?

Letters: B queries, N candidates, D width, K results.
"""

from collections import deque

import numpy as np

from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.indexes.protocol import Index

NUM_QUERIES = 256
"""Queries that are remembered, the last ones, and asked again."""
FEWEST = 64
"""With fewer than this many, vectors of candidates stand in for queries."""


class RecentQueries:
    """The last queries that were asked, as vectors alone."""

    def __init__(self) -> None:
        self._vectors: deque[Float32Array] = deque(maxlen=NUM_QUERIES)

    def note(self, queries: Float32Array) -> None:
        """Remember queries [B, D]; of [B, I, D], the first vector of each."""
        firsts = queries if queries.ndim == 2 else queries[:, 0]
        self._vectors.extend(np.array(firsts[-NUM_QUERIES:], np.float32))

    def taken(self, index: Index) -> Float32Array:
        """What to ask [B, D]: the remembered queries, or candidates of the index where there are few."""
        vectors = list(self._vectors)
        if len(vectors) >= FEWEST:
            return np.stack(vectors)
        rows = _living_rows(index)
        chosen = np.random.default_rng(0).choice(rows, min(NUM_QUERIES, len(rows)), replace=False)
        return index.vectors(np.sort(chosen).astype(np.int32))


def num_wanted(index: Index) -> int:
    """A hundred; fewer in a small index."""
    return max(1, min(100, index.num_living // 40))


def recall(index: Index, queries_BD: Float32Array, found_BK: Int64Array | None = None) -> float:
    """Share of the best `num_wanted` candidates that a search finds, or that stand in rows found otherwise."""
    k = num_wanted(index)
    if found_BK is None:
        found_BK = index.search(queries_BD, k, weights_digest=index.weights_digest).rows.astype(np.int64)
    best_BK = index.best(queries_BD, k).rows
    return float((best_BK[:, :, None] == found_BK[:, None, :]).any(axis=2).mean())


def _living_rows(index: Index) -> Int64Array:
    return np.arange(index.size) if index.living_N is None else np.flatnonzero(index.living_N)
