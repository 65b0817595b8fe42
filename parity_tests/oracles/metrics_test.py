import math

from parity_tests.oracles import metrics

RANKED, RELEVANT = [4, 2, 0, 3, 1], {2, 1, 9}


def test_ranking_breaks_ties_by_the_smaller_row_and_leaves_out_the_excluded():
    assert metrics.ranking([1.0, 3.0, 1.0, 3.0], {3}) == [1, 0, 2]


def test_values_by_hand():
    assert metrics.recall(RANKED, RELEVANT, 2) == 1 / 3
    assert metrics.hit_rate(RANKED, RELEVANT, 1) == 0
    assert metrics.precision(RANKED, RELEVANT, 5) == 2 / 5
    assert metrics.mrr(RANKED, RELEVANT) == 1 / 2
    assert metrics.mrr(RANKED, {9}) == 0
    assert metrics.average_precision(RANKED, RELEVANT, 5) == (1 / 2 + 2 / 5) / 3
    gained, ideal = 1 / math.log2(3) + 1 / math.log2(6), 1 + 1 / math.log2(3) + 1 / 2
    assert metrics.ndcg(RANKED, RELEVANT, 5) == gained / ideal
    assert metrics.accuracy([RANKED, [0]], [(0, 2), (0, 9), (1, 0)], 2) == 2 / 3
    assert metrics.coverage([[0, 1, 2], [0, 2, 1]], 6, 2) == 3 / 6
    assert metrics.popularity_percentiles([5, 0, 5, 1]) == [0.75, 0.125, 0.75, 0.375]
    assert metrics.mean_percentile([1, 3], [0.75, 0.125, 0.75, 0.375], 2) == 0.25
    assert metrics.gini([[0], [0]], 4, 1) == 1 - 1 / 4
    assert metrics.gini([[0], [1], [2], [3]], 4, 1) == 0
