import numpy as np
import tensorflow as tf

from tfrs_models.layers.cross import CrossLayers


def test_two_layers_by_hand():
    generator = np.random.default_rng(0)
    layers = CrossLayers(3, 2, "float64")
    kernels, biases = generator.normal(size=(2, 3, 3)), generator.normal(size=(2, 3))
    for number in range(2):
        layers.kernels[number].assign(kernels[number])
        layers.biases[number].assign(biases[number])
    start = x = generator.normal(size=(4, 3))
    for kernel, bias in zip(kernels, biases, strict=True):
        x = np.asarray([a * (b @ kernel + bias) + b for a, b in zip(start, x, strict=True)])
    np.testing.assert_allclose(layers(tf.constant(start)), x, rtol=1e-13)


def test_none_is_the_identity():
    x = tf.constant([[1.0, 2]])
    assert CrossLayers(2, 0)(x).numpy().tolist() == [[1, 2]]
