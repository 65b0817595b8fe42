import numpy as np
import pytest

from benchmarks.serving_vectors import draw, estimated_dimension


def test_vectors_have_unit_length_and_a_seed_repeats_them():
    one, again, other = (draw(3_000, 20, 32, seed=seed) for seed in (0, 0, 1))
    assert one.candidates.shape == (3_000, 32) and one.queries.shape == (20, 32)
    assert one.candidates.dtype == np.float32
    assert np.linalg.norm(one.candidates, axis=1) == pytest.approx(np.ones(3_000), abs=1e-5)
    np.testing.assert_array_equal(one.candidates, again.candidates)
    assert (one.candidates != other.candidates).any()


def test_the_stated_dimension_is_what_neighbours_see():
    seen = [estimated_dimension(draw(5_000, 1, 64, latent=latent, seed=0).candidates) for latent in (4, 12, 40)]
    assert seen == sorted(seen) and seen[2] > 1.5 * seen[0], "more dimensions are more for neighbours too"
    quiet = estimated_dimension(draw(5_000, 1, 64, latent=4, noise=0, seed=0).candidates)
    assert quiet < 4 < seen[0], "noise is more dimensions to near neighbours: of a unit sphere's surface there are 3"
    flat = np.random.default_rng(0).standard_normal((5_000, 3))
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert estimated_dimension(flat.astype(np.float32)) == pytest.approx(2, rel=0.1), "a sphere's surface"


def test_vectors_are_clustered():
    drawn = draw(5_000, 200, 64, seed=0)
    generator = np.random.default_rng(0)
    shuffled = np.stack([generator.permutation(column) for column in drawn.candidates.T], axis=1)
    nearest = [(drawn.queries @ values.T).max(axis=1).mean() for values in (drawn.candidates, shuffled)]
    assert nearest[0] > nearest[1] + 0.2
