"""Baselines against what defines them."""

import numpy as np
import pytest
import scipy.sparse

from retrieval_contract.evaluation import baselines, ranking
from retrieval_contract.evaluation.planted import draw_pairs, nothing


def _train(num_queries=40, num_candidates=15, share=0.3, seed=0):
    generator = np.random.default_rng(seed)
    return draw_pairs(
        generator, num_queries, num_candidates, share, without=nothing(num_queries, num_candidates)
    ).astype(np.float32)


def test_ease_is_ridge_regression_of_each_candidate_on_all_others():
    train, l2 = _train(), 3.0
    weights, dense = baselines.ease_weights(train, l2), train.toarray().astype(np.float64)
    for column in range(15):
        others = np.delete(np.arange(15), column)
        x = dense[:, others]
        solved = np.linalg.solve(x.T @ x + l2 * np.eye(14), x.T @ dense[:, column])
        np.testing.assert_allclose(weights[others, column], solved, atol=1e-6)
    assert (weights.diagonal() == 0).all()


def test_ease_comparison_notices_a_transposed_solution():
    weights = baselines.ease_weights(_train(share=0.2), 3.0)
    assert not np.allclose(weights, weights.T, atol=1e-3)


def test_cosine_by_hand_keeps_the_nearest_and_nothing_of_its_own(monkeypatch):
    train = _train()
    dense = train.toarray()
    lengths = np.maximum(np.linalg.norm(dense, axis=0), 1)
    expected = dense.T @ dense / np.outer(lengths, lengths)
    np.fill_diagonal(expected, 0)
    monkeypatch.setattr(baselines, "MOST_SIMILARITIES", 4 * 15)
    np.testing.assert_allclose(baselines.cosine_similarities(train).toarray(), expected, atol=1e-6)
    monkeypatch.setattr(baselines, "NEIGHBOURS", 3)
    nearest = baselines.cosine_similarities(train).toarray()
    for row in range(15):
        kept = np.argsort(-expected[row], kind="stable")[:3]
        np.testing.assert_allclose(nearest[row, kept], expected[row, kept], atol=1e-6)
        assert np.count_nonzero(nearest[row]) <= 3


def test_candidate_without_train_rows_is_similar_to_nothing():
    train = _train().toarray()
    train[:, 4] = 0
    similarities = baselines.cosine_similarities(scipy.sparse.csr_matrix(train)).toarray()
    assert not similarities[4].any() and not similarities[:, 4].any()


@pytest.mark.parametrize("ease_max_candidates", [15, 14])
def test_linear_scores_the_queries_asked_for(ease_max_candidates):
    train = _train()
    rows = np.array([30, 2, 7])
    scorer = baselines.linear(train, train[rows], l2=3.0, ease_max_candidates=ease_max_candidates)
    weights = (
        baselines.ease_weights(train, 3.0)
        if ease_max_candidates == 15
        else baselines.cosine_similarities(train).toarray()
    )
    scores = scorer.scores(np.array([2, 0]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, train.toarray()[[7, 30]] @ weights, atol=1e-6)


def test_popularity_ranks_by_counts_ties_by_row():
    relevant = scipy.sparse.csr_matrix(np.ones((2, 4), bool))
    ranks = ranking.rank_relevant(baselines.popularity(np.array([3, 9, 0, 3])), relevant)
    assert ranks.tolist() == [2, 1, 4, 3] * 2


class _Truth:
    candidate_ids = ("a", "b")

    def log_probabilities(self, query_ids, time):
        chance = {("x", 1): 0.2, ("x", 3): 0.4, ("y", 1): 0.0, ("y", 3): 1.0}
        with np.errstate(divide="ignore"):
            rows = [[chance[name, time], 1 - chance[name, time]] for name in query_ids]
            return np.log(np.array(rows, np.float32))


def test_oracle_averages_probabilities_over_the_period():
    scores = baselines.oracle(_Truth(), ["x", "y"], [1, 3]).scores(np.array([1, 0]))
    np.testing.assert_allclose(scores, [[0.5, 0.5], [0.3, 0.7]], rtol=1e-6)
