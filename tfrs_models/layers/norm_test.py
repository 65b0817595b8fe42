import numpy as np
import tensorflow as tf

from tfrs_models.layers.norm import BatchNorm, LayerNorm

X = np.asarray([[1.0, 2, 6], [4, 4, 4], [0, -3, 3]])


def _assign(norm, **parts):
    for name, values in parts.items():
        norm.parts[name].assign(values)
    return norm


def test_layer_norm_by_hand():
    norm = _assign(LayerNorm(3, "float64"), scale=[1, 2, 3], offset=[0.5, 0, 0])
    want = [
        [-2 / np.sqrt(14 / 3 + 1e-6) + 0.5, -2 / np.sqrt(14 / 3 + 1e-6), 9 / np.sqrt(14 / 3 + 1e-6)],
        [0.5, 0, 0],
        [0.5, -6 / np.sqrt(6 + 1e-6), 9 / np.sqrt(6 + 1e-6)],
    ]
    np.testing.assert_allclose(norm(tf.constant(X)), want, rtol=1e-14)
    np.testing.assert_allclose(norm(tf.constant(X[None]))[0], want, rtol=1e-14)


def test_a_row_of_equal_numbers_has_a_finite_gradient():
    norm, x = _assign(LayerNorm(3), scale=[1, 1, 1]), tf.zeros([2, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = norm(x)[:, 0]
    assert np.isfinite(tape.gradient(y, x)).all()


def _batch_norm(**parts):
    start = {"scale": [1, 2, 3], "offset": [0.5, 0, 0], "mean": [1, 1, 1], "variance": [4, 4, 0]}
    return _assign(BatchNorm(3, "float64"), **(start | parts))


def test_batch_norm_serves_by_its_moving_statistics():
    want = (X - 1) / np.sqrt(np.asarray([4.0, 4, 0]) + 1e-3) * [1, 2, 3] + [0.5, 0, 0]
    np.testing.assert_allclose(_batch_norm()(tf.constant(X)), want, rtol=1e-14)


def test_batch_norm_trains_by_the_batch_and_hands_over_what_it_saw():
    norm, moments = _batch_norm(), []
    y = norm(tf.constant(X), moments=moments)
    want = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 1e-3) * [1, 2, 3] + [0.5, 0, 0]
    np.testing.assert_allclose(y, want, rtol=1e-14)
    [(seen_by, mean, variance)] = moments
    assert seen_by is norm
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(variance, X.var(axis=0), rtol=1e-15)
    assert norm.parts["mean"].numpy().tolist() == [1, 1, 1]
    norm.follow(mean, variance)
    np.testing.assert_allclose(norm.parts["mean"], 0.99 + 0.01 * X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(norm.parts["variance"], 0.99 * np.asarray([4, 4, 0]) + 0.01 * X.var(axis=0), rtol=1e-14)


def test_the_gradient_passes_through_the_batchs_statistics():
    """A number that is added to every row changes nothing, so it has no gradient."""
    norm, x = _batch_norm(), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = norm(x, moments=[]) * tf.constant([[1.0], [2], [5]], tf.float64)
    gradient = tape.gradient(y, x).numpy()
    assert np.abs(gradient).max() > 0.1
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-14)


def test_moving_statistics_are_not_trained():
    assert [variable.trainable for variable in _batch_norm().parts.values()] == [True, True, False, False]
