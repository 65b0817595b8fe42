import numpy as np
import tensorflow as tf

from tfrs_models.layers.attention_pooling import AttentionPooling


def test_by_hand():
    generator = np.random.default_rng(0)
    pooling = AttentionPooling(3, "float64")
    parts = {name: generator.normal(size=variable.shape) for name, variable in pooling.parts.items()}
    for name, values in parts.items():
        pooling.parts[name].assign(values)
    counts, items = [4, 2, 0], generator.normal(size=(3, 4, 3))
    want = np.zeros((3, 3))
    for row, count in enumerate(counts):
        items[row, count:] = 0
        if count:
            scores = [np.tanh(h @ parts["kernel"] + parts["bias"]) @ parts["vector"][:, 0] for h in items[row, :count]]
            shares = np.exp(scores) / np.exp(scores).sum()
            want[row] = sum(share * h for share, h in zip(shares, items[row, :count], strict=True))
    real = np.arange(4) < np.asarray(counts)[:, None]
    np.testing.assert_allclose(pooling(tf.constant(items), tf.constant(real)), want, rtol=1e-13)
