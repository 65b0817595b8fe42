"""Vectors that cannot be scored are refused; exact scores do not depend on their neighbours."""

import numpy as np
import pytest

from retrieval_contract.errors import RunError
from retrieval_contract.evaluation.planted import exact_scores
from retrieval_contract.evaluation.scorers import FunctionScorer, VectorScorer


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["query", "candidate"])
def test_vectors_that_are_not_finite_are_refused(side, bad):
    vectors = {name: np.ones((4, 3), np.float32) for name in ("query", "candidate")}
    vectors[side][2, 1] = bad
    with pytest.raises(RunError, match=f"{side} vectors .*rows 2"):
        VectorScorer(vectors["query"], vectors["candidate"])
    if side == "query":
        with pytest.raises(RunError, match=r"query vectors .*rows 2"):
            VectorScorer(np.repeat(vectors["query"][:, None], 3, axis=1), vectors["candidate"])


def test_products_that_overflow_are_refused():
    with pytest.raises(RunError, match="overflow"):
        VectorScorer(np.full((1, 2), 1e20, np.float32), np.full((1, 2), 1e19, np.float32))
    with pytest.raises(RunError, match="overflow"):
        VectorScorer(np.array([[[1, 1], [1e20, 0]]], np.float32), np.full((1, 2), 1e19, np.float32))


def test_scores_of_a_function_must_be_finite():
    with pytest.raises(RunError, match="a table"):
        FunctionScorer(lambda at: np.full((len(at), 2), np.nan, np.float32), 2, name="a table").scores(np.arange(3))


@pytest.mark.parametrize("interests", [(), (1,), (4,)])
@pytest.mark.parametrize("dim", [1, 5, 64, 300])
def test_rough_scores_are_within_half_the_margin(dim, interests):
    generator = np.random.default_rng(dim)
    query_vectors = generator.standard_normal((40, *interests, dim)).astype(np.float32)
    candidate_vectors = generator.standard_normal((40, dim)).astype(np.float32)
    scorer, at = VectorScorer(query_vectors, candidate_vectors), np.arange(40)
    exact = exact_scores(query_vectors, candidate_vectors)
    assert (np.abs(scorer.scores(at) - exact) <= scorer.margins(at)[:, None] / 2).all()
    rows, columns = np.nonzero(exact > -np.inf)
    np.testing.assert_array_equal(scorer.exact(rows, columns, np.zeros(1_600, np.float32)), exact.ravel())
