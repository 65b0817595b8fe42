"""What is the same for all blocks of queries that are ranked tile by tile, and what each begins and ends with.

Letters: B queries of a block, Q of all, N candidates, K results, P pairs.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import Float32Array, Int32Array, Int64Array
from retrieval_contract.evaluation.best import order_exactly
from retrieval_contract.evaluation.best_of_tiles import BestOfTiles, Exact
from retrieval_contract.evaluation.scorers import VectorScorer
from retrieval_contract.evaluation.tiles import Fill, Tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeCatalogue:
    """Who is ranked among whom; see `ranking.rank_relevant`."""

    scorer: VectorScorer
    relevant: scipy.sparse.csr_matrix
    """[Q, N]."""
    excluded: scipy.sparse.csr_matrix | None
    own: Float32Array
    """Exact scores of the relevant candidates, in the order of `relevant.indices`."""
    num_best: int
    """K; 0 where none are asked for."""

    def tiles(self, positions: Int64Array, fill: Fill) -> Tiles:
        """Scores of a block's queries [B], the excluded ones left out."""
        excluded = None if self.excluded is None else self.excluded[positions].tocoo().coords
        return Tiles(fill, len(positions), self.scorer.num_candidates, excluded)

    def exact(self, positions: Int64Array) -> Exact:
        """Exact scores of a block's pairs."""

        def scores(at_P: Int64Array, rows_P: Int64Array, rough_P: Float32Array) -> Float32Array:
            return self.scorer.exact(positions[at_P], rows_P, rough_P)

        return scores

    def in_order(self, positions: Int64Array, best: BestOfTiles | None) -> Int32Array:
        """A block's best [B, K], -1 where the exclusions leave fewer."""
        if best is None:
            return np.empty((len(positions), 0), np.int32)
        at_P, rows_P, rough_P = best.possible()
        exact_P = self.exact(positions)(at_P, rows_P, rough_P)
        return order_exactly(at_P, rows_P, exact_P, self.num_best, len(positions))
