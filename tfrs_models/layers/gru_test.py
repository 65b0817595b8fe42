import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.layers.gru import GruPooling

COUNTS = [4, 2, 0]
REAL = np.arange(4) < np.asarray(COUNTS)[:, None]


@pytest.fixture
def gru():
    generator = np.random.default_rng(0)
    layer = GruPooling(3, "float64")
    for variable in layer.parts.values():
        variable.assign(generator.normal(size=variable.shape))
    return layer


ITEMS = np.random.default_rng(1).normal(size=(3, 4, 3)) * REAL[:, :, None]


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _by_hand(gru):
    parts = {name: variable.numpy() for name, variable in gru.parts.items()}
    states = np.zeros((3, 4, 3))
    for row, count in enumerate(COUNTS):
        h = np.zeros(3)
        for place in range(4):
            if place < count:
                r, z, n = np.split(ITEMS[row, place] @ parts["input_kernel"] + parts["input_bias"], 3)
                hr, hz, hn = np.split(h @ parts["recurrent_kernel"] + parts["recurrent_bias"], 3)
                r, z = _sigmoid(r + hr), _sigmoid(z + hz)
                h = (1 - z) * np.tanh(n + r * hn) + z * h
            states[row, place] = h
    return states


def test_states_by_hand(gru):
    want = _by_hand(gru)
    np.testing.assert_allclose(gru.places(tf.constant(ITEMS), tf.constant(REAL)), want, rtol=1e-12)
    np.testing.assert_allclose(gru(tf.constant(ITEMS), tf.constant(REAL)), want[:, -1], rtol=1e-12)
    assert not want[2].any()


def test_every_length_goes_through_one_trace(gru):
    spec = [tf.TensorSpec([None, None, 3], tf.float64), tf.TensorSpec([None, None], tf.bool)]

    @tf.function(input_signature=spec)
    def run(items, real):
        with tf.GradientTape() as tape:
            tape.watch(items)
            last = gru(items, real)
        return last, tape.gradient(last, items)

    whole = run(tf.constant(ITEMS), tf.constant(REAL))
    short = run(tf.constant(ITEMS[1:, :2]), tf.constant(REAL[1:, :2]))
    np.testing.assert_allclose(short[0], whole[0][1:], rtol=1e-14)
    np.testing.assert_allclose(short[1], whole[1][1:, :2], rtol=1e-14)
    assert not whole[1].numpy()[~REAL].any()
    assert run(tf.zeros([2, 0, 3], tf.float64), tf.zeros([2, 0], tf.bool))[0].numpy().tolist() == [[0, 0, 0]] * 2
