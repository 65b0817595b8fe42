"""Scores of a block of queries against a large catalogue, a tile of candidates at a time, inside a core's cache.

Letters: B queries of a block, T candidates of a tile, N candidates, P excluded pairs.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array, Int64Array

QUERIES, CANDIDATES = 512, 512
"""Of a tile: a megabyte of scores, about a core's own cache. With half as many queries the product itself is slower,
with half as many candidates what is done with it."""
BYTES_A_BLOCK = 16_000_000
"""Memory of a block at work, what its tiles leave to be settled included."""
LEAST_TILED, LEAST_TILED_BEST = 16_384, 64
"""Candidates from which on tiles are faster than whole rows of scores: at least, and for each of the best K."""

Fill = Callable[[slice, Float32Array], None]
"""Computes the scores of some candidate rows into an array [B, T]."""


def are_worth_it(num_candidates: int, num_best: int) -> bool:
    """Whether whole rows of scores would leave the cache, and few of a tile's can be among the best."""
    return num_candidates >= max(LEAST_TILED, LEAST_TILED_BEST * num_best)


def each_tile(
    fill: Fill,
    num_queries: int,
    num_candidates: int,
    excluded: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
) -> Iterator[tuple[int, Float32Array]]:
    """Compute every tile once, in an order that a catalogue sorted by score cannot make slow.

    Args:
        fill: computes scores.
        num_queries: B.
        num_candidates: N.
        excluded: place of the query and candidate row of what is left out, each [P].

    Yields:
        The first candidate's row, and scores [B, T], overwritten by the next: -inf where excluded, and in columns
        beyond the last candidate.
    """
    num_tiles = -(-num_candidates // CANDIDATES)
    at_P, rows_P, starts = _by_tile(excluded, num_tiles)
    scores_BT = np.empty((num_queries, CANDIDATES), np.float32)
    for number in np.random.default_rng(0).permutation(num_tiles).tolist():
        first = number * CANDIDATES
        width = min(CANDIDATES, num_candidates - first)
        fill(slice(first, first + width), scores_BT[:, :width])
        scores_BT[:, width:] = -np.inf
        here = slice(starts[number], starts[number + 1])
        if here.start < here.stop:
            scores_BT[at_P[here], rows_P[here] - first] = -np.inf
        yield first, scores_BT


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
