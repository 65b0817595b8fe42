import sys

import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.negatives import bank
from tfrs_models.negatives.bank import NegativeBank, log_sum
from tfrs_models.negatives.columns import Columns


def _columns(first, num, bias=True):
    numbers = tf.range(first, first + num)
    values = tf.cast(numbers, tf.float32)
    return Columns(tf.stack([values, -values], axis=1), numbers, -values / 10, 2 * values if bias else None)


def test_it_starts_empty_and_fills():
    ring = NegativeBank(5, 2, True)
    assert ring.columns().vectors_ND.shape == (0, 2)
    ring.enqueue(_columns(10, 3))
    found = ring.columns()
    assert found.rows_N.numpy().tolist() == [10, 11, 12]
    np.testing.assert_array_equal(found.vectors_ND, [[10, -10], [11, -11], [12, -12]])
    np.testing.assert_allclose(found.log_q_N, [-1, -1.1, -1.2], rtol=1e-6)
    assert found.bias_N.numpy().tolist() == [20, 22, 24]
    assert ring.rows.numpy().tolist() == [10, 11, 12, 0, 0]


def test_entry_n_lies_in_place_n_modulo_the_places():
    ring = NegativeBank(5, 2, True)
    for first in (0, 3, 6):
        ring.enqueue(_columns(first, 3))
    assert ring.columns().rows_N.numpy().tolist() == [5, 6, 7, 8, 4]
    assert int(ring.enqueued) == 9
    assert ring.vectors.numpy()[:, 0].tolist() == ring.rows.numpy().tolist()


def test_a_batch_may_fill_it_whole():
    ring = NegativeBank(3, 2, True)
    ring.enqueue(_columns(1, 2))
    ring.enqueue(_columns(7, 3))
    assert ring.columns().rows_N.numpy().tolist() == [8, 9, 7]


def test_without_a_bias():
    ring = NegativeBank(2, 2, False)
    ring.enqueue(_columns(1, 1, bias=False))
    assert ring.bias is None and ring.columns().bias_N is None


def test_it_keeps_no_gradient():
    ring, x = NegativeBank(2, 2, False), tf.Variable([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        ring.enqueue(_columns(1, 1, bias=False)._replace(vectors_ND=3 * x))
        total = tf.reduce_sum(ring.columns().vectors_ND)
    assert float(total) == 9
    assert tape.gradient(total, x) is None
    assert not ring.trainable_variables


def test_a_function_traced_while_it_was_empty_sees_it_filled():
    ring = NegativeBank(4, 2, False)
    count = tf.function(lambda: tf.shape(ring.columns().rows_N)[0])
    found = []
    for first in range(6):
        found.append(int(count()))
        ring.enqueue(_columns(first, 1, bias=False))
    assert found == [0, 1, 2, 3, 4, 4]


# ---------------------------------------------------------------- the log-sum of its logits

GENERATOR = np.random.default_rng(0)
QUERY, VECTORS = GENERATOR.normal(size=(6, 4)), GENERATOR.normal(size=(11, 4))
ADDED, ROWS = GENERATOR.normal(size=11), GENERATOR.integers(0, 4, 11).astype(np.int32)
POSITIVES = np.asarray([0, 1, 2, 3, 9, 9], np.int32)


def _logits(added=ADDED, gone=True, query=QUERY):
    logits = query @ VECTORS.T + added
    return np.where(gone & (POSITIVES[:, None] == ROWS), -np.inf, logits)


def _log_sum(query=QUERY, gone=True, dtype=tf.float64, added=ADDED):
    rows = (tf.constant(POSITIVES), tf.constant(ROWS)) if gone else None
    query = tf.cast(query, dtype)
    with tf.GradientTape() as tape:
        tape.watch(query)
        found = log_sum(query, tf.constant(VECTORS, dtype), tf.constant(added, dtype), rows)
    return found.numpy(), tape.gradient(found, query).numpy()


@pytest.mark.parametrize("size", [1, 3, 11, 1_024])
@pytest.mark.parametrize("gone", [False, True])
def test_the_log_sum_and_its_gradient_by_hand(monkeypatch, size, gone):
    monkeypatch.setattr(bank, "_BLOCK_COLUMNS", size)
    found, gradient = _log_sum(gone=gone)
    exp = np.exp(_logits(gone=gone))
    np.testing.assert_allclose(found, np.log(exp.sum(axis=1)), rtol=1e-13)
    np.testing.assert_allclose(gradient, exp @ VECTORS / exp.sum(axis=1, keepdims=True), rtol=1e-12)


def test_the_gradient_of_the_log_sum_numerically():
    analytic, numeric = tf.test.compute_gradient(
        lambda q: log_sum(q, tf.constant(VECTORS), tf.constant(ADDED), (tf.constant(POSITIVES), tf.constant(ROWS))),
        [tf.constant(QUERY)],
        delta=1e-6,
    )
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-8)


@pytest.mark.parametrize("size", [2, 1_024])
def test_a_row_that_no_column_is_left_to(monkeypatch, size):
    monkeypatch.setattr(bank, "_BLOCK_COLUMNS", size)
    monkeypatch.setattr(sys.modules[__name__], "ROWS", np.full(11, 2, np.int32))
    found, gradient = _log_sum()
    assert found[2] == -np.inf and gradient[2].tolist() == [0, 0, 0, 0]
    assert np.isfinite(np.delete(found, 2)).all() and np.isfinite(gradient).all()


def test_an_empty_bank_has_no_sum():
    found = log_sum(tf.constant(QUERY), tf.zeros([0, 4], tf.float64), tf.zeros([0], tf.float64), None)
    assert found.numpy().tolist() == [-np.inf] * 6


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_logits_do_not_overflow(monkeypatch, size, scale):
    """Blocks whose highest logits are thousands apart, rising and falling from one to the next."""
    monkeypatch.setattr(bank, "_BLOCK_COLUMNS", size)
    added = np.linspace(0, scale, 11)
    found, gradient = _log_sum(gone=False, dtype=tf.float32, added=added)
    logits = _logits(added, gone=False)
    np.testing.assert_allclose(found, logits.max(axis=1), rtol=1e-5, atol=0.1)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0.1


def test_no_gradient_reaches_the_bank_nor_leaves_a_spoilt_row_of_no_weight():
    query = QUERY.copy()
    query[1] = np.nan
    x, v = tf.constant(query), tf.constant(VECTORS)
    with tf.GradientTape() as tape:
        tape.watch([x, v])
        found = log_sum(x, v, tf.constant(ADDED), None)
        total = tf.reduce_sum(tf.where(tf.range(6) == 1, tf.zeros_like(found), found))
    on_x, on_v = tape.gradient(total, [x, v])
    assert on_v is None
    assert on_x.numpy()[1].tolist() == [0, 0, 0, 0] and np.isfinite(on_x).all()
    assert np.isnan(found[1])


def test_the_log_sum_stays_float64():
    assert _log_sum()[0].dtype == np.float64
    narrow = _log_sum(dtype=tf.float32)[0]
    assert narrow.dtype == np.float32 and not np.array_equal(narrow, _log_sum()[0])
