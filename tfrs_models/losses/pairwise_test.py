import math

import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.losses.pairwise import bpr, contrastive, triplet

INF = float("inf")
LOGITS = tf.constant([[0.1, 0.8, 0.5], [0.0, 0.0, 0.0], [-0.9, -INF, 0.2]], tf.float64)
POSITIVES = tf.constant([1, 0, 2])
WEIGHTS = tf.constant([1.0, 3.0, 0.5], tf.float64)
LOSSES = {"bpr": (bpr, {}), "triplet": (triplet, {"margin": 0.45}), "contrastive": (contrastive, {"margin": 0.7})}


def _loss(name, logits=LOGITS, weights=WEIGHTS, positives=POSITIVES, total=None):
    function, arguments = LOSSES[name]
    return function(logits, weights, positives, total, **arguments)


def _by_hand(name, logits, weights, positives):
    pair = {
        "bpr": lambda s, s_p: math.log(1 + math.exp(s - s_p)),
        "triplet": lambda s, s_p: max(0.0, 0.45 + s - s_p),
        "contrastive": lambda s, s_p: max(0.0, 0.7 - (1 - s)) ** 2 / 2,
    }[name]
    total = 0.0
    for row, weight, p in zip(logits, weights, positives, strict=True):
        losses = [pair(s, row[p]) for j, s in enumerate(row) if j != p and s != -INF]
        total += weight * sum(losses) / max(len(losses), 1)
        total += weight * (1 - row[p]) ** 2 / 2 if name == "contrastive" else 0
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
    np.testing.assert_allclose(_loss(name, weights=tf.constant(weights, tf.float64)), want, rtol=1e-14)


def test_values_to_digits():
    two, one = tf.constant([[0.0, 1.0]], tf.float64), tf.ones([1], tf.float64)
    np.testing.assert_allclose(bpr(two, one, None, None), math.log(1 + math.e), rtol=1e-14)
    np.testing.assert_allclose(triplet(two, one, None, None, margin=0.2), 1.2, rtol=1e-14)
    # d_p = 1, and a negative at distance 0 of a margin of 0.2.
    np.testing.assert_allclose(contrastive(two, one, None, None, margin=0.2), (1 + 0.04) / 2, rtol=1e-14)


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_mean_is_over_the_negatives_not_a_sum(name):
    copies = tf.constant([[0.4, 0.9, 0.9, 0.9]], tf.float64)
    np.testing.assert_allclose(
        _loss(name, copies, WEIGHTS[:1], tf.constant([0])),
        _loss(name, copies[:, :2], WEIGHTS[:1], tf.constant([0])),
        rtol=1e-14,
    )


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
    arguments = {"positives": POSITIVES[:2]}
    loss, gradient = _gradient(name, logits, weights=tf.constant([2.0, 0.0], tf.float64), **arguments)
    assert loss == float(_loss(name, logits[:1], WEIGHTS[:1], POSITIVES[:1]))
    assert gradient[1].tolist() == [0, 0]


@pytest.mark.parametrize("name", list(LOSSES))
def test_all_weights_zero_give_zero_and_no_gradient(name):
    loss, gradient = _gradient(name, LOGITS, weights=0 * WEIGHTS)
    assert loss == 0 and not gradient.any()


def test_without_negatives():
    alone = tf.constant([[0.25, -INF], [-INF, -0.5]], tf.float64)
    for name, want in (("bpr", 0), ("triplet", 0), ("contrastive", (0.75**2 + 1.5**2) / 4)):
        loss, gradient = _gradient(name, alone, weights=tf.ones([2], tf.float64), positives=tf.constant([0, 1]))
        assert loss == pytest.approx(want, abs=1e-15)
        assert np.isfinite(gradient).all() and gradient[0, 1] == gradient[1, 0] == 0
        assert float(_loss(name, alone[:1, :1], WEIGHTS[:1], POSITIVES[1:2])) == pytest.approx(
            0.75**2 / 2 if name == "contrastive" else 0
        )


@pytest.mark.parametrize("name", list(LOSSES))
def test_large_logits_do_not_overflow(name):
    for row in ([1e4, -1e4], [-1e4, 1e4]):
        logits = tf.constant([row], tf.float32)
        loss, gradient = _gradient(name, logits, weights=tf.ones([1]), positives=tf.constant([0]))
        assert math.isfinite(loss) and np.isfinite(gradient).all()
    np.testing.assert_allclose(bpr(tf.constant([[-1e4, 1e4]]), tf.ones([1]), None, None), 2e4, rtol=1e-6)
    assert float(bpr(tf.constant([[1e4, -1e4]]), tf.ones([1]), None, None)) == 0


def test_on_the_hinge_the_gradient_is_zero():
    logits = tf.constant([[0.5, 0.25]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = triplet(logits, tf.ones([1], tf.float64), None, None, margin=0.25)
    assert float(loss) == 0 and not tape.gradient(loss, logits).numpy().any()


@pytest.mark.parametrize("name", ["bpr", "triplet"])
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


@pytest.mark.parametrize("name", list(LOSSES))
def test_float64_stays_float64(name):
    assert _loss(name, weights=tf.cast(WEIGHTS, tf.float32)).dtype == tf.float64
    exact = _by_hand(name, LOGITS.numpy().tolist(), WEIGHTS.numpy().tolist(), [1, 0, 2])
    assert abs(float(_loss(name)) - exact) < 1e-15
