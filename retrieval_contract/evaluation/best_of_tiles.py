"""The candidates that can be among the best K of some queries, found while their scores go by tile after tile.

Whole rows of scores over a large catalogue do not fit a cache, and selecting among them costs more than the matrix
product that made them. Here a score is compared once with the best lower bound so far of the K-th best; what passes is
kept, and the bound rises as better ones come.

Letters: B queries of a block, T candidates of a tile, K results, M candidates held for a query, P pairs held.
"""

from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.evaluation.best import lower_bound
from retrieval_contract.evaluation.counting import within
from retrieval_contract.evaluation.marks import Marks, Pairs
from retrieval_contract.evaluation.tiles import Tiles

MOST_HELD = 1_000_000
"""Pairs held at once; more than this are within the margin of the K-th best only in a model that scores alike."""
GROWTH = 2
"""Pairs held, in multiples of K a query, before the bound is raised."""
LEAST_NEW = 50_000
"""Pairs before the bound is raised, at least."""

Exact = Callable[[Int64Array, Int64Array, Float32Array], Float32Array]
"""Places in the block [P], candidate rows [P], rough scores [P] -> exact scores [P]."""
Seen = Callable[[Int64Array, Int64Array, Float32Array], None]
"""Places in the block, candidate rows and rough scores, each [P]."""


