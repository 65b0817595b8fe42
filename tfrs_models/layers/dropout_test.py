import numpy as np
import tensorflow as tf

from tfrs_models.layers.dropout import dropout, fold_in

SEED = tf.constant([3, 17], tf.int64)


def test_values_are_zero_or_scaled_and_the_rate_holds():
    y = dropout(tf.fill([200, 200], 3.0), 0.25, SEED, 0).numpy()
    assert set(np.unique(y)) == {0.0, 4.0}
    assert abs((y == 0).mean() - 0.25) < 0.01


def test_the_draw_depends_on_seed_and_layer_and_on_nothing_else():
    x = tf.ones([50, 20])
    first = dropout(x, 0.5, SEED, 1).numpy()
    tf.random.stateless_uniform([7], [1, 1])
    np.testing.assert_array_equal(dropout(x, 0.5, SEED, 1), first)
    np.testing.assert_array_equal(tf.function(dropout)(x, 0.5, SEED, 1), first)
    next_step, next_seed = tf.constant([3, 18], tf.int64), tf.constant([4, 17], tf.int64)
    for other in (dropout(x, 0.5, SEED, 2), dropout(x, 0.5, next_step, 1), dropout(x, 0.5, next_seed, 1)):
        assert 0.3 < (other.numpy() != first).mean() < 0.7


def test_serving_and_rate_zero_drop_nothing():
    x = tf.ones([5, 5])
    assert dropout(x, 0.5, None, 0) is x
    assert dropout(x, 0.0, SEED, 0) is x


def test_gradient_passes_where_values_pass():
    x = tf.ones([30, 30])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dropout(x, 0.4, SEED, 0)
    np.testing.assert_array_equal(tape.gradient(y, x), y)


def test_nan_is_dropped_not_multiplied():
    y = dropout(tf.fill([1000], float("nan")), 0.5, SEED, 0).numpy()
    assert (y == 0).any() and np.isnan(y).any()


def test_fold_in_gives_distinct_seeds():
    seeds = {tuple(fold_in(fold_in(SEED, i), j).numpy()) for i in range(8) for j in range(8)}
    assert len(seeds) == 64
