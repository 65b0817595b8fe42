import numpy as np
import pytest

from retrieval_contract.sampling.frequency import exact_log_q


def test_values_are_log_shares():
    log_q = exact_log_q(np.array([1, 3, 4], np.int64))
    assert log_q.dtype == np.float32
    np.testing.assert_allclose(log_q, [-2.0794415, -0.98082925, -0.6931472], rtol=1e-7)


def test_probabilities_of_drawn_candidates_sum_to_one():
    counts = np.array([7, 0, 1, 0, 12], np.int64)
    log_q = exact_log_q(counts)
    np.testing.assert_allclose(np.exp(log_q[counts > 0]).sum(), 1, rtol=1e-6)


def test_candidates_never_drawn_hold_a_finite_zero():
    assert exact_log_q(np.array([0, 5], np.int64)).tolist() == [0.0, 0.0]


def test_a_very_rare_candidate_is_not_clipped():
    log_q = exact_log_q(np.array([1, 10**9 - 1], np.int64))
    np.testing.assert_allclose(log_q[0], -9 * np.log(10), rtol=1e-6)


@pytest.mark.parametrize("counts", [[0, 0], [-1, 3]])
def test_impossible_counts_are_our_own_fault(counts):
    with pytest.raises(AssertionError):
        exact_log_q(np.array(counts, np.int64))