@final
class BestOfTiles:
    """What has been seen of a block's queries and can still be among their best K."""

    def __init__(
        self,
        k: int,
        margins_B: Float32Array,
        lowest_B: Float32Array,
        exact: Exact,
        width: int,
        *,
        shift_B: Float32Array | None = None,
        watched: tuple[Float32Array, Seen] | None = None,
    ) -> None:
        """Begin before the first tile.

        Args:
            k: results a query; 0 where only what is watched counts.
            margins_B: differences of rough scores above which exact ones differ the same way.
            lowest_B: no score is below by more than the margin.
            exact: gives exact scores.
            width: candidates T of a tile, a power of 2 from 8.
            shift_B: what the scores of all tiles come less of; by default that follows the bounds.
            watched: a score of each query [B], and who is told, once, of every candidate that reaches it, and of some
                that do not.
        """
        self._k, self._margins_B, self._exact = k, margins_B, exact
        self._ceiling_B = watched[0] if watched else np.full(len(margins_B), np.inf, np.float32)
        self._seen = watched[1] if watched else None
        self._low_B = lowest_B - margins_B if k else np.full(len(margins_B), np.inf, np.float32)
        self._follows = shift_B is None
        self.shift_B = np.minimum(self._low_B, self._ceiling_B) if shift_B is None else shift_B
        """What the scores of the next tile are to come less of [B]."""
        self._room_BT = np.empty((len(margins_B), width), np.bool_)
        none = np.empty(0, np.int64)
        self._held: Pairs = (none, none, np.empty(0, np.float32))
        self._new, self._limit = Marks(width), max(GROWTH * k * len(margins_B), LEAST_NEW)

    def look_at(self, tiles: Tiles, take_off: Callable[[Float32Array], None]) -> None:
        """Look at all tiles.

        Args:
            tiles: of the block.
            take_off: told `shift_B` before each tile that it has changed for.
        """
        take_off(self.shift_B)
        self.begin(tiles)
        take_off(self.shift_B)
        for first_row, scores_BT in tiles:
            if self.add(scores_BT, first_row):
                take_off(self.shift_B)

    def begin(self, tiles: Tiles) -> None:
        """Take a first bound from the best of the first tiles at each place: distinct candidates, so it will do."""
        best_BT: Float32Array | None = None
        for _, scores_BT in tiles.first():
            best_BT = scores_BT.copy() if best_BT is None else np.maximum(best_BT, scores_BT, out=best_BT)
        if best_BT is not None and 0 < self._k <= best_BT.shape[1]:
            self._raise_to(lower_bound(best_BT, self._k) + self.shift_B)
            self._follow()

    def add(self, scores_BT: Float32Array, first_row: int) -> bool:
        """Look at the next tile.

        Args:
            scores_BT: rough scores less `shift_B`, contiguous; -inf where excluded.
            first_row: candidate row of its first column.

        Returns:
            Whether `shift_B` has changed.
        """
        least = np.float32(0) if self._follows else (self._low_B - self.shift_B)[:, None]
        np.greater_equal(scores_BT, least, out=self._room_BT)
        self._new.add(self._room_BT, first_row, scores_BT)
        if len(self._held[0]) + self._new.size <= self._limit:
            return False
        self._tighten()
        self._follow()
        return self._follows

    def possible(self) -> Pairs:
        """All pairs that can be among the best, by place."""
        self._tighten()
        return self._held

    def _follow(self) -> None:
        if self._follows:
            self.shift_B = np.minimum(self._low_B, self._ceiling_B)

    def _take_in(self) -> None:
        """Show what is new, and hold by place what can be among the best."""
        at_P, rows_P, scores_P = self._new.take()
        scores_P += self.shift_B[at_P]
        if self._seen is not None:
            self._seen(at_P, rows_P, scores_P)
            # What was watched only: with it one query's many would make the selection among all slow.
            kept_P = scores_P >= self._low_B[at_P]
            at_P, rows_P, scores_P = at_P[kept_P], rows_P[kept_P], scores_P[kept_P]
        held = self._held
        at_P, rows_P = np.concatenate([held[0], at_P]), np.concatenate([held[1], rows_P])
        scores_P = np.concatenate([held[2], scores_P])
        # Of 16 bits, because that is sorted by radix.
        order = np.argsort(at_P.astype(np.uint16), kind="stable")
        self._held = at_P[order], rows_P[order], scores_P[order]

    def _tighten(self) -> None:
        """Raise the bounds to the K-th best so far, and let go of what is below."""
        self._take_in()
        at_P, rows_P, scores_P = self._held
        if self._k:
            self._raise_to(_kth(at_P, scores_P, self._k, len(self._low_B)))
        kept_P = scores_P >= self._low_B[at_P]
        if np.count_nonzero(kept_P) > max(MOST_HELD, self._limit // GROWTH * 2):
            kept_P[kept_P] = self._settled(at_P[kept_P], rows_P[kept_P], scores_P[kept_P])
        self._held = at_P[kept_P], rows_P[kept_P], scores_P[kept_P]
        # At least half as many again may come before the next time, however many are tied.
        self._limit = max(self._limit, len(self._held[0]) * 3 // 2)

    def _raise_to(self, kth_B: Float32Array) -> None:
        """Take a K-th best so far: what is further below it than the margin cannot be among the best."""
        np.maximum(self._low_B, kth_B - self._margins_B, out=self._low_B)

    def _settled(self, at_P: Int64Array, rows_P: Int64Array, scores_P: Float32Array) -> BoolArray:
        """Say which pairs [P] are the best K of their query so far by exact score and row."""
        order = np.lexsort((rows_P, -self._exact(at_P, rows_P, scores_P), at_P))
        kept_P = np.zeros(len(at_P), np.bool_)
        kept_P[order[within(np.bincount(at_P)) < self._k]] = True
        return kept_P


def _kth(at_P: Int64Array, scores_P: Float32Array, k: int, num_queries: int) -> Float32Array:
    """K-th best score of each place [B], -inf where there are fewer."""
    num_held = int(np.bincount(at_P).max(initial=0))
    if num_held < k:
        return np.full(num_queries, -np.inf, np.float32)
    scores_BM = np.full((num_queries, num_held), -np.inf, np.float32)
    scores_BM[at_P, within(np.bincount(at_P))] = scores_P
    return np.partition(scores_BM, num_held - k, axis=1)[:, num_held - k]


def padded(at_P: NDArray[np.integer], rows_P: NDArray[np.integer], num_queries: int) -> Int32Array:
    """Candidate rows of places that ascend, a query in each row [B, M], filled with -1."""
    width = int(np.bincount(at_P, minlength=1).max(initial=1))
    rows_BM = np.full((num_queries, max(1, width)), -1, np.int32)
    rows_BM[at_P, within(np.bincount(at_P))] = rows_P
    return rows_BM
