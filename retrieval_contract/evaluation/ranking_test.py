"""Ranks against sorting everything; ties, exclusions, block sizes, memory."""

import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from retrieval_contract.errors import UserError
from retrieval_contract.evaluation import best, ranking
from retrieval_contract.evaluation.planted import draw_pairs, exact_scores, full_ranking, nothing, ranks_in
from retrieval_contract.evaluation.ranking import block_size, rank_relevant
from retrieval_contract.evaluation.scorers import FunctionScorer, VectorScorer


def _best_of(scorer, relevant, k, **settings):
    found = np.full((relevant.shape[0], k), -2, np.int32)

    def visit(positions, best_BK):
        found[positions] = best_BK

    ranks = rank_relevant(scorer, relevant, num_best=k, visit=visit, **settings)
    return ranks, found


def _table(scores):
    return FunctionScorer(lambda positions: scores[positions], scores.shape[1], name="a table")


def _expected_best(rankings, k):
    return np.array([(ranking[:k] + [-1] * k)[:k] for ranking in rankings])


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    seed=strategies.integers(0, 10_000),
    num_queries=strategies.integers(1, 9),
    num_candidates=strategies.integers(2, 40),
    levels=strategies.integers(1, 6),
    kind=strategies.sampled_from(["table", "vectors", "interests"]),
)
def test_ranks_and_best_equal_sorting_everything(seed, num_queries, num_candidates, levels, kind):
    generator = np.random.default_rng(seed)
    # Few levels: most scores are tied.
    if kind == "table":
        scores = generator.integers(-levels, levels + 1, (num_queries, num_candidates)).astype(np.float32) * np.float32(
            0.1
        )
        scorer = _table(scores)
    else:
        shapes = (num_queries, 3) if kind == "vectors" else (num_queries, 4, 3), (num_candidates, 3)
        queries, candidates = (
            generator.integers(-levels, levels + 1, shape).astype(np.float32) / 7 for shape in shapes
        )
        scores, scorer = exact_scores(queries, candidates), VectorScorer(queries, candidates)
    excluded = draw_pairs(generator, num_queries, num_candidates, 0.3, without=nothing(num_queries, num_candidates))
    relevant = draw_pairs(generator, num_queries, num_candidates, 0.3, without=excluded)
    rankings = full_ranking(scores, excluded)
    k = int(generator.integers(1, num_candidates + 1))
    ranks, found = _best_of(scorer, relevant, k, excluded=excluded)
    np.testing.assert_array_equal(ranks, ranks_in(rankings, relevant))
    np.testing.assert_array_equal(found, _expected_best(rankings, k))


@pytest.mark.parametrize("num_candidates", [300, 2_040, 2_041, 5_000])
def test_wide_catalogues_are_counted_right(num_candidates):
    generator = np.random.default_rng(num_candidates)
    scores = generator.standard_normal((5, num_candidates)).astype(np.float32)
    excluded = draw_pairs(generator, 5, num_candidates, 0.1, without=nothing(5, num_candidates))
    relevant = draw_pairs(generator, 5, num_candidates, 0.02, without=excluded)
    rankings = full_ranking(scores, excluded)
    ranks, found = _best_of(_table(scores), relevant, 20, excluded=excluded)
    np.testing.assert_array_equal(ranks, ranks_in(rankings, relevant))
    np.testing.assert_array_equal(found, _expected_best(rankings, 20))


@pytest.mark.parametrize("size", [1, 2, 7, 64, 500])
def test_block_size_changes_nothing_even_among_equal_vectors(size, monkeypatch):
    generator = np.random.default_rng(1)
    query_vectors = generator.standard_normal((130, 33)).astype(np.float32)
    # 90 candidates, but only 30 vectors: a float32 product gives equal vectors unequal scores at the edges of a block.
    candidate_vectors = generator.standard_normal((30, 33)).astype(np.float32)[generator.integers(0, 30, 90)]
    relevant = draw_pairs(generator, 130, 90, 0.05, without=nothing(130, 90))
    rankings = full_ranking(exact_scores(query_vectors, candidate_vectors))
    monkeypatch.setattr(ranking, "block_size", lambda *_: size)
    ranks, found = _best_of(VectorScorer(query_vectors, candidate_vectors), relevant, 10)
    np.testing.assert_array_equal(ranks, ranks_in(rankings, relevant))
    np.testing.assert_array_equal(found, _expected_best(rankings, 10))


