"""The true neighbours, found by scoring everything in float64, candidates coming by chunks: independent of any index.

Letters: N candidates, C of a chunk, Q queries, D width, T true rows.
"""

from typing import final

import numpy as np

from retrieval_contract.arrays import Float32Array, Int32Array

CHUNK = 16_384
"""Candidates scored at once."""


@final
class Truth:
    """The best T so far: inner products in float64 rounded to float32, ties by the smaller row."""

    def __init__(self, queries_QD: Float32Array, depth: int) -> None:
        """Begin with no candidates.

        Args:
            queries_QD: what is asked.
            depth: T.
        """
        self._queries = queries_QD.astype(np.float64)
        self._seen = 0
        self._rows = np.full((len(queries_QD), depth), -1, np.int32)
        self._scores = np.full((len(queries_QD), depth), -np.inf, np.float32)

    def add(self, values_ND: Float32Array) -> None:
        """Look at more candidates, whose rows go on from the last."""
        for start in range(0, len(values_ND), CHUNK):
            self._look(values_ND[start : start + CHUNK])

    @property
    def rows(self) -> Int32Array:
        """Of what was added, best first [Q, T]; -1 where there are fewer."""
        return self._rows

    def _look(self, values_CD: Float32Array) -> None:
        scores_QC = (self._queries @ values_CD.T.astype(np.float64)).astype(np.float32)
        better_QC = scores_QC > self._scores[:, -1:]
        for place in np.flatnonzero(better_QC.any(axis=1)):
            columns = np.flatnonzero(better_QC[place])
            rows = np.concatenate([self._rows[place], (self._seen + columns).astype(np.int32)])
            scores = np.concatenate([self._scores[place], scores_QC[place, columns]])
            # Earlier rows come first, so a stable sort breaks ties by the smaller row.
            kept = np.argsort(-scores, kind="stable")[: self._rows.shape[1]]
            self._rows[place], self._scores[place] = rows[kept], scores[kept]
        self._seen += len(values_CD)


def true_rows(values_ND: Float32Array, queries_QD: Float32Array, depth: int) -> Int32Array:
    """The T candidates with the largest inner product of each query, best first [Q, T]."""
    truth = Truth(queries_QD, depth)
    truth.add(values_ND)
    return truth.rows
