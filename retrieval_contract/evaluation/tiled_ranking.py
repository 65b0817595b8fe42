"""Exact ranks over a large catalogue: a block's scores are made, compared and forgotten tile by tile, inside the cache.

Whole rows of scores of a million candidates go through memory, and then every comparison is as dear as the product. A
tile's do not. The block's scores come less the score of each query's first relevant candidate, so that comparing with
it is comparing with one number for all queries: three times as fast as one number a query.

Letters: B queries of a block, T candidates of a tile, R relevant candidates of a query, P pairs.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.evaluation.best import come_before
from retrieval_contract.evaluation.best_of_tiles import BestOfTiles
from retrieval_contract.evaluation.large_catalogue import LargeCatalogue
from retrieval_contract.evaluation.marks import Marks
from retrieval_contract.evaluation.scorers import VectorScorer
from retrieval_contract.evaluation.shifted_products import MARGINS
from retrieval_contract.evaluation.tiles import CANDIDATES

MOST_ADDED = 255
"""Tiles whose comparisons are added, eight booleans as the bytes of a word, before a byte can overflow."""
MOST_NEAR = 100_000
"""Pairs within the margin that are settled together."""


@dataclass
class _Counter:
    """Counts who is ahead of one relevant candidate of each of the block's first queries."""

    positions: Int64Array
    """The scorer's queries [B]."""
    rows: Int32Array
    """Their relevant candidates [B]."""
    own: Float32Array
    """Exact scores of these [B]."""
    between: tuple[Float32Array, Float32Array]
    """Scores above the one are ahead, below the other are not: scalars, or [B, 1]."""
    ahead: Int64Array
    """So far [B]."""
    near: Marks = field(default_factory=lambda: Marks(CANDIDATES))
    """Pairs in between, to be settled."""

    def __post_init__(self) -> None:
        self._sums = np.zeros((len(self.rows), CANDIDATES // 8), np.uint64)
        self._num_added = 0

    def add(self, scores_BT: Float32Array, first_row: int, rooms: tuple[BoolArray, BoolArray]) -> None:
        """Compare a tile."""
        above_BT, reached_BT = (room[: len(self.rows)] for room in rooms)
        scores_BT = scores_BT[: len(self.rows)]
        np.greater(scores_BT, self.between[0], out=above_BT)
        np.greater_equal(scores_BT, self.between[1], out=reached_BT)
        self._sums += above_BT.view(np.uint64)
        self._num_added += 1
        if self._num_added == MOST_ADDED:
            self._count()
        np.bitwise_xor(above_BT, reached_BT, out=reached_BT)
        self.near.add(reached_BT, first_row)

    def _count(self) -> None:
        """Bring the sums of bytes to account."""
        self.ahead += self._sums.view(np.uint8).sum(axis=1, dtype=np.int64)
        self._sums[:] = 0
        self._num_added = 0

    def settle(self, scorer: VectorScorer) -> None:
        """Count who is ahead in exact scores among those in between, or equal and of a smaller row."""
        self._count()
        at_P, rows_P, _ = self.near.take()
        exact_P = scorer.exact(self.positions[at_P], rows_P, np.empty(len(at_P), np.float32))
        ahead_P = come_before(exact_P, rows_P, self.own[at_P], self.rows[at_P])
        self.ahead += np.bincount(at_P[ahead_P], minlength=len(self.ahead))


@final
class TiledRanking:
    """Ranks of a block's relevant candidates, and its best."""

    def __init__(self, catalogue: LargeCatalogue) -> None:
        """Take what is the same for all blocks."""
        self._catalogue = catalogue

    def rank(self, positions: Int64Array, ranks: Int64Array) -> Int32Array:
        """Rank one block.

        Args:
            positions: its queries [B], with falling numbers of relevant candidates.
            ranks: where to write the ranks, in the order of `relevant.indices`.

        Returns:
            The best candidates [B, K], -1 where the exclusions leave fewer; K is 0 where none are asked for.
        """
        catalogue, scorer = self._catalogue, self._catalogue.scorer
        margins_B, products = MARGINS * scorer.margins(positions), scorer.shifted(positions)
        places, counters = self._counters(positions, margins_B)
        shift_B = np.zeros(len(positions), np.float32)
        if counters:
            shift_B[: len(counters[0].own)] = counters[0].own
        products.take_off(shift_B)
        tiles, best = catalogue.tiles(positions, products.fill), None
        if catalogue.num_best:
            lowest_B, exact = products.lowest_B, catalogue.exact(positions)
            best = BestOfTiles(catalogue.num_best, margins_B, lowest_B, exact, CANDIDATES, shift_B=shift_B)
            best.begin(tiles)
        rooms = np.empty((len(positions), CANDIDATES), np.bool_), np.empty((len(positions), CANDIDATES), np.bool_)
        for first, scores_BT in tiles:
            for counter in counters:
                counter.add(scores_BT, first, rooms)
                if counter.near.size > MOST_NEAR:
                    counter.settle(scorer)
            if best is not None:
                best.add(scores_BT, first)
        for at, counter in zip(places, counters, strict=True):
            counter.settle(scorer)
            ranks[at] = counter.ahead + 1
        return catalogue.in_order(positions, best)

    def _counters(self, positions: Int64Array, margins_B: Float32Array) -> tuple[list[Int64Array], list[_Counter]]:
        """For the first, second, ... relevant candidates: their places in `relevant.indices`, and a counter."""
        relevant = self._catalogue.relevant
        starts = relevant.indptr[positions].astype(np.int64)
        counts = relevant.indptr[positions + 1] - starts
        places: list[Int64Array] = []
        counters: list[_Counter] = []
        for nth in range(counts[0]):
            more = int(np.searchsorted(-counts, -nth))
            at, here = starts[:more] + nth, positions[:more]
            rows, own = relevant.indices[at], self._catalogue.own[at]
            margin = margins_B[:more].max() if nth == 0 else margins_B[:more, None]
            off = np.float32(0) if nth == 0 else (own - counters[0].own[:more])[:, None]
            counters.append(_Counter(here, rows, own, (off + margin, off - margin), np.zeros(more, np.int64)))
            places.append(at)
        return places, counters
