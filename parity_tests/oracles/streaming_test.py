import math

import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles.streaming import Estimator
from parity_tests.tolerances import rule

LOSS = rule("loss", "float64")


def same(got, wanted):
    assert_same(got, got, wanted, LOSS)


def test_by_hand_to_digits():
    """Gap 100, then 0.5 x 100 + 0.5 x 1 at step 1, then 0.5 x 50.5 + 0.5 x 2 at step 3."""
    estimator = Estimator([lambda row: row], rate=0.5, start_gap=100.0)
    same(estimator.log_q(7), -math.log(100))
    for rows in ([7], [3], [7, 7]):
        estimator.update(rows)
    same(estimator.log_q(7), -math.log(26.25))
    same(estimator.log_q(3), -math.log(0.5 * 100 + 0.5 * 2))
    same(estimator.log_q(8), -math.log(100))


def test_a_shared_bucket_moves_once_a_step_and_the_rarest_hash_counts():
    estimator = Estimator([lambda row: row % 2, lambda row: row], rate=0.5, start_gap=8.0)
    for rows in ([1, 3], [1], [1]):
        estimator.update(rows)
    assert estimator.gaps == [{1: 1.875}, {1: 1.875, 3: 4.5}]
    same(estimator.log_q(3), -math.log(4.5))
    same(estimator.log_q(2), -math.log(8.0))


@pytest.mark.parametrize("gap", [1, 4])
def test_a_candidate_of_every_so_many_steps_is_estimated_so(gap):
    estimator = Estimator([lambda row: row], rate=0.1, start_gap=100.0)
    for step in range(400 * gap):
        estimator.update([5] if step % gap == 0 else [])
    same(estimator.log_q(5), -math.log(gap))
