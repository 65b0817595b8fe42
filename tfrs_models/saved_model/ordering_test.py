import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.saved_model.ordering import best, contains, distinct, merged, rescored


def test_copies_become_none():
    rows = tf.constant([[5, 2, 5, -1, 5], [0, 0, 1, 1, -1]])
    assert distinct(rows).numpy().tolist() == [[-1, 2, 5, -1, -1], [-1, 0, -1, 1, -1]]
    assert distinct(tf.zeros([2, 0], tf.int32)).shape == (2, 0)


def test_excluded_rows_are_found_whatever_their_order_and_padding():
    excluded = tf.constant([[7, -1, 3, 3], [-1, -1, -1, -1]])
    rows = tf.constant([[3, 4, 7, 8], [3, 4, 7, 8]])
    assert contains(excluded, rows).numpy().tolist() == [[True, False, True, False], [False] * 4]
    assert not contains(tf.zeros([2, 0], tf.int32), rows).numpy().any()


def test_ties_go_to_the_smaller_row_and_missing_places_are_padded():
    rows, scores = best(tf.constant([[1, 4, -1, 9]]), tf.constant([[2.0, 3.0, 9.0, 3.0]]), tf.constant(5))
    assert rows.numpy().tolist() == [[4, 9, 1, -1, -1]]
    assert scores.numpy().tolist() == [[3.0, 3.0, 2.0, -np.inf, -np.inf]]


def test_merging_keeps_the_largest_score_of_each():
    rows = tf.constant([[4, 2, -1, 2, 9, 4]])
    scores = tf.constant([[3.0, 1.0, -np.inf, 5.0, 3.0, 2.0]])
    found = merged(rows, scores, tf.constant(4))
    assert [part.numpy().tolist() for part in found] == [[[2, 4, 9, -1]], [[5.0, 3.0, 3.0, -np.inf]]]


@pytest.mark.parametrize("num_proposed", [0, 3, 30])
def test_scores_are_inner_products_in_float64(num_proposed):
    generator = np.random.default_rng(0)
    values = generator.standard_normal((20, 5)).astype(np.float32)
    queries = generator.standard_normal((4, 2, 5)).astype(np.float32)
    rows = generator.integers(-1, 20, (4, num_proposed)).astype(np.int32)
    found_rows, found_scores = (x.numpy() for x in rescored(values, queries, tf.constant(rows), tf.constant(6)))
    exact = np.einsum("bid,nd->bin", queries, values, dtype=np.float64).max(axis=1).astype(np.float32)
    for place in range(4):
        proposed = sorted(set(rows[place][rows[place] >= 0].tolist()), key=lambda row: (-exact[place, row], row))[:6]
        assert found_rows[place].tolist() == proposed + [-1] * (6 - len(proposed))
        np.testing.assert_array_equal(found_scores[place][: len(proposed)], exact[place, proposed])
        assert np.isneginf(found_scores[place][len(proposed) :]).all()
