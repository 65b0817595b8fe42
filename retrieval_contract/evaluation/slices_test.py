"""Which pairs belong to which slice."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from retrieval_contract.evaluation.slices import chance, head_candidates, slice_pairs


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


@pytest.mark.parametrize(("num_relevant", "num_ranked"), [(1, 5), (2, 5), (3, 4), (4, 4)])
def test_chance_is_the_mean_over_all_orders(num_relevant, num_ranked):
    orders = list(itertools.permutations(range(num_ranked)))
    found = chance(np.array([num_relevant]), np.array([num_ranked]), (1, 2, 4))
    for k in (1, 2, 4):
        hits = np.array([sum(place < num_relevant for place in order[:k]) for order in orders])
        assert found[f"recall@{k}"] == pytest.approx((hits / num_relevant).mean()), k
        assert found[f"hit_rate@{k}"] == pytest.approx((hits > 0).mean()), k


def test_chance_is_a_mean_over_queries_and_stays_finite_in_large_catalogues():
    found = chance(np.array([1, 3]), np.array([100, 50]), (10,))
    assert found["recall@10"] == pytest.approx((0.1 + 0.2) / 2)
    large = chance(np.array([1]), np.array([5_000_000]), (100,))
    assert large["hit_rate@100"] == pytest.approx(large["recall@100"], rel=1e-6)
