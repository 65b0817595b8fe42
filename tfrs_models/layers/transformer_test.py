import math

import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract.config import TransformerPooling as Settings
from tfrs_models.layers.transformer import TransformerPooling

COUNTS = [4, 2, 0]
REAL = np.arange(4) < np.asarray(COUNTS)[:, None]
ITEMS = np.random.default_rng(1).normal(size=(3, 4, 6)) * REAL[:, :, None]
SEED = tf.constant([1, 2], tf.int64)


def _layer(dtype="float64", **settings):
    generator = np.random.default_rng(0)
    settings = Settings(**{"num_blocks": 2, "num_heads": 2, "feed_forward_dim": 5, **settings})
    layer = TransformerPooling(6, 5, settings, dtype)
    for variable in layer.parts.values():
        variable.assign(generator.normal(size=variable.shape, scale=0.5))
    return layer


def _norm(parts, name, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) * parts[f"{name}.scale"] + parts[f"{name}.offset"]


def _dense(parts, name, x):
    return x @ parts[f"{name}.kernel"] + parts[f"{name}.bias"]


def _gelu(x):
    return x * (1 + np.vectorize(math.erf, otypes=[float])(x / np.sqrt(2))) / 2


def _attention(parts, block, x):
    q, k, v = (_dense(parts, block + name, x) for name in ("query", "key", "value"))
    out = np.zeros_like(x)
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        for place in range(len(x)):
            scores = np.asarray([q[place, part] @ k[other, part] for other in range(place + 1)]) / np.sqrt(3)
            shares = np.exp(scores) / np.exp(scores).sum()
            out[place, part] = sum(shares[other] * v[other, part] for other in range(place + 1))
    return _dense(parts, block + "output", out)


def _by_hand(layer):
    """Row by row, over the real items alone: there is no padding to mask."""
    parts = {name: variable.numpy() for name, variable in layer.parts.items()}
    want = np.zeros((3, 4, 6))
    for row, count in enumerate(COUNTS):
        x = ITEMS[row, :count] + parts["position"][:count][::-1]
        for number in range(2):
            block = f"block.{number}."
            x = x + _attention(parts, block, _norm(parts, block + "norm_1", x))
            hidden = _gelu(_dense(parts, block + "feed_forward.0", _norm(parts, block + "norm_2", x)))
            x = x + _dense(parts, block + "feed_forward.1", hidden)
        want[row, :count] = _norm(parts, "norm", x)
    return want


def test_places_by_hand():
    layer = _layer()
    want = _by_hand(layer)
    np.testing.assert_allclose(layer.places(tf.constant(ITEMS), tf.constant(REAL)), want, rtol=1e-10, atol=1e-14)
    last = np.stack([want[0, 3], want[1, 1], np.zeros(6)])
    np.testing.assert_allclose(layer(tf.constant(ITEMS), tf.constant(REAL)), last, rtol=1e-10, atol=1e-14)


def test_an_item_is_not_seen_by_earlier_places():
    layer = _layer()
    before = layer.places(tf.constant(ITEMS), tf.constant(REAL)).numpy()
    changed = ITEMS.copy()
    changed[0, 2] += np.arange(6)
    after = layer.places(tf.constant(changed), tf.constant(REAL)).numpy()
    np.testing.assert_array_equal(after[0, :2], before[0, :2])
    assert (after[0, 2:] != before[0, 2:]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_more_padding_changes_nothing_and_gets_no_gradient(dtype):
    layer, kernel = _layer(dtype), "block.0.key.kernel"
    found = []
    for more in (0, 3):
        items = tf.constant(np.pad(ITEMS, [(0, 0), (0, more), (0, 0)]), dtype)
        real = tf.constant(np.pad(REAL, [(0, 0), (0, more)]))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(items)
            last = layer(items, real)
        found.append((last, tape.gradient(last, layer.parts[kernel]), tape.gradient(last, layer.parts["position"])))
        on_items = tape.gradient(last, items).numpy()
        assert np.isfinite(on_items).all()
        assert not on_items[~real.numpy()].any()
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-6)


def test_positions_have_a_dense_gradient():
    layer = _layer()
    with tf.GradientTape() as tape:
        last = layer(tf.constant(ITEMS), tf.constant(REAL))
    gradient = tape.gradient(last, layer.parts["position"])
    assert isinstance(gradient, tf.Tensor)
    assert [bool(row.any()) for row in gradient.numpy()] == [True] * 4 + [False]


def test_dropout_is_a_function_of_the_seed():
    layer, arguments = _layer(dropout=0.5), (tf.constant(ITEMS), tf.constant(REAL))
    plain, dropped = layer(*arguments).numpy(), layer(*arguments, dropout_seed=SEED).numpy()
    np.testing.assert_array_equal(layer(*arguments, dropout_seed=SEED), dropped)
    assert (dropped[:2] != plain[:2]).any()
    assert (layer(*arguments, dropout_seed=2 * SEED).numpy()[:2] != dropped[:2]).any()
    assert not dropped[2].any()
