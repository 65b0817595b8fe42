import math

import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.losses.pointwise import gbce, sigmoid

INF = float("inf")
LOGITS = tf.constant([[0.1, 1.8, -0.5], [0.0, 0.0, 0.0], [-0.9, -INF, 2.0]], tf.float64)
POSITIVES = tf.constant([1, 0, 2])
WEIGHTS = tf.constant([1.0, 3.0, 0.5], tf.float64)
BIAS, T, V = -0.7, 0.6, 9
LOSSES = {
    "sigmoid": (sigmoid, {"bias": tf.constant(BIAS, tf.float64)}),
    "gbce": (gbce, {"num_candidates": V, "t": T}),
}


def _loss(name, logits=LOGITS, weights=WEIGHTS, positives=POSITIVES, total=None):
    function, arguments = LOSSES[name]
    if name == "sigmoid":
        arguments = {"bias": tf.cast(arguments["bias"], logits.dtype)}
    return function(logits, weights, positives, total, **arguments)


def _log_sigma(x):
    return -math.log(1 + math.exp(-x))


def _by_hand(name, logits, weights, positives):
    """From the definitions as the papers write them."""
    total = 0.0
    for row, weight, p in zip(logits, weights, positives, strict=True):
        others = [s for j, s in enumerate(row) if j != p and s != -INF]
        if name == "sigmoid":
            total -= weight * (_log_sigma(row[p] + BIAS) + sum(_log_sigma(-(s + BIAS)) for s in others))
            continue
        alpha = min(1.0, len(others) / (V - 1))
        beta = alpha * (T * (1 - 1 / alpha) + 1 / alpha) if alpha else 1 - T
        inner = beta * _log_sigma(row[p]) + sum(math.log(1 - math.exp(_log_sigma(s))) for s in others)
        total -= weight * inner / (len(others) + 1)
    return total / sum(weights)


def _gradient(name, logits, **arguments):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = _loss(name, logits, **arguments)
    return float(loss), tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 3, 0.5], [0, 2, 0]])
def test_values_by_hand(name, weights):
    want = _by_hand(name, LOGITS.numpy().tolist(), weights, [1, 0, 2])
    np.testing.assert_allclose(_loss(name, weights=tf.constant(weights, tf.float64)), want, rtol=1e-13)


def test_values_to_digits():
    two, one = tf.zeros([1, 2], tf.float64), tf.ones([1], tf.float64)
    np.testing.assert_allclose(sigmoid(two, one, None, None, bias=tf.zeros([], tf.float64)), 2 * math.log(2))
    # Nine candidates, one negative: alpha is 1/8, and beta 1 - 0.75 * 7/8.
    loss = gbce(two, one, None, None, num_candidates=9, t=0.75)
    np.testing.assert_allclose(loss, math.log(2) * (1 - 0.75 * 7 / 8 + 1) / 2, rtol=1e-14)


def test_t_of_zero_is_binary_cross_entropy_and_all_negatives_too():
    plain = sigmoid(LOGITS[:2], WEIGHTS[:2], POSITIVES[:2], None, bias=tf.zeros([], tf.float64)) / 3
    np.testing.assert_allclose(gbce(LOGITS[:2], WEIGHTS[:2], POSITIVES[:2], None, num_candidates=9, t=0.0), plain)
    np.testing.assert_allclose(gbce(LOGITS[:2], WEIGHTS[:2], POSITIVES[:2], None, num_candidates=3, t=0.9), plain)
    # A candidate may stand in several columns, so that there are more than the catalogue holds.
    np.testing.assert_allclose(gbce(LOGITS[:2], WEIGHTS[:2], POSITIVES[:2], None, num_candidates=2, t=0.9), plain)


@pytest.mark.parametrize("name", list(LOSSES))
def test_masked_equals_deleted_and_gets_no_gradient(name):
    full = tf.constant([[0.4, 0.6, -INF], [0.2, 0.3, -INF]], tf.float64)
    arguments = {"weights": WEIGHTS[:2], "positives": POSITIVES[:2]}
    loss, gradient = _gradient(name, full, **arguments)
    deleted, short = _gradient(name, full[:, :2], **arguments)
    assert loss == deleted
    assert gradient[:, 2].tolist() == [0, 0]
    np.testing.assert_allclose(gradient[:, :2], short, rtol=1e-14)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("value", [INF, -INF, float("nan"), 1e300])
