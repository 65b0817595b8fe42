"""Exact ranks of relevant candidates that few are ahead of, over a large catalogue: those few are listed, not counted.

A trained model ranks most relevant candidates among the first thousands of a million. Then one comparison of a tile's
scores with one number a query finds all that matters, for the ranks and for the best: the lowest relevant score of the
query, or its bound for the best where that is lower.

Letters: B queries of a block, N candidates, R relevant candidates of a query at most, S of a sample, P pairs.
"""

from typing import final

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.evaluation.best import come_before
from retrieval_contract.evaluation.best_of_tiles import BestOfTiles
from retrieval_contract.evaluation.large_catalogue import LargeCatalogue
from retrieval_contract.evaluation.scorers import VectorScorer
from retrieval_contract.evaluation.shifted_products import MARGINS
from retrieval_contract.evaluation.tiles import CANDIDATES, QUERIES

FEW = 5
"""Candidates of a sample of `CANDIDATES` ahead of a relevant one, from which on counting all is faster."""


def few_are_ahead(scorer: VectorScorer, relevant: scipy.sparse.csr_matrix, own: Float32Array) -> BoolArray:
    """Judge each query by a sample of the catalogue.

    Args:
        scorer: of Q queries and `CANDIDATES` candidates or more.
        relevant: [Q, N].
        own: exact scores of the relevant candidates, in the order of `relevant.indices`.

    Returns:
        Whether listing those ahead of its relevant candidates will be faster than counting them [Q].
    """
    num_queries, step = relevant.shape[0], scorer.num_candidates // CANDIDATES
    sample = slice(0, step * CANDIDATES, step)
    few = np.empty(num_queries, np.bool_)
    for start in range(0, num_queries, QUERIES):
        positions = np.arange(start, min(start + QUERIES, num_queries))
        own_RB, _ = relevant_by_place(relevant, positions, own)
        scores_BS = np.empty((len(positions), CANDIDATES), np.float32)
        scorer.shifted(positions).fill(sample, scores_BS)
        num_ahead_B = (scores_BS > own_RB.min(axis=0, initial=np.inf)[:, None]).sum(axis=1)
        few[positions] = num_ahead_B <= FEW * np.diff(relevant.indptr)[positions]
    return few


def relevant_by_place(
    relevant: scipy.sparse.csr_matrix, positions: Int64Array, own: Float32Array
) -> tuple[Float32Array, Int64Array]:
    """Own scores [R, B] of some queries' relevant candidates, infinite where there are fewer, and their places [R, B].

    Places are those in `relevant.indices`, -1 where there are fewer.
    """
    starts_B, counts_B = relevant.indptr[positions].astype(np.int64), np.diff(relevant.indptr)[positions]
    nth_R1 = np.arange(counts_B.max(initial=0))[:, None]
    places_RB = np.where(nth_R1 < counts_B, starts_B + nth_R1, -1)
    # The number behind the last stands for a candidate that nobody is ahead of.
    return np.append(own, np.float32(np.inf))[places_RB], places_RB


@final
class FewAhead:
    """Ranks of a block's relevant candidates, and its best."""

    def __init__(self, catalogue: LargeCatalogue) -> None:
        """Take what is the same for all blocks."""
        self._catalogue = catalogue

    def rank(self, positions: Int64Array, ranks: Int64Array) -> Int32Array:
        """Rank one block.

        Args:
            positions: its queries [B].
            ranks: where to write the ranks, in the order of `relevant.indices`.

        Returns:
            The best candidates [B, K], -1 where the exclusions leave fewer; K is 0 where none are asked for.
        """
        catalogue, scorer = self._catalogue, self._catalogue.scorer
        margins_B, products = MARGINS * scorer.margins(positions), scorer.shifted(positions)
        ahead = _Ahead(catalogue, positions, margins_B)
        # Where nothing is relevant next to nothing reaches the greatest score that can be.
        lowest_own_B = np.minimum(ahead.own_RB.min(axis=0, initial=np.inf), -products.lowest_B)
        best = BestOfTiles(
            catalogue.num_best,
            margins_B,
            products.lowest_B,
            catalogue.exact(positions),
            CANDIDATES,
            watched=(lowest_own_B - margins_B, ahead.see),
        )
        best.look_at(catalogue.tiles(positions, products.fill), products.take_off)
        best_BK = catalogue.in_order(positions, best)
        ahead.write(ranks)
        return best_BK


@final
class _Ahead:
    """Counts who is ahead of each relevant candidate of a block, among those that it is shown."""

    def __init__(self, catalogue: LargeCatalogue, positions: Int64Array, margins_B: Float32Array) -> None:
        self._exact, self._margins_B = catalogue.exact(positions), margins_B
        self.own_RB, self._places_RB = relevant_by_place(catalogue.relevant, positions, catalogue.own)
        self._rows_RB = catalogue.relevant.indices[self._places_RB]
        self._num_ahead_RB = np.zeros(self.own_RB.shape, np.int64)

    def see(self, at_P: Int64Array, rows_P: Int64Array, scores_P: Float32Array) -> None:
        """Count pairs, each of which comes once; rough scores decide but within the margin."""
        for own_B, rows_B, num_ahead_B in zip(self.own_RB, self._rows_RB, self._num_ahead_RB, strict=True):
            gaps_P, margins_P = scores_P - own_B[at_P], self._margins_B[at_P]
            near = np.flatnonzero(np.abs(gaps_P) <= margins_P)
            at, rows = at_P[near], rows_P[near]
            is_ahead = come_before(self._exact(at, rows, scores_P[near]), rows, own_B[at], rows_B[at])
            for ahead in (at_P[gaps_P > margins_P], at[is_ahead]):
                num_ahead_B += np.bincount(ahead, minlength=len(num_ahead_B))

    def write(self, ranks: Int64Array) -> None:
        """Write the ranks to their places."""
        there_RB = self._places_RB >= 0
        ranks[self._places_RB[there_RB]] = 1 + self._num_ahead_RB[there_RB]
