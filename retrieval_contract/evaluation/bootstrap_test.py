"""Intervals: coverage on planted truth, ratios, and independence of memory."""

import numpy as np
import pytest

from retrieval_contract.evaluation.bootstrap import intervals

ONE_KIND = np.zeros(1, np.int64)


def _of_a_mean(values, **settings):
    settings = {"num_samples": 400, "seed": 0} | settings
    low, high = intervals(values[:, None], np.ones((len(values), 1)), ONE_KIND, **settings)
    return float(low[0]), float(high[0])


def test_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).random(2_000)
    low, high = _of_a_mean(values, num_samples=2_000)
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_19_of_20_intervals_hold_the_truth():
    generator = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        low, high = _of_a_mean((generator.random(150) < 0.3).astype(float), seed=trial, num_samples=200)
        held += low <= 0.3 <= high
    assert 178 <= held <= 199


def test_ratio_of_sums_resamples_queries_and_not_rows():
    # One query holds half of the rows: resampling rows would give a much narrower interval.
    rows = np.array([100.0] + [1.0] * 100)
    hits = np.array([100.0] + [0.0] * 100)
    low, high = intervals(hits[:, None], rows[:, None], ONE_KIND, num_samples=500, seed=0)
    assert low[0] == 0 and high[0] > 0.7


def test_memory_changes_nothing_and_seed_does():
    values = np.random.default_rng(2).random(500)
    assert _of_a_mean(values) == pytest.approx(_of_a_mean(values, max_bytes=1), rel=1e-12)
    assert _of_a_mean(values) != _of_a_mean(values, seed=1)


def test_columns_share_resamples():
    values = np.random.default_rng(3).random((300, 1))
    low, high = intervals(
        np.hstack([values, values + 1]), np.ones((300, 1)), np.zeros(2, np.int64), num_samples=100, seed=0
    )
    np.testing.assert_allclose([low[1], high[1]], [low[0] + 1, high[0] + 1])


def test_queries_that_do_not_count_are_in_no_denominator():
    counts = np.array([1.0, 0.0])
    low, high = intervals(np.array([[0.5], [0.0]]), counts[:, None], ONE_KIND, num_samples=50, seed=0)
    assert low[0] == high[0] == 0.5
    low, high = intervals(np.zeros((2, 1)), np.zeros((2, 1)), ONE_KIND, num_samples=50, seed=0)
    assert np.isnan(low[0]) and np.isnan(high[0])
