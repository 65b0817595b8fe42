"""Nothing that is among the best gets lost, and little else is held."""

import numpy as np
import pytest

from retrieval_contract.evaluation.best_of_tiles import BestOfTiles, padded
from retrieval_contract.evaluation.marks import Marks

WIDTH, NUM_TILES = 32, 40


def _scores(seed=0):
    return np.random.default_rng(seed).standard_normal((5, NUM_TILES * WIDTH)).astype(np.float32)


def _fed(scores, k, margin=0.0):
    def exact(at_P, rows_P, rough_P):
        return scores[at_P, rows_P]

    best = BestOfTiles(k, np.full(len(scores), margin, np.float32), exact, WIDTH)
    for first in range(0, scores.shape[1], WIDTH):
        best.add(np.ascontiguousarray(scores[:, first : first + WIDTH]), first)
    return best


@pytest.mark.parametrize("k", [1, 7, 32, 50, 1_000])
def test_the_best_are_among_what_is_held(k):
    scores = _scores()
    at, rows, held = _fed(scores, k).possible()
    np.testing.assert_array_equal(held, scores[at, rows])
    assert (np.diff(at) >= 0).all()
    for query in range(len(scores)):
        assert set(np.argsort(-scores[query])[:k]) <= set(rows[at == query])
    assert len(at) <= 3 * k * len(scores) or k == 1_000


def test_what_is_within_the_margin_of_the_last_is_kept():
    scores = np.zeros((5, NUM_TILES * WIDTH), np.float32)
    scores[:, ::2] -= 0.5
    at, _, _ = _fed(scores, 3, margin=0.6).possible()
    assert len(at) == scores.size
    at, _, _ = _fed(scores, 3, margin=0.4).possible()
    assert len(at) == scores.size // 2


def test_excluded_is_never_held():
    scores = _scores()
    scores[2] = -np.inf
    at, _, held = _fed(scores, 7).possible()
    assert 2 not in at and np.isfinite(held).all()


def test_marks_come_out_as_they_went_in():
    marked = np.random.default_rng(1).random((5, 3, WIDTH)) < 0.03
    marked[:, 1] = False
    marks = Marks(WIDTH)
    scores = _scores()[:, : 3 * WIDTH].reshape(5, 3, WIDTH)
    for tile in range(3):
        marks.add(np.ascontiguousarray(marked[:, tile]), tile * WIDTH, np.ascontiguousarray(scores[:, tile]))
    at, rows, values = marks.take()
    assert sorted(zip(at, rows, strict=True)) == sorted(zip(*np.nonzero(marked.reshape(5, -1)), strict=True))
    np.testing.assert_array_equal(values, scores.reshape(5, -1)[at, rows])
    assert marks.size == 0 and not len(marks.take()[0])


def test_padded_rows_by_place():
    at, rows = np.array([0, 2, 2]), np.array([7, 5, 6])
    np.testing.assert_array_equal(padded(at, rows, 4), [[7, -1], [-1, -1], [5, 6], [-1, -1]])
