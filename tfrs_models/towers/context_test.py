import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.towers.context import ContextMerge

QUERY, CONTEXT = np.asarray([[1.0, 2], [3, 4]]), np.asarray([[10.0, -20], [0, 1]])


def test_a_sum_has_no_weights():
    merge = ContextMerge(2, "sum", "float64")
    assert merge(tf.constant(QUERY), tf.constant(CONTEXT)).numpy().tolist() == [[11, -18], [3, 5]]
    assert not merge.variables


@pytest.mark.parametrize("num_interests", [None, 3])
def test_a_gate_by_hand(num_interests):
    merge = ContextMerge(2, "gate", "float64")
    kernel, bias = np.random.default_rng(0).normal(size=(4, 2)) / 9, np.asarray([0.5, -0.5])
    merge.parts["kernel"].assign(kernel)
    merge.parts["bias"].assign(bias)
    gate = 1 / (1 + np.exp(-(np.concatenate([QUERY, CONTEXT], axis=1) @ kernel + bias)))
    want = gate * QUERY + (1 - gate) * CONTEXT
    if num_interests is None:
        np.testing.assert_allclose(merge(tf.constant(QUERY), tf.constant(CONTEXT)), want, rtol=1e-13)
    else:
        several = tf.constant(np.repeat(QUERY[:, None], 3, axis=1))
        np.testing.assert_allclose(
            merge(several, tf.constant(CONTEXT)), np.repeat(want[:, None], 3, axis=1), rtol=1e-13
        )
