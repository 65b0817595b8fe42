import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.indexes.each_query import each_query


@tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([], tf.int32)])
def _best(asked, k):
    def answer(one):
        scores, rows = tf.math.top_k(one["asked"] * one["sign"][0], k)
        return rows, scores

    signs = tf.cast(tf.range(1, tf.shape(asked)[0] + 1), tf.float32)[:, None]
    return each_query(answer, {"asked": asked, "sign": signs})


@pytest.mark.parametrize("num_queries", [0, 1, 2, 5])
def test_each_has_its_own_inputs_and_answer(num_queries):
    asked = np.random.default_rng(0).normal(size=(num_queries, 3)).astype(np.float32)
    rows, scores = _best(asked, 2)
    true = np.argsort(-asked, axis=1)[:, :2]
    np.testing.assert_array_equal(rows, true)
    signs = np.arange(1, num_queries + 1, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(scores, np.take_along_axis(asked, true, axis=1) * signs)
    assert rows.shape == scores.shape == (num_queries, 2)
