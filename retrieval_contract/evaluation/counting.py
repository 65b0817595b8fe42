"""Count True along rows of a comparison, eight at a time; number what stands in groups.

Letters: B queries of a block, N candidates, W bytes of a padded row, G groups, P places.
"""

import numpy as np

from retrieval_contract.arrays import BoolArray, Int64Array

WORDS_IN_ONE = 255
"""Words of eight bytes that can be added before a byte of the sum can overflow."""
WORDS_IN_MANY = 128


def countable(num_queries: int, num_candidates: int) -> BoolArray:
    """Room [B, W] to compare in, False; the comparison goes to the first N columns, the others stay False."""
    words = -(-num_candidates // 8)
    if words > WORDS_IN_ONE:
        words = -(-words // WORDS_IN_MANY) * WORDS_IN_MANY
    return np.zeros((num_queries, 8 * words), np.bool_)


def count_true(room_BW: BoolArray) -> Int64Array:
    """Count True in every row [B].

    Eight neighbouring booleans are added as the bytes of one 64-bit word: several times as fast as `np.count_nonzero`
    along an axis, which casts every byte first.
    """
    words = room_BW.shape[1] // 8
    group = words if words <= WORDS_IN_ONE else WORDS_IN_MANY
    sums = np.add.reduce(room_BW.view(np.uint64).reshape(len(room_BW), words // group, group), axis=2)
    return sums.view(np.uint8).sum(axis=1, dtype=np.int64)


def within(counts_G: Int64Array) -> Int64Array:
    """Number the places of groups that stand one after the other, each from 0 [P]."""
    starts_G = np.cumsum(counts_G) - counts_G
    return np.arange(counts_G.sum()) - np.repeat(starts_G, counts_G)
