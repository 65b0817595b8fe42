import numpy as np
import tensorflow as tf

from tfrs_models.negatives.in_batch import in_batch_logits

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
    np.testing.assert_allclose(logits, INNER / 0.3 - LOG_Q.numpy(), rtol=1e-15)
