"""Few axes hold what differs between candidates, wherever their mean is."""

import numpy as np
import pytest

from tfrs_models.indexes import principal_axes
from tfrs_models.indexes.principal_axes import MULTIPLE, Axes

RANK = 12
"""Directions in which the candidates differ, more than are kept beside the mean where that is taken for one."""


@pytest.fixture(scope="module")
def values():
    """Nearly all variance in 12 directions of 40, around a mean far from 0."""
    generator = np.random.default_rng(0)
    flat = generator.standard_normal((500, RANK)) @ np.linalg.qr(generator.standard_normal((40, RANK)))[0].T
    return (flat + 0.01 * generator.standard_normal((500, 40)) + 50).astype(np.float32)


def test_all_dimensions_are_the_vectors_to_the_bit(values):
    np.testing.assert_array_equal(Axes.principal(values, 1.0).turned(values), values)


def test_scores_along_few_axes_differ_by_a_constant_alone(values):
    axes = Axes.principal(values, 0.95)
    # With the mean left in, one axis would hold 0.95 of the squares, and 8 would be kept.
    assert axes.directions.shape == (40, 2 * MULTIPLE)
    np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(2 * MULTIPLE), atol=1e-6)
    query = np.random.default_rng(1).standard_normal(40).astype(np.float32)
    scores = values @ query
    assert (scores - axes.turned(values) @ (query @ axes.directions)).std() < 0.05 * scores.std()


def test_what_is_kept_lies_around_zero_so_that_few_bits_hold_it(values):
    assert np.abs(Axes.principal(values, 0.95).turned(values)).max() < 10 < values.min()


def test_the_share_decides_how_many(values):
    white = np.random.default_rng(2).standard_normal((5_000, 40)).astype(np.float32)
    assert [Axes.principal(white, share).directions.shape[1] for share in (0.1, 0.5, 0.999)] == [8, 24, 40]


def test_chunks_make_no_difference(values, monkeypatch):
    whole = Axes.principal(values, 0.9)
    monkeypatch.setattr(principal_axes, "CHUNK", 7)
    np.testing.assert_allclose(
        np.abs(Axes.principal(values, 0.9).directions[:, :3]), np.abs(whole.directions[:, :3]), atol=1e-4
    )


def test_one_candidate_has_no_variance():
    assert Axes.principal(np.ones((1, 12), np.float32), 0.5).directions.shape == (12, 8)
