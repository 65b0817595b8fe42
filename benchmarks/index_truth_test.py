import numpy as np

from benchmarks import index_truth
from benchmarks.index_truth import Truth, true_rows


def test_the_truth_is_a_sort_of_everything_ties_by_the_smaller_row(monkeypatch):
    monkeypatch.setattr(index_truth, "CHUNK", 64)
    generator = np.random.default_rng(0)
    values = generator.standard_normal((500, 8)).astype(np.float32)
    values[300:400] = values[:100]
    queries = generator.standard_normal((6, 8)).astype(np.float32)
    scores = (queries.astype(np.float64) @ values.astype(np.float64).T).astype(np.float32)
    true = np.argsort(-scores, axis=1, kind="stable")[:, :50]
    np.testing.assert_array_equal(true_rows(values, queries, 50), true)
    parted = Truth(queries, 50)
    for part in np.split(values, [3, 10, 333]):
        parted.add(part)
    np.testing.assert_array_equal(parted.rows, true)


def test_fewer_candidates_than_asked_for_are_filled_up():
    values = np.eye(3, dtype=np.float32)
    assert true_rows(values, values[:1], 5).tolist() == [[0, 1, 2, -1, -1]]