def test_rough_scores_that_are_wrong_within_the_margin_do_not_matter(monkeypatch):
    generator = np.random.default_rng(2)
    query_vectors, candidate_vectors = (generator.standard_normal((n, 8)).astype(np.float32) for n in (20, 50))
    scorer = VectorScorer(query_vectors, candidate_vectors)
    relevant = draw_pairs(generator, 20, 50, 0.2, without=nothing(20, 50))
    rankings = full_ranking(exact_scores(query_vectors, candidate_vectors))
    noise = generator.uniform(-0.49, 0.49, (20, 50)).astype(np.float32) * 0.2
    exact = VectorScorer.scores
    monkeypatch.setattr(VectorScorer, "scores", lambda self, at: exact(self, at) + noise[at])
    right, found = ranks_in(rankings, relevant), _expected_best(rankings, 12)
    rough_ranks, rough_found = _best_of(scorer, relevant, 12)
    assert not np.array_equal(rough_ranks, right) and not np.array_equal(rough_found, found), (
        "the noise must do something"
    )
    monkeypatch.setattr(VectorScorer, "margins", lambda self, at: np.full(len(at), 0.2, np.float32))
    settled_ranks, settled_found = _best_of(scorer, relevant, 12)
    np.testing.assert_array_equal(settled_ranks, right)
    np.testing.assert_array_equal(settled_found, found)


@pytest.mark.parametrize("vectors", [True, False])
def test_constant_model_scores_what_chance_scores(vectors):
    generator = np.random.default_rng(3)
    num_queries, num_candidates = 400, 200
    zeros = np.zeros((num_queries + num_candidates, 4), np.float32)
    scorer = (
        VectorScorer(zeros[:num_queries], zeros[num_queries:])
        if vectors
        else _table(np.zeros((num_queries, num_candidates), np.float32))
    )
    relevant = draw_pairs(generator, num_queries, num_candidates, 0.05, without=nothing(num_queries, num_candidates))
    ranks, found = _best_of(scorer, relevant, 10)
    np.testing.assert_array_equal(ranks, relevant.indices + 1)
    np.testing.assert_array_equal(found, np.tile(np.arange(10), (num_queries, 1)))
    assert abs(np.mean(ranks <= 20) - 0.1) < 0.03


def test_constant_model_is_ranked_in_small_slices(monkeypatch):
    monkeypatch.setattr(ranking, "SLICE_SCORES", 1)
    monkeypatch.setattr(best, "MOST_TOGETHER", 1)
    generator = np.random.default_rng(4)
    relevant = draw_pairs(generator, 9, 17, 0.3, without=nothing(9, 17))
    ranks, found = _best_of(_table(np.ones((9, 17), np.float32)), relevant, 17)
    np.testing.assert_array_equal(ranks, relevant.indices + 1)
    np.testing.assert_array_equal(found, np.tile(np.arange(17), (9, 1)))


def test_negative_zero_equals_zero():
    scores = np.array([[0.0, -0.0, 0.0, -1.0]], np.float32)
    relevant = nothing(1, 4).tolil()
    relevant[0, 1] = relevant[0, 2] = True
    ranks, found = _best_of(_table(scores), relevant.tocsr(), 4)
    np.testing.assert_array_equal(ranks, [2, 3])
    np.testing.assert_array_equal(found, [[0, 1, 2, 3]])


def test_query_with_everything_excluded_has_no_best():
    relevant = nothing(1, 3)
    excluded = draw_pairs(np.random.default_rng(0), 1, 3, 1.1, without=relevant)
    ranks, found = _best_of(_table(np.zeros((1, 3), np.float32)), relevant, 2, excluded=excluded)
    assert len(ranks) == 0
    np.testing.assert_array_equal(found, [[-1, -1]])


def test_excluded_relevant_candidate_is_our_own_fault():
    relevant = draw_pairs(np.random.default_rng(0), 1, 3, 1.1, without=nothing(1, 3))
    with pytest.raises(AssertionError, match="excluded"):
        rank_relevant(_table(np.zeros((1, 3), np.float32)), relevant, excluded=relevant)


def test_memory_stays_within_the_bound():
    generator = np.random.default_rng(5)
    query_vectors = generator.standard_normal((300, 8)).astype(np.float32)
    candidate_vectors = generator.standard_normal((40_000, 8)).astype(np.float32)
    relevant = draw_pairs(generator, 300, 40_000, 0.0001, without=nothing(300, 40_000))
    scorer, max_bytes = VectorScorer(query_vectors, candidate_vectors), 4_000_000
    rank_relevant(scorer, relevant, max_bytes=max_bytes)
    peaks = {}
    for bound in (max_bytes, 100 * max_bytes):
        tracemalloc.start()
        _best_of(scorer, relevant, 100, max_bytes=bound)
        peaks[bound] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Outside the bound: positions and results, and the pairs that rough scores do not settle.
    assert peaks[max_bytes] < max_bytes + 2_000_000
    assert peaks[100 * max_bytes] > max_bytes + 2_000_000, "the bound must be what holds it down"


def test_bound_too_small_for_one_query_is_named():
    with pytest.raises(UserError, match=r"evaluation.max_bytes"):
        block_size(10_000_000, 1_000_000)
