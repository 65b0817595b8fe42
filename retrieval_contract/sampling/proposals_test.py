"""Draws have the probabilities they claim, and the mixture is the share of columns that hold a candidate."""

import numpy as np
import pytest

from retrieval_contract.sampling.frequency import exact_log_q
from retrieval_contract.sampling.proposals import (
    Proposal,
    mixture_log_q,
    popularity_probability,
    popularity_rows,
    uniform_probability,
    uniform_rows,
)
from retrieval_contract.sampling.streams import stream

COUNTS = np.array([5, 0, 1, 2], np.int64)
POSITIVES = np.repeat(np.arange(4, dtype=np.int32), COUNTS)


def uniform(num_columns, size=4):
    return Proposal(num_columns=num_columns, probability=uniform_probability(size))


def assert_drawn_with(rows, probabilities):
    """Counts are within five deviations of what the probabilities say."""
    assert rows.dtype == np.int32
    expected = len(rows) * probabilities
    counts = np.bincount(rows, minlength=len(probabilities))
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all(), counts


def test_draws_follow_their_probabilities():
    assert_drawn_with(uniform_rows(stream(1), 40_000, num_candidates=4), uniform_probability(4))
    popular = popularity_rows(stream(1), 40_000, positives_T=POSITIVES)
    assert_drawn_with(popular, popularity_probability(COUNTS))
    with pytest.raises(AssertionError):
        assert_drawn_with(popular, uniform_probability(4))


def test_draws_stay_what_they_are():
    assert uniform_rows(stream(0, 2), 6, num_candidates=1_000).tolist() == UNIFORM
    assert popularity_rows(stream(0, 2), 6, positives_T=POSITIVES).tolist() == POPULAR
    assert uniform_rows(stream(0), 0, num_candidates=5).shape == (0,)


UNIFORM = [880, 890, 854, 68, 26, 779]
POPULAR = [3, 3, 3, 0, 0, 3]


def test_a_mixture_by_hand():
    # 6 positives, 2 uniform columns: (6 x 5/8 + 2 x 1/4) / 8 and so on.
    log_q = mixture_log_q(COUNTS, num_positives=6, proposals=[uniform(2)])
    assert log_q.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_q), [4.25 / 8, 0.5 / 8, 1.25 / 8, 2 / 8], rtol=1e-6)


def test_a_mixture_sums_to_one():
    own = Proposal(num_columns=3, probability=np.array([0.5, 0.5, 0, 0]))
    log_q = mixture_log_q(COUNTS, num_positives=5, proposals=[uniform(2), own])
    assert np.exp(log_q.astype(np.float64)).sum() == pytest.approx(1, rel=1e-6)


def test_columns_hold_candidates_as_often_as_the_mixture_says():
    columns = [
        popularity_rows(stream(1), 30_000, positives_T=POSITIVES),
        uniform_rows(stream(2), 10_000, num_candidates=4),
    ]
    log_q = mixture_log_q(COUNTS, num_positives=3, proposals=[uniform(1)])
    assert_drawn_with(np.concatenate(columns), np.exp(log_q))
    with pytest.raises(AssertionError):
        assert_drawn_with(np.concatenate(columns), np.exp(exact_log_q(COUNTS)))


@pytest.mark.parametrize("proposals", [[], [uniform(0)]])
def test_without_other_columns_the_mixture_is_the_exact_correction_to_the_bit(proposals):
    counts = np.random.default_rng(0).integers(0, 50, 1_000)
    assert mixture_log_q(counts, num_positives=7, proposals=proposals).tobytes() == exact_log_q(counts).tobytes()


def test_by_popularity_the_mixture_is_the_exact_correction():
    popular = Proposal(num_columns=9, probability=popularity_probability(COUNTS))
    log_q = mixture_log_q(COUNTS, num_positives=4, proposals=[popular])
    np.testing.assert_allclose(log_q, exact_log_q(COUNTS), rtol=1e-6)


def test_a_popularity_of_one_in_a_hundred_million_stays_exact():
    counts = np.array([1, 0, 10**8 - 1], np.int64)
    source = Proposal(num_columns=1_024, probability=np.array([0, 1e-8, 1 - 1e-8]))
    log_q = mixture_log_q(counts, num_positives=1_024, proposals=[source])
    np.testing.assert_allclose(log_q[:2], np.log(0.5e-8), rtol=1e-7)


def test_no_count_is_finite_wherever_it_can_be_drawn_and_0_elsewhere():
    counts = np.array([0, 3, 0], np.int64)
    one = Proposal(num_columns=2, probability=np.array([1.0, 0, 0]))
    log_q = mixture_log_q(counts, num_positives=2, proposals=[one])
    np.testing.assert_allclose(log_q, [np.log(0.5), np.log(0.5), 0], rtol=1e-6)
    assert np.isfinite(mixture_log_q(counts, num_positives=2, proposals=[uniform(1, 3)])).all()
    assert (mixture_log_q(counts, num_positives=2, proposals=[uniform(1, 3)]) < 0).all()
