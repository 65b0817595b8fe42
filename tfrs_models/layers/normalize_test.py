import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.layers.normalize import l2_normalize


def test_values_to_digits():
    np.testing.assert_allclose(l2_normalize(tf.constant([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0, -1]], rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_stays_zero_and_has_a_finite_gradient(dtype):
    x = tf.zeros([1, 3], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = l2_normalize(x)
    assert y.numpy().tolist() == [[0, 0, 0]]
    np.testing.assert_allclose(tape.gradient(y, x), np.full((1, 3), 1e12), rtol=1e-6)


def test_a_row_shorter_than_the_floor_is_divided_by_the_floor():
    np.testing.assert_allclose(l2_normalize(tf.constant([[1e-13, 0]], tf.float64)), [[0.1, 0]], rtol=1e-12)


def test_gradient_numerically():
    x = tf.constant([[0.3, -1.2, 0.5], [2.0, 0.1, 0.7]], tf.float64)
    analytic, numeric = tf.test.compute_gradient(l2_normalize, [x], delta=1e-5)
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-8)
