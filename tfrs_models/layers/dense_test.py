import math

import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.layers.dense import DenseLayers

ACTIVATIONS = {
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
}
X = np.asarray([[1.0, -2.0], [0.5, 3.0]])


def _layers(layer_dims, **arguments):
    generator = np.random.default_rng(0)
    layers = DenseLayers(layer_dims, dtype="float64", **arguments)
    for layer in layers.layers:
        layer.kernel.assign(generator.normal(size=layer.kernel.shape))
        layer.bias.assign(generator.normal(size=layer.bias.shape))
    return layers


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_values_by_hand(activation):
    layers = _layers([(2, 3), (3, 2), (2, 4)], activation=activation)
    want = X
    for number, layer in enumerate(layers.layers):
        want = want @ layer.kernel.numpy() + layer.bias.numpy()
        want = np.vectorize(ACTIVATIONS[activation])(want) if number < 2 else want
    np.testing.assert_allclose(layers(tf.constant(X)), want, rtol=1e-13)


def test_gelu_is_the_form_with_erf():
    layers = DenseLayers([(1, 1), (1, 1)], activation="gelu", dtype="float64")
    for layer in layers.layers:
        layer.kernel.assign([[1.0]])
    np.testing.assert_allclose(layers(tf.constant([[1.0]], tf.float64)), [[0.8413447460685429]], rtol=1e-14)


def test_no_layer_is_the_identity():
    x = tf.constant(X)
    assert DenseLayers([], dtype="float64")(x) is x


def test_a_single_layer_is_linear():
    layers = _layers([(2, 3)], activation="relu", dropout=0.9)
    want = X @ layers.layers[0].kernel.numpy() + layers.layers[0].bias.numpy()
    np.testing.assert_allclose(layers(tf.constant(X), dropout_seed=tf.constant([1, 2], tf.int64)), want, rtol=1e-14)


def test_dropout_acts_after_each_hidden_layer_with_its_own_draw():
    layers = DenseLayers([(50, 50), (50, 50), (50, 50)], dropout=0.5)
    for layer in layers.layers:
        layer.kernel.assign(tf.eye(50))
    x, seed = tf.ones([20, 50]), tf.constant([1, 2], tf.int64)
    y = layers(x, dropout_seed=seed).numpy()
    assert set(np.unique(y)) == {0.0, 4.0}
    assert abs((y > 0).mean() - 0.25) < 0.05
    np.testing.assert_array_equal(layers(x), x)


def test_gradient_numerically():
    layers = _layers([(2, 3), (3, 2)], activation="gelu")
    analytic, numeric = tf.test.compute_gradient(layers, [tf.constant(X)], delta=1e-5)
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-8)


def test_norm_and_residual_by_hand():
    """Norm between kernel and activation; the input is added where widths are equal, never at the last layer."""
    generator = np.random.default_rng(0)
    layers = DenseLayers([(3, 4), (4, 4), (4, 4)], "tanh", 0.0, "float64", norm="layer", residual=True)
    for variable in layers.variables:
        variable.assign(generator.normal(size=variable.shape))
    start = x = generator.normal(size=(5, 3))
    for number, (layer, norm) in enumerate(zip(layers.layers, layers.norms, strict=False)):
        y = x @ layer.kernel.numpy() + layer.bias.numpy()
        y = (y - y.mean(axis=1, keepdims=True)) / np.sqrt(y.var(axis=1, keepdims=True) + 1e-6)
        y = np.tanh(y * norm.parts["scale"].numpy() + norm.parts["offset"].numpy())
        x = y + x if number else y
    x = x @ layers.layers[2].kernel.numpy() + layers.layers[2].bias.numpy()
    assert len(layers.norms) == 2
    np.testing.assert_allclose(layers(tf.constant(start)), x, rtol=1e-12)
