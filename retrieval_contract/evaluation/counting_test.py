"""Counting eight at a time is counting."""

import numpy as np
import pytest

from retrieval_contract.evaluation.counting import count_true, countable


@pytest.mark.parametrize("num_candidates", [1, 7, 8, 9, 2_039, 2_040, 2_041, 3_000, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_counts_equal_count_nonzero(num_candidates, share):
    room = countable(3, num_candidates)
    room[:, :num_candidates] = np.random.default_rng(0).random((3, num_candidates)) < share
    np.testing.assert_array_equal(count_true(room), np.count_nonzero(room, axis=1))
    np.testing.assert_array_equal(count_true(room[:2]), np.count_nonzero(room[:2], axis=1))
