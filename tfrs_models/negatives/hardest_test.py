import numpy as np
import tensorflow as tf

from tfrs_models.negatives.hardest import keep_hardest

OUT = -np.inf
LOGITS = tf.constant([[9.0, 1.0, 3.0, 2.0], [4.0, 0.0, 4.0, 4.0], [1.0, 2.0, -3.0, OUT]])
POSITIVES = tf.constant([0, 1, 2])


def test_the_largest_negatives_and_the_positive_stay():
    kept = keep_hardest(LOGITS, POSITIVES, 1).numpy().tolist()
    assert kept == [[9, OUT, 3, OUT], [4, 0, OUT, OUT], [OUT, 2, -3, OUT]]


def test_of_equal_logits_the_smaller_column_stays():
    assert keep_hardest(LOGITS, POSITIVES, 2).numpy()[1].tolist() == [4, 0, 4, OUT]


def test_as_many_as_there_are_or_more_change_nothing():
    for num_hardest in (3, 4, 1_000):
        np.testing.assert_array_equal(keep_hardest(LOGITS, POSITIVES, num_hardest), LOGITS)


def test_a_row_without_negatives_keeps_its_positive():
    alone = tf.constant([[OUT, 2.0, OUT], [OUT, OUT, OUT]])
    np.testing.assert_array_equal(keep_hardest(alone, tf.constant([1, 0]), 1), alone)


def test_one_column():
    assert keep_hardest(tf.constant([[3.0]]), tf.constant([0]), 2).numpy().tolist() == [[3]]


def test_what_goes_gets_no_gradient():
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        total = tf.reduce_sum(tf.nn.softmax(keep_hardest(LOGITS, POSITIVES, 1))[:, 0])
    gradient = tape.gradient(total, LOGITS).numpy()
    assert np.isfinite(gradient).all()
    assert gradient[0, 1] == gradient[0, 3] == gradient[1, 2] == 0 != gradient[0, 2]


def test_float64_stays_float64():
    close = tf.constant([[0.0, 1.0, 1.0 + 1e-12]], tf.float64)
    kept = keep_hardest(close, tf.constant([0]), 1)
    assert kept.dtype == tf.float64
    assert kept.numpy().tolist() == [[0, OUT, 1 + 1e-12]]