def test_a_row_of_weight_zero_counts_as_deleted(name, value):
    logits = tf.constant([[0.4, 0.6], [value, value]], tf.float64)
    loss, gradient = _gradient(name, logits, weights=tf.constant([2.0, 0.0], tf.float64), positives=POSITIVES[:2])
    assert loss == float(_loss(name, logits[:1], WEIGHTS[:1], POSITIVES[:1]))
    assert gradient[1].tolist() == [0, 0]


@pytest.mark.parametrize("name", list(LOSSES))
def test_all_weights_zero_give_zero_and_no_gradient(name):
    loss, gradient = _gradient(name, LOGITS, weights=0 * WEIGHTS)
    assert loss == 0 and not gradient.any()


def test_without_negatives_the_first_term_is_left():
    alone = tf.constant([[0.25, -INF]], tf.float64)
    arguments = {"weights": WEIGHTS[:1], "positives": tf.constant([0])}
    for name, want in (("sigmoid", -_log_sigma(0.25 + BIAS)), ("gbce", -(1 - T) * _log_sigma(0.25))):
        for logits in (alone, alone[:, :1]):
            loss, gradient = _gradient(name, logits, **arguments)
            np.testing.assert_allclose(loss, want, rtol=1e-14)
            assert np.isfinite(gradient).all() and not gradient[0, 1:].any()
    one = gbce(alone[:, :1], WEIGHTS[:1], None, None, num_candidates=1, t=T)
    np.testing.assert_allclose(one, -(1 - T) * _log_sigma(0.25), rtol=1e-14)


@pytest.mark.parametrize("name", list(LOSSES))
def test_large_logits_do_not_overflow(name):
    for row, size in (([1e4, -1e4], 0), ([-1e4, 1e4], 1e4)):
        logits = tf.constant([row], tf.float32)
        loss, gradient = _gradient(name, logits, weights=tf.ones([1]), positives=tf.constant([0]))
        assert math.isfinite(loss) and np.isfinite(gradient).all()
        assert loss >= size / 2


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_lost_positive_is_infinite_and_stays_visible(name):
    assert float(_loss(name, tf.constant([[-INF, 0.0]]), tf.ones([1]), tf.constant([0]))) == INF


@pytest.mark.parametrize("name", list(LOSSES))
def test_nan_is_not_swallowed(name):
    assert math.isnan(_loss(name, tf.constant([[0.1, float("nan")]]), tf.ones([1]), tf.constant([0])))


@pytest.mark.parametrize("name", list(LOSSES))
def test_parts_of_a_batch_add_up_to_it(name):
    parts = [
        _loss(name, *(x[i : i + 1] for x in (LOGITS, WEIGHTS, POSITIVES)), tf.reduce_sum(WEIGHTS)) for i in range(3)
    ]
    np.testing.assert_allclose(sum(parts), _loss(name), rtol=1e-14)


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradient_numerically(name):
    logits = tf.where(tf.math.is_inf(LOGITS), tf.constant(0.05, tf.float64), LOGITS)
    analytic, numeric = tf.test.compute_gradient(lambda x: _loss(name, x), [logits], delta=1e-6)
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-8)


def test_the_gradient_of_the_bias_numerically():
    def loss(bias):
        return sigmoid(LOGITS, WEIGHTS, POSITIVES, None, bias=bias)

    analytic, numeric = tf.test.compute_gradient(loss, [tf.constant(BIAS, tf.float64)], delta=1e-6)
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-8)


@pytest.mark.parametrize("name", list(LOSSES))
def test_float64_stays_float64(name):
    assert _loss(name, weights=tf.cast(WEIGHTS, tf.float32)).dtype == tf.float64
    exact = _by_hand(name, LOGITS.numpy().tolist(), WEIGHTS.numpy().tolist(), [1, 0, 2])
    assert abs(float(_loss(name)) - exact) < 1e-14
