"""Products of a block's queries with a tile of candidates, less a number of each query's own.

The number is one more element of the vectors, so it costs no pass over the scores; and comparing all of them with it is
comparing with 0, three times as fast as with one number a query.

Letters: B queries of a block, I vectors of a query, T candidates of a tile, D vector width, E = D + 1.
"""

from collections.abc import Callable
from typing import final

import numpy as np

from retrieval_contract.arrays import Float32Array
from retrieval_contract.evaluation.tiles import CANDIDATES

MARGINS = 2.5
"""What products and numbers of twice their size take the margins of plain products times: vectors one element longer,
of at most twice the product of the norms, and three roundings more are (D + 2.5) / (D + 8) * 2 at most."""

TINY = float(np.finfo(np.float32).tiny)
"""Stands for a norm of 0."""

Copy = Callable[[slice, Float32Array], None]
"""Writes the vectors of some candidate rows into an array [T, D]."""


@final
class ShiftedProducts:
    """Scores less `shift`; of several vectors of a query the best."""

    def __init__(self, copy: Copy, vectors_BID: Float32Array, largest_norm: float) -> None:
        """Begin with nothing taken off.

        Args:
            copy: gives candidate vectors.
            vectors_BID: query vectors.
            largest_norm: of any candidate vector.
        """
        self._copy = copy
        # As large as a candidate's other elements together, so that it costs no more digits than they do.
        self._largest = np.float32(max(largest_norm, TINY))
        num_queries, num_vectors, dim = vectors_BID.shape
        self._queries_IBE = np.zeros((num_vectors, num_queries, dim + 1), np.float32)
        self._queries_IBE[:, :, :dim] = vectors_BID.transpose(1, 0, 2)
        self._tile_TE = np.full((CANDIDATES, dim + 1), self._largest, np.float32)
        norms_BI = np.sqrt(np.einsum("bid,bid->bi", vectors_BID, vectors_BID, dtype=np.float64))
        self.lowest_B = (-norms_BI.max(axis=1) * largest_norm).astype(np.float32)
        """No score is below it by more than rounding [B]."""

    def take_off(self, shift_B: Float32Array) -> None:
        """Say what the next scores come less of; no further from 0 than a score can be."""
        self._queries_IBE[:, :, -1] = -shift_B / self._largest

    def fill(self, rows: slice, scores_BT: Float32Array) -> None:
        """Compute the scores of some candidate rows, `CANDIDATES` at most."""
        tile_TE = self._tile_TE[: scores_BT.shape[1]]
        self._copy(rows, tile_TE[:, :-1])
        np.matmul(self._queries_IBE[0], tile_TE.T, out=scores_BT)
        for query_BE in self._queries_IBE[1:]:
            np.maximum(scores_BT, query_BE @ tile_TE.T, out=scores_BT)
