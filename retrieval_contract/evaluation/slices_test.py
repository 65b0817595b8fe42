"""Which pairs belong to which slice."""

import numpy as np
import scipy.sparse

from retrieval_contract.evaluation.slices import head_candidates, slice_pairs


def test_slices_by_hand():
    # Query 1 has no train row; candidate 3 neither. Candidate 2 has a train row that is no positive.
    seen = scipy.sparse.csr_matrix(np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]], bool))
    slices = slice_pairs(
        np.array([0, 1, 1, 2]),
        np.array([3, 0, 2, 1], np.int32),
        seen=seen,
        counts=np.array([2, 1, 0, 0]),
        head_fraction=0.25,
    )
    assert {name: members.tolist() for name, members in slices.items()} == {
        "cold_queries": [False, True, True, False],
        "cold_candidates": [True, False, False, False],
        "head": [False, True, False, False],
        "tail": [True, False, True, True],
    }


def test_head_ties_go_to_the_smaller_row_and_hold_one_at_least():
    assert head_candidates(np.array([1, 3, 3, 1, 0]), 0.6).tolist() == [True, True, True, False, False]
    assert head_candidates(np.array([1, 3]), 0.01).tolist() == [False, True]
