"""Scores of a block of queries against a large catalogue, a tile of candidates at a time, inside a core's cache.

Letters: B queries of a block, T candidates of a tile, N candidates, P excluded pairs.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import final

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array, Int64Array

QUERIES, CANDIDATES = 768, 512
"""Of a tile: one and a half megabytes of scores. With fewer queries the product itself is slower, with half as many
candidates what is done with it; more queries are no faster."""
MOST_FIRST = 16
"""Tiles that a first bound of the best is taken from."""
BYTES_A_BLOCK = 24_000_000
"""Memory of a block at work, what its tiles leave to be settled included."""
LEAST_TILED, LEAST_TILED_BEST = 16_384, 64
"""Candidates from which on tiles are faster than whole rows of scores: at least, and for each of the best K."""

Fill = Callable[[slice, Float32Array], None]
"""Computes the scores of some candidate rows into an array [B, T]."""


def are_worth_it(num_candidates: int, num_best: int) -> bool:
    """Whether whole rows of scores would leave the cache, and few of a tile's can be among the best."""
    return num_candidates >= max(LEAST_TILED, LEAST_TILED_BEST * num_best)


@final
class Tiles:
    """All tiles, each computed once, in an order that a catalogue sorted by score cannot make slow."""

    def __init__(
        self,
        fill: Fill,
        num_queries: int,
        num_candidates: int,
        excluded: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
    ) -> None:
        """Compute nothing yet.

        Args:
            fill: computes scores.
            num_queries: B.
            num_candidates: N.
            excluded: place of the query and candidate row of what is left out, each [P].
        """
        self._fill, self._num_queries, self._num_candidates = fill, num_queries, num_candidates
        self._num_tiles = -(-num_candidates // CANDIDATES)
        self._at_P, self._rows_P, self._starts = _by_tile(excluded, self._num_tiles)

    def __iter__(self) -> Iterator[tuple[int, Float32Array]]:
        """Compute them.

        Yields:
            The first candidate's row, and scores [B, T], overwritten by the next: -inf where excluded, and in columns
            beyond the last candidate.
        """
        scores_BT = np.empty((self._num_queries, CANDIDATES), np.float32)
        for number in np.random.default_rng(0).permutation(self._num_tiles).tolist():
            first = number * CANDIDATES
            width = min(CANDIDATES, self._num_candidates - first)
            self._fill(slice(first, first + width), scores_BT[:, :width])
            scores_BT[:, width:] = -np.inf
            here = slice(self._starts[number], self._starts[number + 1])
            if here.start < here.stop:
                scores_BT[self._at_P[here], self._rows_P[here] - first] = -np.inf
            yield first, scores_BT

    def first(self) -> Iterator[tuple[int, Float32Array]]:
        """Compute the first of them: so few that it does not matter that all come again."""
        return itertools.islice(self, max(1, min(MOST_FIRST, self._num_tiles // 100)))


def _by_tile(
    excluded: tuple[NDArray[np.integer], NDArray[np.integer]] | None, num_tiles: int
) -> tuple[Int64Array, Int64Array, list[int]]:
    """Excluded pairs by candidate: places [P], rows [P], and where each tile's begin."""
    if excluded is None:
        none = np.empty(0, np.int64)
        return none, none, [0] * (num_tiles + 1)
    order = np.argsort(excluded[1], kind="stable")
    at_P, rows_P = (part[order].astype(np.int64) for part in excluded)
    return at_P, rows_P, np.searchsorted(rows_P, CANDIDATES * np.arange(num_tiles + 1)).tolist()
