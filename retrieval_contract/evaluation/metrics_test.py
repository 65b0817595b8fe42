"""Values by hand, and against an independent library (trec_eval through ir_measures)."""

import ir_measures
import numpy as np
import pytest

from retrieval_contract.evaluation import metrics
from retrieval_contract.evaluation.metrics import RelevantRanks
from retrieval_contract.evaluation.planted import draw_pairs, full_ranking, nothing
from retrieval_contract.evaluation.ranking import rank_relevant
from retrieval_contract.evaluation.scorers import FunctionScorer

# Query 0: relevant at ranks 1, 3 and 12; query 1: only at rank 4.
HAND = RelevantRanks.of(np.array([12, 4, 1, 3]), np.array([0, 1, 0, 0]))


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (metrics.recall, 1, [1 / 3, 0]),
        (metrics.recall, 3, [2 / 3, 0]),
        (metrics.recall, 12, [1, 1]),
        (metrics.hit_rate, 3, [1, 0]),
        (metrics.hit_rate, 4, [1, 1]),
        (metrics.precision, 4, [2 / 4, 1 / 4]),
        (metrics.average_precision, 3, [(1 / 1 + 2 / 3) / 3, 0]),
        (metrics.average_precision, 1, [1, 0]),
        (metrics.average_precision, 12, [(1 / 1 + 2 / 3 + 3 / 12) / 3, 1 / 4]),
        (metrics.ndcg, 1, [1, 0]),
        (metrics.ndcg, 3, [(1 + 1 / 2) / (1 + 1 / np.log2(3) + 1 / 2), 0]),
        (metrics.ndcg, 4, [(1 + 1 / 2) / (1 + 1 / np.log2(3) + 1 / 2), 1 / np.log2(5)]),
    ],
)
def test_values_by_hand(metric, k, expected):
    np.testing.assert_allclose(metric(HAND, k), expected, rtol=1e-12)


def test_reciprocal_rank_is_over_the_whole_ranking():
    np.testing.assert_allclose(metrics.reciprocal_rank(HAND), [1, 1 / 4])


def test_query_without_relevant_candidates_is_our_own_fault():
    with pytest.raises(AssertionError):
        RelevantRanks.of(np.array([1]), np.array([1]))


@pytest.fixture(scope="module")
def random_case():
    generator = np.random.default_rng(0)
    num_queries, num_candidates = 60, 150
    scores = generator.permuted(np.tile(np.arange(num_candidates, dtype=np.float32), (num_queries, 1)), axis=1)
    relevant = draw_pairs(generator, num_queries, num_candidates, 0.06, without=nothing(num_queries, num_candidates))
    relevant = relevant[np.diff(relevant.indptr) > 0]
    scores = scores[: relevant.shape[0]]
    scorer = FunctionScorer(lambda at: scores[at], num_candidates, name="a table")
    queries = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr))
    mine = RelevantRanks.of(rank_relevant(scorer, relevant), queries)
    qrels = {str(q): {str(c): 1 for c in relevant[q].indices} for q in range(relevant.shape[0])}
    run = {str(q): {str(c): float(scores[q, c]) for c in range(num_candidates)} for q in range(relevant.shape[0])}
    return mine, qrels, run


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_equal_to_ir_measures(random_case, k):
    mine, qrels, run = random_case
    theirs = {
        ir_measures.R @ k: metrics.recall,
        ir_measures.P @ k: metrics.precision,
        ir_measures.Success @ k: metrics.hit_rate,
        ir_measures.nDCG @ k: metrics.ndcg,
    }
    found = {(str(m.measure), m.query_id): m.value for m in ir_measures.iter_calc(list(theirs), qrels, run)}
    for measure, metric in theirs.items():
        expected = [found[str(measure), str(query)] for query in range(len(mine.counts))]
        np.testing.assert_allclose(metric(mine, k), expected, atol=1e-9)


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_map_differs_from_ir_measures_only_in_the_divisor(random_case, k):
    mine, qrels, run = random_case
    found = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.AP @ k], qrels, run)}
    expected = np.array([found[str(query)] for query in range(len(mine.counts))])
    ours = metrics.average_precision(mine, k)
    np.testing.assert_allclose(ours, expected * mine.counts / np.minimum(mine.counts, k), atol=1e-9)
    if k < mine.counts.max():
        assert not np.allclose(ours, expected)


def test_reciprocal_rank_equals_ir_measures(random_case):
    mine, qrels, run = random_case
    found = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.RR], qrels, run)}
    expected = [found[str(query)] for query in range(len(mine.counts))]
    np.testing.assert_allclose(metrics.reciprocal_rank(mine), expected, atol=1e-9)


@pytest.mark.parametrize("metric", [metrics.recall, metrics.ndcg, metrics.average_precision, metrics.precision])
def test_comparison_notices_swapped_cutoffs(random_case, metric):
    mine, _, _ = random_case
    assert not np.allclose(metric(mine, 5), metric(mine, 10))


def test_popularity_percentiles_share_ties_and_mean_one_half():
    np.testing.assert_allclose(metrics.popularity_percentiles(np.array([0, 5, 5, 9])), [1 / 8, 1 / 2, 1 / 2, 7 / 8])
    drawn = np.random.default_rng(0).poisson(2, 1_000)
    assert metrics.popularity_percentiles(drawn).mean() == pytest.approx(0.5)


def test_mean_percentile_by_hand():
    best = np.array([[2, 0, 1], [1, -1, -1], [-1, -1, -1]], np.int32)
    means = metrics.mean_percentile(best, np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(means, [[0.9, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 0]])


def test_coverage_and_gini_by_hand():
    assert metrics.coverage(np.array([0, 3, 0, 1])) == 0.5
    assert metrics.gini(np.array([2, 2, 2, 2])) == pytest.approx(0)
    assert metrics.gini(np.array([0, 0, 0, 7])) == pytest.approx(3 / 4)
    assert metrics.gini(np.array([0, 0])) == 0
    # The mean absolute difference over twice the mean: pairs of 0, 1, 3 differ by 1, 2, 3, each counted twice, over 9.
    assert metrics.gini(np.array([1, 0, 3])) == pytest.approx((12 / 9) / (2 * 4 / 3))


def test_full_ranking_helper_breaks_ties_by_the_smaller_row():
    assert full_ranking(np.array([[1, 2, 2]], np.float32)) == [[1, 2, 0]]
