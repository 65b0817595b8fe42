"""Scores less a number are as near as is said; a number beside what scores can be is noticed to cost digits."""

import numpy as np
import pytest

from retrieval_contract.evaluation.scorers import VectorScorer
from retrieval_contract.evaluation.shifted_products import MARGINS


def _errors(dim, interests, shift_of):
    """Differences from float64, in halves of the margin that is said [B, T]."""
    generator = np.random.default_rng(dim)
    queries = generator.standard_normal((40, *interests, dim)).astype(np.float32)
    candidates = generator.standard_normal((600, dim)).astype(np.float32)
    scorer, at = VectorScorer(queries, candidates), np.arange(40)
    wide = np.einsum("b...d,td->bt...", queries.astype(np.float64), candidates[50:250].astype(np.float64))
    wide = wide.max(axis=2) if interests else wide
    products = scorer.shifted(at)
    shift = shift_of(wide, products.lowest_B).astype(np.float32)
    products.take_off(shift)
    found = np.empty(wide.shape, np.float32)
    products.fill(slice(50, 250), found)
    return np.abs(found - (wide - shift[:, None])) / (MARGINS * scorer.margins(at)[:, None] / 2)


@pytest.mark.parametrize("interests", [(), (1,), (4,)])
@pytest.mark.parametrize("dim", [1, 5, 64, 300])
def test_scores_less_a_number_are_within_half_the_margin(dim, interests):
    for shift_of in (
        lambda wide, low: wide[:, 3],
        lambda wide, low: low,
        lambda wide, low: -low,
        lambda wide, low: 0 * low,
    ):
        assert (_errors(dim, interests, shift_of) <= 1).all()


def test_errors_notice_a_number_that_is_too_large():
    assert not (_errors(5, (), lambda wide, low: 1_000 * low) <= 1).all()


def test_no_score_is_below_the_lowest():
    generator = np.random.default_rng(0)
    candidates = generator.standard_normal((600, 3)).astype(np.float32)
    scorer = VectorScorer(-candidates, candidates)
    lowest = scorer.shifted(np.arange(600)).lowest_B
    assert (scorer.scores(np.arange(600)) >= (lowest - scorer.margins(np.arange(600)))[:, None]).all()
    opposite = np.argmax(np.linalg.norm(candidates, axis=1))
    assert lowest[opposite] == pytest.approx(scorer.scores(np.array([opposite])).min())
