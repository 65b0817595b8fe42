import math

import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.losses.softmax import softmax_cross_entropy

INF = float("inf")
LOGITS = tf.constant([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [-1.0, 3.0, 2.0]], tf.float64)
ONES = tf.ones([3], tf.float64)


def _by_hand(logits, weights):
    total = 0.0
    for i, (row, weight) in enumerate(zip(logits, weights, strict=True)):
        total += weight * (math.log(sum(math.exp(x) for x in row)) - row[i]) if weight else 0.0
    return total / sum(weights)


@pytest.mark.parametrize("weights", [[1, 1, 1], [2, 0.5, 0.25], [0, 1, 0]])
def test_values_by_hand(weights):
    loss = softmax_cross_entropy(LOGITS, tf.constant(weights, tf.float64))
    np.testing.assert_allclose(loss, _by_hand(LOGITS.numpy().tolist(), weights), rtol=1e-14)


def test_values_to_digits():
    np.testing.assert_allclose(softmax_cross_entropy(tf.zeros([4, 4]), tf.ones([4])), math.log(4), rtol=1e-7)
    two = tf.constant([[0.0, math.log(3)], [math.log(3), 0.0]], tf.float64)
    np.testing.assert_allclose(softmax_cross_entropy(two, tf.ones([2])), math.log(4), rtol=1e-14)


def test_more_candidates_than_queries():
    wide = tf.concat([LOGITS, [[4.0], [-2.0], [0.1]]], axis=1)
    np.testing.assert_allclose(
        softmax_cross_entropy(wide, ONES), _by_hand(wide.numpy().tolist(), [1, 1, 1]), rtol=1e-14
    )


def test_a_constant_on_a_row_changes_nothing_on_a_column_it_does():
    rows = softmax_cross_entropy(LOGITS + tf.constant([[5.0], [-300.0], [1e3]], tf.float64), ONES)
    np.testing.assert_allclose(rows, softmax_cross_entropy(LOGITS, ONES), rtol=1e-12)
    assert (
        abs(
            softmax_cross_entropy(LOGITS + tf.constant([[5.0, 0, 0]], tf.float64), ONES)
            - softmax_cross_entropy(LOGITS, ONES)
        )
        > 0.1
    )


def test_it_is_a_mean_of_the_weights_not_a_sum():
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, 7 * ONES), softmax_cross_entropy(LOGITS, ONES), rtol=1e-14)


def test_masked_equals_deleted():
    masked = tf.constant([[1.0, 2.0, -INF], [0.3, 0.1, -INF]])
    np.testing.assert_array_equal(
        softmax_cross_entropy(masked, tf.ones([2])), softmax_cross_entropy(masked[:, :2], tf.ones([2]))
    )


def test_weight_zero_equals_deleted_even_where_the_positive_is_masked():
    logits = tf.constant([[1.0, 2.0], [0.5, -INF]], tf.float64)
    for row in ([0.5, -INF], [-INF, -INF]):
        logits, weights = tf.constant([[1.0, 2.0], row], tf.float64), tf.constant([1.0, 0.0], tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = softmax_cross_entropy(logits, weights)
        np.testing.assert_allclose(loss, math.log(1 + math.e), rtol=1e-14)
        gradient = tape.gradient(loss, logits).numpy()
        assert np.isfinite(gradient).all()
        assert gradient[1].tolist() == [0, 0]


def test_all_weights_zero_give_zero_and_no_gradient():
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        loss = softmax_cross_entropy(LOGITS, 0 * ONES)
    assert float(loss) == 0
    assert not tape.gradient(loss, LOGITS).numpy().any()


def test_a_lost_positive_is_infinite_and_stays_visible():
    assert float(softmax_cross_entropy(tf.constant([[-INF, 0.0], [0.0, 0.0]]), tf.ones([2]))) == INF
    assert float(softmax_cross_entropy(tf.constant([[-INF, -INF], [0.0, 0.0]]), tf.ones([2]))) == INF


def test_nan_is_not_swallowed():
    assert math.isnan(softmax_cross_entropy(tf.constant([[float("nan"), 0.0], [0.0, 0.0]]), tf.ones([2])))
    assert math.isnan(softmax_cross_entropy(LOGITS, tf.constant([1.0, float("nan"), 1.0])))


def test_large_logits_do_not_overflow():
    assert float(softmax_cross_entropy(tf.constant([[1e30, -1e30], [0.0, 1e4]]), tf.ones([2]))) == 0
    np.testing.assert_allclose(
        softmax_cross_entropy(tf.constant([[-1e4, 1e4], [0.0, 0.0]]), tf.ones([2])), 1e4, rtol=1e-4
    )


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 0.0, 0.25]])
def test_gradient_numerically(weights):
    def loss(logits):
        return softmax_cross_entropy(logits, tf.constant(weights, tf.float64))

    analytic, numeric = tf.test.compute_gradient(loss, [LOGITS], delta=1e-5)
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-9)
