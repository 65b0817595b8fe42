import numpy as np

from retrieval_contract.arrays import TopK
from retrieval_contract.indexes.interests import merged


def top(rows, scores):
    return TopK(rows=np.array(rows, np.int32), scores=np.array(scores, np.float32))


def test_copies_keep_their_largest_score_and_ties_go_to_the_smaller_row():
    found = merged(top([[4, 2, 9], [7, 4, 1]], [[3.0, 2.0, 1.0], [3.0, 2.5, 2.0]]), 2)
    assert found.rows.tolist() == [[4, 7, 1]]
    assert found.scores.tolist() == [[3.0, 3.0, 2.0]]


def test_places_without_a_result_come_last():
    none = -np.inf
    rows = [[5, -1, -1], [5, 3, -1], [-1, -1, -1], [2, -1, -1]]
    scores = [[1, none, none], [2, 0, none], [none, none, none], [-7, none, none]]
    found = merged(top(rows, scores), 2)
    assert found.rows.tolist() == [[5, 3, -1], [2, -1, -1]]
    assert found.scores.tolist() == [[2.0, 0.0, none], [-7.0, none, none]]
