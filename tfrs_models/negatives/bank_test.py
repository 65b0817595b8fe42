import numpy as np
import tensorflow as tf

from tfrs_models.negatives.bank import NegativeBank
from tfrs_models.negatives.columns import Columns


def _columns(first, num, bias=True):
    numbers = tf.range(first, first + num)
    values = tf.cast(numbers, tf.float32)
    return Columns(tf.stack([values, -values], axis=1), numbers, -values / 10, 2 * values if bias else None)


def test_it_starts_empty_and_fills():
    bank = NegativeBank(5, 2, True)
    assert bank.columns().vectors_ND.shape == (0, 2)
    bank.enqueue(_columns(10, 3))
    found = bank.columns()
    assert found.rows_N.numpy().tolist() == [10, 11, 12]
    np.testing.assert_array_equal(found.vectors_ND, [[10, -10], [11, -11], [12, -12]])
    np.testing.assert_allclose(found.log_q_N, [-1, -1.1, -1.2], rtol=1e-6)
    assert found.bias_N.numpy().tolist() == [20, 22, 24]
    assert bank.rows.numpy().tolist() == [10, 11, 12, 0, 0]


def test_entry_n_lies_in_place_n_modulo_the_places():
    bank = NegativeBank(5, 2, True)
    for first in (0, 3, 6):
        bank.enqueue(_columns(first, 3))
    assert bank.columns().rows_N.numpy().tolist() == [5, 6, 7, 8, 4]
    assert int(bank.enqueued) == 9
    assert bank.vectors.numpy()[:, 0].tolist() == bank.rows.numpy().tolist()


def test_a_batch_may_fill_it_whole():
    bank = NegativeBank(3, 2, True)
    bank.enqueue(_columns(1, 2))
    bank.enqueue(_columns(7, 3))
    assert bank.columns().rows_N.numpy().tolist() == [8, 9, 7]


def test_without_a_bias():
    bank = NegativeBank(2, 2, False)
    bank.enqueue(_columns(1, 1, bias=False))
    assert bank.bias is None and bank.columns().bias_N is None


def test_it_keeps_no_gradient():
    bank, x = NegativeBank(2, 2, False), tf.Variable([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        bank.enqueue(_columns(1, 1, bias=False)._replace(vectors_ND=3 * x))
        total = tf.reduce_sum(bank.columns().vectors_ND)
    assert float(total) == 9
    assert tape.gradient(total, x) is None
    assert not bank.trainable_variables


def test_a_function_traced_while_it_was_empty_sees_it_filled():
    bank = NegativeBank(4, 2, False)
    count = tf.function(lambda: tf.shape(bank.columns().rows_N)[0])
    found = []
    for first in range(6):
        found.append(int(count()))
        bank.enqueue(_columns(first, 1, bias=False))
    assert found == [0, 1, 2, 3, 4, 4]
