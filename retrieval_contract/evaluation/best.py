"""The best K candidates of each query in exact order, ties by the smaller row, without sorting the catalogue.

Letters: B queries of a block, N candidates, W the same padded for counting, M candidates that may be among the best, K
results, P pairs of query and candidate.
"""

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.evaluation.counting import count_true, within
from retrieval_contract.evaluation.scorers import Scorer

MOST_TOGETHER = 2_000_000
"""Sorting keys of a block at once; a block with more of them (a model that scores all alike) goes query by query."""
NOBODY = np.iinfo(np.int64).max
"""Sorting key behind all others."""


def best_rows(
    scorer: Scorer, positions: Int64Array, scores_BN: Float32Array, margins_B: Float32Array, k: int, room_BW: BoolArray
) -> Int32Array:
    """Find the best K.

    Args:
        scorer: gives exact scores where rough ones are too near each other.
        positions: the scorer's queries [B].
        scores_BN: rough scores, -inf where excluded.
        margins_B: the scorer's margins.
        k: K, from 1 to N.
        room_BW: from `countable`; overwritten.

    Returns:
        Candidate rows [B, K], best first; -1 where the exclusions leave fewer.
    """
    low_B = lower_bound(scores_BN, k) - margins_B
    np.greater_equal(scores_BN, low_B[:, None], out=room_BW[:, : scores_BN.shape[1]])
    num_possible_B = count_true(room_BW)
    together = len(positions) if num_possible_B.max() * len(positions) <= MOST_TOGETHER else 1
    parts = [slice(start, start + together) for start in range(0, len(positions), together)]
    return np.concatenate(
        [
            _sort(scorer, positions[part], scores_BN[part], margins_B[part], k, room_BW[part], num_possible_B[part])
            for part in parts
        ]
    )


def lower_bound(scores_BN: Float32Array, k: int) -> Float32Array:
    """A number not above the K-th best score, and not far below it [B].

    The K-th best of any K or more of the scores will do. Halving the width by pairwise maxima keeps good ones, and
    makes the selection several times cheaper than among all.
    """
    while scores_BN.shape[1] >= 8 * k:
        half = scores_BN.shape[1] // 2
        scores_BN = np.maximum(scores_BN[:, :half], scores_BN[:, half : 2 * half])
    place = scores_BN.shape[1] - k
    return np.partition(scores_BN, place, axis=1)[:, place]


def _sort(
    scorer: Scorer,
    positions: Int64Array,
    scores_BN: Float32Array,
    margins_B: Float32Array,
    k: int,
    room_BW: BoolArray,
    num_possible_B: Int64Array,
) -> Int32Array:
    """Order the possible candidates, and keep the best K [B, K]."""
    at = np.repeat(np.arange(len(positions)), num_possible_B)
    rows = np.flatnonzero(room_BW) - at * room_BW.shape[1]
    keys_BM = np.full((len(positions), num_possible_B.max()), NOBODY)
    keys_BM[at, within(num_possible_B)] = _keys(scores_BN[at, rows], rows)
    keys_BM.sort(axis=1)
    if margins_B.any():
        _settle(scorer, positions, scores_BN, margins_B, keys_BM)
    best_BK = _rows(keys_BM[:, :k]).astype(np.int32)
    best_BK[np.take_along_axis(scores_BN, best_BK, axis=1) == -np.inf] = -1
    return best_BK


def order_exactly(at_P: Int64Array, rows_P: Int64Array, exact_P: Float32Array, k: int, num_queries: int) -> Int32Array:
    """Order candidates whose exact scores are known.

    Args:
        at_P: place of each pair's query, ascending.
        rows_P: its candidate.
        exact_P: its score, finite.
        k: K.
        num_queries: B.

    Returns:
        Candidate rows [B, K], best first, ties by the smaller row; -1 where there are fewer.
    """
    counts_B = np.bincount(at_P, minlength=num_queries)
    keys_BM = np.full((num_queries, max(k, counts_B.max(initial=0))), NOBODY)
    keys_BM[at_P, within(counts_B)] = _keys(exact_P, rows_P)
    keys_BM.sort(axis=1)
    return np.where(keys_BM[:, :k] == NOBODY, -1, _rows(keys_BM[:, :k])).astype(np.int32)


def come_before(
    scores_P: Float32Array,
    rows_P: Int64Array | Int32Array,
    other_scores_P: Float32Array,
    other_rows_P: Int64Array | Int32Array,
) -> BoolArray:
    """Whether each candidate is ranked before another: by a greater exact score, or an equal one and a smaller row."""
    return (scores_P > other_scores_P) | ((scores_P == other_scores_P) & (rows_P < other_rows_P))


def _settle(
    scorer: Scorer, positions: Int64Array, scores_BN: Float32Array, margins_B: Float32Array, keys_BM: Int64Array
) -> None:
    """Give exact scores to neighbours in the rough order that are within the margin, and sort anew."""
    possible_BM = keys_BM != NOBODY
    rows_BM = np.where(possible_BM, _rows(keys_BM), 0)
    rough_BM = np.where(possible_BM, np.take_along_axis(scores_BN, rows_BM, axis=1), -np.inf)
    # -inf, excluded or nobody, comes last: only its own difference is NaN, and NaN is not within the margin.
    with np.errstate(invalid="ignore"):
        close_BM = rough_BM[:, :-1] - rough_BM[:, 1:] <= margins_B[:, None]
    unsettled_BM = np.zeros(keys_BM.shape, np.bool_)
    unsettled_BM[:, :-1] = close_BM
    unsettled_BM[:, 1:] |= close_BM
    at, places = np.nonzero(unsettled_BM)
    rows = rows_BM[at, places]
    keys_BM[at, places] = _keys(scorer.exact(positions[at], rows, rough_BM[at, places]), rows)
    touched = np.unique(at)
    keys_BM[touched] = np.sort(keys_BM[touched], axis=1)


def _keys(scores_P: Float32Array, rows_P: Int64Array) -> Int64Array:
    """Integers that ascend as scores fall, and then as rows ascend: the score's bits above, the row below."""
    # Adding 0 makes -0.0 the 0.0 that it is equal to. A negative number's bits ascend as it falls: flip all but one.
    bits_P = (scores_P + np.float32(0)).view(np.int32)
    ascending_P = bits_P ^ ((bits_P >> 31) & np.int32(0x7FFFFFFF))
    return ((~ascending_P).astype(np.int64) << 32) | rows_P


def _rows(keys: Int64Array) -> Int64Array:
    """The row that a key ends in."""
    return keys & 0xFFFFFFFF
