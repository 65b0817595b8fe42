import numpy as np
import tensorflow as tf

from tfrs_models.layers.mind import MindPooling

COUNTS = [4, 2, 0]
REAL = np.arange(4) < np.asarray(COUNTS)[:, None]
ITEMS = np.random.default_rng(1).normal(size=(3, 4, 3)) * REAL[:, :, None]
SEED = tf.constant([1, 2], tf.int64)


def _layer(num_iterations=3):
    generator = np.random.default_rng(0)
    layer = MindPooling(3, 5, 2, num_iterations, "float64")
    for variable in layer.parts.values():
        variable.assign(generator.normal(size=variable.shape))
    return layer


def _squash(z):
    square = (z * z).sum()
    return square / (1 + square) * z / np.sqrt(square)


def _by_hand(layer, num_iterations):
    """Interests, and the shares w of the last iteration."""
    kernel, routing = layer.parts["kernel"].numpy(), layer.parts["routing"].numpy()
    interests, shares = np.zeros((3, 2, 3)), np.zeros((3, 4, 2))
    for row, count in enumerate(COUNTS):
        u, logits = ITEMS[row, :count] @ kernel, routing[:count][::-1].copy()
        for _ in range(num_iterations if count else 0):
            w = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            k = np.stack([_squash(sum(w[item, i] * u[item] for item in range(count))) for i in range(2)])
            logits = logits + u @ k.T
            interests[row], shares[row, :count] = k, w
    return interests, shares


def test_routing_by_hand():
    for num_iterations in (1, 2, 3):
        layer = _layer(num_iterations)
        want, _ = _by_hand(layer, num_iterations)
        np.testing.assert_allclose(layer(tf.constant(ITEMS), tf.constant(REAL)), want, rtol=1e-12)


def test_the_gradient_passes_through_the_last_sum_alone():
    """The shares are constants: differences of squash(sum w u) with the shares held."""
    layer, items = _layer(), tf.constant(ITEMS)
    with tf.GradientTape() as tape:
        tape.watch(items)
        total = tf.reduce_sum(layer(items, tf.constant(REAL)) * [[1.0, 2, 3], [4, 5, 6]])
    gradients = tape.gradient(total, [items, layer.parts["kernel"]])
    _, shares = _by_hand(layer, 3)
    kernel, direction = layer.parts["kernel"].numpy(), np.random.default_rng(2).normal(size=(3, 3))

    def held(kernel):
        z = np.einsum("bli,blw->biw", shares, ITEMS @ kernel)[:2]
        k = np.asarray([[_squash(one) for one in row] for row in z])
        return (k * [[1.0, 2, 3], [4, 5, 6]]).sum()

    along = (held(kernel + 1e-6 * direction) - held(kernel - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose((gradients[1].numpy() * direction).sum(), along, rtol=1e-7)
    assert np.isfinite(gradients[0]).all()
    assert not gradients[0].numpy()[~REAL].any()


def test_training_draws_the_logits_from_the_seed():
    layer, arguments = _layer(), (tf.constant(ITEMS), tf.constant(REAL))
    drawn = layer(*arguments, dropout_seed=SEED).numpy()
    np.testing.assert_array_equal(layer(*arguments, dropout_seed=SEED), drawn)
    assert (drawn[:2] != layer(*arguments).numpy()[:2]).all()
    assert (drawn[:2] != layer(*arguments, dropout_seed=2 * SEED).numpy()[:2]).all()
    assert not drawn[2].any()


def test_the_drawn_logits_are_standard_normal():
    start = _layer()._start(tf.ones([400, 5], tf.bool), SEED).numpy()
    assert start.shape == (400, 5, 2)
    assert abs(start.mean()) < 0.05
    assert abs(start.std() - 1) < 0.05


def test_the_fixed_logits_are_not_trained():
    assert not _layer().parts["routing"].trainable
