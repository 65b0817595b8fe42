"""The task against stock `tfrs.tasks.Retrieval`: equal where that is right, and different where it is not."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from retrieval_contract.config import Loss
from tfrs_models.tasks.retrieval import RetrievalTask

GENERATOR = np.random.default_rng(0)
QUERY = tf.constant(GENERATOR.normal(size=(8, 5)), tf.float32)
CANDIDATE = tf.constant(GENERATOR.normal(size=(8, 5)), tf.float32)
WEIGHTS = tf.constant([1, 2, 0.5, 0, 1, 3, 1, 0.25], tf.float32)
ROWS = tf.constant([4, 2, 4, 0, 1, 4, 2, 9])
PROBABILITY = tf.constant([1e-5, 0.5, 2e-6, 0.01, 0.3, 1e-3, 0.1, 0.02], tf.float32)


def _ours(settings, probability=PROBABILITY, weights=WEIGHTS, bias=None, query=QUERY, candidate=CANDIDATE):
    return RetrievalTask(settings)(
        query, candidate, bias_N=bias, candidate_rows_B=ROWS, log_q_N=tf.math.log(probability), weights_B=weights
    )


def _stock(settings, probability=PROBABILITY, weights=WEIGHTS, query=QUERY, candidate=CANDIDATE):
    task = tfrs.tasks.Retrieval(
        temperature=settings.temperature, remove_accidental_hits=settings.remove_accidental_hits
    )
    return task(
        query,
        candidate,
        sample_weight=weights,
        candidate_sampling_probability=None if settings.log_q == "none" else probability,
        candidate_ids=ROWS,
    )


@pytest.mark.parametrize("remove_accidental_hits", [False, True])
@pytest.mark.parametrize("log_q", ["none", "exact"])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_equals_stock_over_the_sum_of_the_weights(temperature, log_q, remove_accidental_hits):
    settings = Loss(temperature=temperature, log_q=log_q, remove_accidental_hits=remove_accidental_hits)
    np.testing.assert_allclose(_ours(settings), _stock(settings) / tf.reduce_sum(WEIGHTS), rtol=2e-6)


def test_gradients_equal_stock_ones_too():
    settings = Loss(temperature=0.5)
    gradients = []
    for loss in (_ours, _stock):
        with tf.GradientTape() as tape:
            tape.watch([QUERY, CANDIDATE])
            value = loss(settings) if loss is _ours else loss(settings) / tf.reduce_sum(WEIGHTS)
        gradients.append(tape.gradient(value, [QUERY, CANDIDATE]))
    for ours, stock in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=1e-4, atol=1e-7)


def test_accidental_hits_and_log_q_are_not_idle_in_the_comparison():
    losses = {
        float(_ours(Loss(log_q=q, remove_accidental_hits=hits))) for q in ("none", "exact") for hits in (True, False)
    }
    assert len({round(loss, 3) for loss in losses}) == 4


def test_a_candidate_rarer_than_one_in_a_million_is_corrected_as_what_it_is():
    rare, clipped = (tf.constant([p] + [0.1] * 7, tf.float32) for p in (1e-8, 1e-6))
    settings = Loss(remove_accidental_hits=False)
    total = tf.reduce_sum(WEIGHTS)
    np.testing.assert_allclose(_stock(settings, rare), _stock(settings, clipped), rtol=1e-7)
    np.testing.assert_allclose(_ours(settings, clipped), _stock(settings, clipped) / total, rtol=2e-6)
    assert abs(_ours(settings, rare) - _stock(settings, rare) / total) > 1
    # By hand: the column of the rare candidate rises by log(1e-6 / 1e-8), in every row.
    logits = QUERY.numpy() @ CANDIDATE.numpy().T - np.log(np.asarray([1e-8] + [0.1] * 7))
    loss = np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)
    np.testing.assert_allclose(_ours(settings, rare), (WEIGHTS * loss).numpy().sum() / total, rtol=2e-6)


def test_a_bias_equals_stock_with_one_more_dimension():
    bias, settings = tf.constant(GENERATOR.normal(size=8), tf.float32), Loss(temperature=0.4)
    query = tf.concat([QUERY, tf.ones([8, 1])], axis=1)
    candidate = tf.concat([CANDIDATE, settings.temperature * bias[:, None]], axis=1)
    stock = _stock(settings, query=query, candidate=candidate) / tf.reduce_sum(WEIGHTS)
    np.testing.assert_allclose(_ours(settings, bias=bias), stock, rtol=2e-6)
    assert abs(_ours(settings) - stock) > 0.01


def test_float64_vectors_are_not_rounded_on_the_way_in():
    third = tf.ones([8, 1], tf.float64) / 3
    query, candidate = tf.concat([third, 0 * third], 1), tf.concat([third, third], 1)
    nearly = query + 1e-10 * tf.constant([[1.0, 0.0]], tf.float64) * tf.range(8, dtype=tf.float64)[:, None]
    settings = Loss(log_q="none", remove_accidental_hits=False)
    wide = candidate * tf.range(1, 9, dtype=tf.float64)[:, None]
    assert _ours(settings, query=query, candidate=wide) != _ours(settings, query=nearly, candidate=wide)
    assert _ours(settings, query=query, candidate=wide).dtype == tf.float64


def test_it_is_a_tfrs_task():
    assert isinstance(RetrievalTask(Loss()), tfrs.tasks.Retrieval)
