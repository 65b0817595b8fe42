"""Nothing that is among the best gets lost, and little else is held."""

import itertools

import numpy as np
import pytest

from retrieval_contract.evaluation import best_of_tiles
from retrieval_contract.evaluation.best_of_tiles import BestOfTiles, padded
from retrieval_contract.evaluation.marks import Marks

WIDTH, NUM_TILES = 32, 40


def _scores(seed=0):
    """In steps of a thousandth, so that taking a number off and putting it back changes nothing."""
    drawn = np.random.default_rng(seed).standard_normal((5, NUM_TILES * WIDTH))
    return (np.rint(1_024 * drawn) / 1_024).astype(np.float32)


class _Shifted:
    """Tiles of scores, less what was last said to be taken off."""

    def __init__(self, scores, shifts):
        self._scores, self._shifts = scores, shifts

    def __iter__(self):
        for first in range(0, self._scores.shape[1], WIDTH):
            yield first, self._scores[:, first : first + WIDTH] - self._shifts[-1][:, None]

    def first(self):
        return itertools.islice(self, 3)


def _fed(scores, k, margin=0.0, **settings):
    def exact(at_P, rows_P, rough_P):
        return scores[at_P, rows_P]

    lowest = np.full(len(scores), -10, np.float32)
    best = BestOfTiles(k, np.full(len(scores), margin, np.float32), lowest, exact, WIDTH, **settings)
    shifts = []
    tiles = _Shifted(scores, shifts)
    best.look_at(tiles, shifts.append)
    return best


@pytest.fixture(autouse=True)
def bounds_that_rise(monkeypatch):
    """Raise them many times, also over so few candidates."""
    monkeypatch.setattr(best_of_tiles, "LEAST_NEW", 1)


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


@pytest.mark.parametrize("k", [0, 5])
def test_what_is_watched_is_shown_once(k):
    scores, shown = _scores(), []
    least = np.array([-1, 0, 1, 3.5, 10], np.float32)
    best = _fed(scores, k, watched=(least, lambda *pairs: shown.extend(zip(*pairs, strict=True))))
    at, _, _ = best.possible()
    found = [(int(place), int(row)) for place, row, score in shown if score >= least[place]]
    assert sorted(found) == sorted(zip(*np.nonzero(scores >= least[:, None]), strict=True))
    assert all(score == scores[place, row] for place, row, score in shown)
    assert len(at) == k * 5


def test_a_shift_that_stays_finds_the_same():
    scores = _scores()
    expected = _fed(scores, 7).possible()
    for found, like in zip(_fed(scores, 7, shift_B=scores[:, 4]).possible(), expected, strict=True):
        np.testing.assert_array_equal(found, like)


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
