import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.layers.pooling import at_last_item, pool_list, rows_of, softmax_over_real, steps_back

VALUES = np.asarray([[[1.0, -2], [3, 4], [9, 9]], [[5, 6], [7, 8], [9, 9]], [[1, 1], [1, 1], [1, 1]]])
ALLOWED = np.asarray([[True, True, False], [True, False, False], [False, False, False]])
WEIGHTS = np.asarray([[1.0, 3, 5], [0, 2, 2], [1, 1, 1]])


def _pool(pooling, values=VALUES, weights=None):
    weights = None if weights is None else tf.constant(weights)
    return pool_list(tf.constant(values), tf.constant(ALLOWED), pooling, weights).numpy()


@pytest.mark.parametrize(
    ("pooling", "want"),
    [
        ("mean", [[2, 1], [5, 6], [0, 0]]),
        ("sum", [[4, 2], [5, 6], [0, 0]]),
        ("sqrt_n", [[4 / 2**0.5, 2 / 2**0.5], [5, 6], [0, 0]]),
        ("max", [[3, 4], [5, 6], [0, 0]]),
    ],
)
def test_by_hand(pooling, want):
    np.testing.assert_allclose(_pool(pooling), want, rtol=1e-15)


@pytest.mark.parametrize(
    ("pooling", "want"),
    [
        ("mean", [[10 / 4, 10 / 4], [0, 0], [0, 0]]),
        ("sum", [[10, 10], [0, 0], [0, 0]]),
        ("sqrt_n", [[10 / 10**0.5, 10 / 10**0.5], [0, 0], [0, 0]]),
        ("max", [[3, 4], [5, 6], [0, 0]]),
    ],
)
def test_weights_by_hand(pooling, want):
    """The second list's only weight is 0; `max` does not look at weights."""
    np.testing.assert_allclose(_pool(pooling, weights=WEIGHTS), want, rtol=1e-15)


def test_the_largest_of_negative_numbers_is_not_padding():
    assert _pool("max", -np.abs(VALUES))[0].tolist() == [-1, -2]


@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrt_n", "max"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_what_stands_at_other_places_neither_matters_nor_learns(pooling, weights):
    spoiled = np.where(ALLOWED[:, :, None], VALUES, np.nan)
    np.testing.assert_array_equal(_pool(pooling, spoiled, weights), _pool(pooling, VALUES, weights))
    values = tf.constant(spoiled)
    with tf.GradientTape() as tape:
        tape.watch(values)
        pooled = pool_list(values, tf.constant(ALLOWED), pooling, None if weights is None else tf.constant(weights))
    gradient = tape.gradient(pooled, values).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[~ALLOWED].any()
    assert gradient[0, 1].any()


@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrt_n", "max"])
def test_lists_of_lists_and_no_places(pooling):
    deep = pool_list(tf.constant(VALUES[None]), tf.constant(ALLOWED[None]), pooling)
    np.testing.assert_array_equal(deep[0], _pool(pooling))
    empty = pool_list(tf.zeros([2, 0, 3]), tf.zeros([2, 0], tf.bool), pooling)
    assert empty.numpy().tolist() == [[0, 0, 0], [0, 0, 0]]


def test_steps_are_counted_from_the_newest():
    assert steps_back(tf.constant(ALLOWED)).numpy().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_last_item():
    places = tf.constant(VALUES)
    assert at_last_item(places, tf.constant(ALLOWED)).numpy().tolist() == [[3, 4], [5, 6], [0, 0]]
    assert at_last_item(tf.zeros([2, 0, 3]), tf.zeros([2, 0], tf.bool)).numpy().tolist() == [[0, 0, 0]] * 2


def test_softmax_over_real_items_by_hand():
    scores = tf.constant(np.where(ALLOWED[:, :, None], VALUES, np.nan))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        shares = softmax_over_real(scores, tf.constant(ALLOWED))
        first = tf.reduce_sum(shares[:, 0])
    share = 1 / (1 + np.exp(2.0))
    want = [[[share, 1 / (1 + np.exp(6.0))], [1 - share, 1 / (1 + np.exp(-6.0))], [0, 0]], [[1, 1]] + [[0, 0]] * 2]
    np.testing.assert_allclose(shares[:2], want, rtol=1e-12)
    assert not shares[2].numpy().any()
    gradient = tape.gradient(first, scores).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[~ALLOWED].any()


def test_rows_of_a_small_table_have_a_dense_gradient():
    table = tf.Variable([[1.0, 2], [3, 4], [5, 6]])
    with tf.GradientTape() as tape:
        rows = rows_of(table, tf.constant([[0, 2], [2, 2]]))
    assert rows.numpy()[0].tolist() == [[1, 2], [5, 6]]
    gradient = tape.gradient(rows, table)
    assert isinstance(gradient, tf.Tensor)
    assert gradient.numpy().tolist() == [[1, 1], [0, 0], [3, 3]]
