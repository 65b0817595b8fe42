import numpy as np
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.indexes.excluded import Excluded


def _three():
    rows = [np.array([4, 1, 4], np.int32), np.array([], np.int32), np.array([0], np.int32)]
    return Excluded.from_rows(rows, num_queries=3, size=5)


def test_pairs_are_sorted_and_distinct():
    excluded = _three()
    assert list(zip(excluded.places.tolist(), excluded.rows.tolist(), strict=True)) == [(0, 1), (0, 4), (2, 0)]
    assert excluded.counts.tolist() == [2, 0, 1]


def test_contains():
    asked_BM = np.array([[4, 0, -1], [4, 0, -1], [0, 4, -1]], np.int32)
    assert _three().contains(asked_BM).tolist() == [[True, False, False], [False] * 3, [True, False, False]]


def test_at_counts_queries_anew():
    excluded = _three().at(np.array([1, 2]))
    assert (excluded.num_queries, excluded.counts.tolist()) == (2, [0, 1])
    assert excluded.contains(np.array([[0], [0]], np.int32)).tolist() == [[False], [True]]


@pytest.mark.parametrize("rows", [None, [np.array([], np.int32)] * 2])
def test_nothing_excluded(rows):
    excluded = Excluded.from_rows(rows, num_queries=2, size=5)
    assert excluded.counts.tolist() == [0, 0]
    assert not excluded.contains(np.array([[0], [-1]], np.int32)).any()


def test_faults_are_named():
    with pytest.raises(UserError, match="excluded candidate row 5 is outside 0 to 4"):
        Excluded.from_rows([np.array([2, 5], np.int32)], num_queries=1, size=5)
    with pytest.raises(UserError, match="1 lists of excluded candidates for 2 queries"):
        Excluded.from_rows([np.array([2], np.int32)], num_queries=2, size=5)


def test_repeated_bars_the_same_rows_for_each_vector_of_a_query():
    barred = Excluded.from_rows([np.array([5, 2]), np.array([], int), np.array([7])], num_queries=3, size=9).repeated(2)
    pairs = list(zip(barred.places.tolist(), barred.rows.tolist(), strict=True))
    assert pairs == [(0, 2), (0, 5), (1, 2), (1, 5), (4, 7), (5, 7)]
    assert barred.num_queries == 6 and barred.counts.tolist() == [2, 2, 0, 0, 1, 1]
