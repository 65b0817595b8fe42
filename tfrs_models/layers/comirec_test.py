import numpy as np
import tensorflow as tf

from tfrs_models.layers.comirec import ComiRecPooling


def test_by_hand():
    generator = np.random.default_rng(0)
    pooling = ComiRecPooling(3, 6, 2, 4, "float64")
    parts = {name: generator.normal(size=variable.shape) for name, variable in pooling.parts.items()}
    for name, values in parts.items():
        pooling.parts[name].assign(values)
    counts, items = [4, 2, 0], generator.normal(size=(3, 4, 3))
    want = np.zeros((3, 2, 3))
    for row, count in enumerate(counts):
        items[row, count:] = 0
        if count:
            placed = items[row, :count] + parts["position"][:count][::-1]
            exp = np.exp(np.tanh(placed @ parts["kernel_1"]) @ parts["kernel_2"])
            shares = exp / exp.sum(axis=0)
            for i in range(2):
                want[row, i] = sum(shares[place, i] * items[row, place] for place in range(count))
    real = np.arange(4) < np.asarray(counts)[:, None]
    np.testing.assert_allclose(pooling(tf.constant(items), tf.constant(real)), want, rtol=1e-13)
