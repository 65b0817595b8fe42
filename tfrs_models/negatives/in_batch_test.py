import numpy as np
import tensorflow as tf

from tfrs_models.negatives.in_batch import in_batch_logits, row_wise_logits

QUERY = tf.constant([[1.0, 2.0], [3.0, -1.0]])
CANDIDATE = tf.constant([[0.5, 1.0], [2.0, 0.0], [-1.0, 1.0]])
INNER = np.asarray([[2.5, 2, 1], [0.5, 6, -4]])
BIAS = tf.constant([0.1, 0.2, 0.3])
LOG_Q = tf.constant([-1.0, -20.0, -3.0])


def test_inner_products():
    np.testing.assert_allclose(in_batch_logits(QUERY, CANDIDATE, temperature=1.0), INNER, rtol=1e-6)


def test_the_temperature_divides_the_inner_product_alone():
    logits = in_batch_logits(QUERY, CANDIDATE, temperature=0.5, bias_N=BIAS, log_q_N=LOG_Q)
    np.testing.assert_allclose(logits, INNER / 0.5 + BIAS.numpy() - LOG_Q.numpy(), rtol=1e-6)
    everything_divided = (INNER + BIAS.numpy() - LOG_Q.numpy()) / 0.5
    assert np.abs(logits - everything_divided).max() > 1


def test_log_q_is_not_clipped():
    rare = in_batch_logits(QUERY, CANDIDATE, temperature=1.0, log_q_N=tf.math.log([1e-8, 1e-8, 1e-8]))
    np.testing.assert_allclose(rare - INNER, 18.420680743952367, rtol=1e-6)


def test_bias_and_log_q_belong_to_columns():
    logits = in_batch_logits(QUERY, CANDIDATE, temperature=1.0, bias_N=BIAS)
    np.testing.assert_allclose(logits - INNER, [BIAS, BIAS], rtol=1e-5)


def test_float64_stays_float64():
    logits = in_batch_logits(tf.cast(QUERY, tf.float64), tf.cast(CANDIDATE, tf.float64), temperature=0.3, log_q_N=LOG_Q)
    np.testing.assert_allclose(logits, INNER / 0.3 - LOG_Q.numpy(), rtol=1e-14)


THIRD = tf.constant([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [[3.0, 1.0], [-1.0, 0.5], [0.0, 0.0]]])
OWN_INNER = np.asarray([[1, 4, 3], [8, -3.5, 0]])


def test_a_rows_own_columns_stand_against_its_query_alone():
    np.testing.assert_allclose(row_wise_logits(QUERY, THIRD, temperature=1.0), OWN_INNER, rtol=1e-6)


def test_row_wise_logits_are_those_of_the_same_columns_for_all_rows():
    bias, log_q = tf.constant([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]), tf.constant([[-1.0, -20.0, -3.0], [-4.0, 0.0, -0.5]])
    logits = row_wise_logits(QUERY, THIRD, temperature=0.5, bias_BX=bias, log_q_BX=log_q)
    for row in range(2):
        shared = in_batch_logits(QUERY, THIRD[row], temperature=0.5, bias_N=bias[row], log_q_N=log_q[row])
        np.testing.assert_allclose(logits[row], shared[row], rtol=1e-6)
    np.testing.assert_allclose(logits, OWN_INNER / 0.5 + bias.numpy() - log_q.numpy(), rtol=1e-6)


def test_no_columns_give_no_logits():
    assert row_wise_logits(QUERY, tf.zeros([2, 0, 2]), temperature=1.0).shape == (2, 0)
    assert in_batch_logits(QUERY, tf.zeros([0, 2]), temperature=1.0).shape == (2, 0)


def test_a_learned_temperature_gets_its_gradient():
    query, candidate = tf.cast(QUERY, tf.float64), tf.cast(CANDIDATE, tf.float64)

    def total(temperature):
        shared = in_batch_logits(query, candidate, temperature=temperature, bias_N=tf.cast(BIAS, tf.float64))
        own = row_wise_logits(query, tf.cast(THIRD, tf.float64), temperature=temperature)
        return tf.reduce_sum(tf.square(shared)) + tf.reduce_sum(tf.square(own))

    analytic, numeric = tf.test.compute_gradient(total, [tf.constant(0.7, tf.float64)], delta=1e-6)
    np.testing.assert_allclose(analytic[0], numeric[0], rtol=1e-7)
