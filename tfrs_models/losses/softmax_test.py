import math

import numpy as np
import pytest
import tensorflow as tf

import tfrs_models.losses.softmax as softmax_module
from tfrs_models.losses.softmax import catalogue_cross_entropy, refined_softmax, softmax_cross_entropy

INF = float("inf")
LOGITS = tf.constant([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [-1.0, 3.0, 2.0]], tf.float64)
ONES = tf.ones([3], tf.float64)


def _by_hand(logits, weights):
    total = 0.0
    for i, (row, weight) in enumerate(zip(logits, weights, strict=True)):
        total += weight * (math.log(sum(math.exp(x) for x in row)) - row[i]) if weight else 0.0
    return total / sum(weights)


@pytest.mark.parametrize("weights", [[1, 1, 1], [2, 0.5, 0.25], [0, 1, 0]])
def test_values_by_hand(weights):
    loss = softmax_cross_entropy(LOGITS, tf.constant(weights, tf.float64))
    np.testing.assert_allclose(loss, _by_hand(LOGITS.numpy().tolist(), weights), rtol=1e-14)


def test_values_to_digits():
    np.testing.assert_allclose(softmax_cross_entropy(tf.zeros([4, 4]), tf.ones([4])), math.log(4), rtol=1e-7)
    two = tf.constant([[0.0, math.log(3)], [math.log(3), 0.0]], tf.float64)
    np.testing.assert_allclose(softmax_cross_entropy(two, tf.ones([2])), math.log(4), rtol=1e-14)


def test_more_candidates_than_queries():
    wide = tf.concat([LOGITS, [[4.0], [-2.0], [0.1]]], axis=1)
    np.testing.assert_allclose(
        softmax_cross_entropy(wide, ONES), _by_hand(wide.numpy().tolist(), [1, 1, 1]), rtol=1e-14
    )


def test_a_constant_on_a_row_changes_nothing_on_a_column_it_does():
    rows = softmax_cross_entropy(LOGITS + tf.constant([[5.0], [-300.0], [1e3]], tf.float64), ONES)
    np.testing.assert_allclose(rows, softmax_cross_entropy(LOGITS, ONES), rtol=1e-12)
    assert (
        abs(
            softmax_cross_entropy(LOGITS + tf.constant([[5.0, 0, 0]], tf.float64), ONES)
            - softmax_cross_entropy(LOGITS, ONES)
        )
        > 0.1
    )


def test_it_is_a_mean_of_the_weights_not_a_sum():
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, 7 * ONES), softmax_cross_entropy(LOGITS, ONES), rtol=1e-14)


def test_masked_equals_deleted():
    masked = tf.constant([[1.0, 2.0, -INF], [0.3, 0.1, -INF]])
    np.testing.assert_array_equal(
        softmax_cross_entropy(masked, tf.ones([2])), softmax_cross_entropy(masked[:, :2], tf.ones([2]))
    )


def test_weight_zero_equals_deleted_even_where_the_positive_is_masked():
    logits = tf.constant([[1.0, 2.0], [0.5, -INF]], tf.float64)
    for row in ([0.5, -INF], [-INF, -INF]):
        logits, weights = tf.constant([[1.0, 2.0], row], tf.float64), tf.constant([1.0, 0.0], tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = softmax_cross_entropy(logits, weights)
        np.testing.assert_allclose(loss, math.log(1 + math.e), rtol=1e-14)
        gradient = tape.gradient(loss, logits).numpy()
        assert np.isfinite(gradient).all()
        assert gradient[1].tolist() == [0, 0]


def test_all_weights_zero_give_zero_and_no_gradient():
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        loss = softmax_cross_entropy(LOGITS, 0 * ONES)
    assert float(loss) == 0
    assert not tape.gradient(loss, LOGITS).numpy().any()


def test_a_lost_positive_is_infinite_and_stays_visible():
    assert float(softmax_cross_entropy(tf.constant([[-INF, 0.0], [0.0, 0.0]]), tf.ones([2]))) == INF
    assert float(softmax_cross_entropy(tf.constant([[-INF, -INF], [0.0, 0.0]]), tf.ones([2]))) == INF


def test_nan_is_not_swallowed():
    assert math.isnan(softmax_cross_entropy(tf.constant([[float("nan"), 0.0], [0.0, 0.0]]), tf.ones([2])))
    assert math.isnan(softmax_cross_entropy(LOGITS, tf.constant([1.0, float("nan"), 1.0])))


def test_large_logits_do_not_overflow():
    assert float(softmax_cross_entropy(tf.constant([[1e30, -1e30], [0.0, 1e4]]), tf.ones([2]))) == 0
    np.testing.assert_allclose(
        softmax_cross_entropy(tf.constant([[-1e4, 1e4], [0.0, 0.0]]), tf.ones([2])), 1e4, rtol=1e-4
    )


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 0.0, 0.25]])
def test_gradient_numerically(weights):
    def loss(logits):
        return softmax_cross_entropy(logits, tf.constant(weights, tf.float64))

    analytic, numeric = tf.test.compute_gradient(loss, [LOGITS], delta=1e-5)
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-9)


POSITIVES = tf.constant([2, 0, 1])


def test_a_positive_in_any_column_equals_columns_in_another_order():
    moved = tf.gather(LOGITS, POSITIVES, axis=1)
    weights = tf.constant([1.0, 3.0, 0.5], tf.float64)
    # Column i of `moved` is column POSITIVES[i] of LOGITS.
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, weights, POSITIVES), softmax_cross_entropy(moved, weights), rtol=1e-14
    )
    np.testing.assert_array_equal(
        softmax_cross_entropy(LOGITS, weights, tf.range(3)), softmax_cross_entropy(LOGITS, weights)
    )


def test_parts_of_a_batch_add_up_to_it():
    weights = tf.constant([2.0, 0.0, 0.25], tf.float64)
    whole = softmax_cross_entropy(LOGITS, weights, POSITIVES)
    total = tf.reduce_sum(weights)
    parts = [
        softmax_cross_entropy(LOGITS[i : i + 1], weights[i : i + 1], POSITIVES[i : i + 1], total) for i in range(3)
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-14)


def test_without_negatives_the_loss_is_exactly_zero():
    alone = tf.constant([[0.3, -INF], [-INF, 12345.678]])
    assert float(softmax_cross_entropy(alone, tf.ones([2]))) == 0
    assert float(softmax_cross_entropy(tf.constant([[7.7]]), tf.ones([1]))) == 0


@pytest.mark.parametrize("value", [INF, -INF, float("nan"), 1e38])
def test_nothing_in_a_row_of_weight_zero_reaches_the_gradient(value):
    logits = tf.constant([[1.0, 2.0], [value, value]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = softmax_cross_entropy(logits, tf.constant([1.0, 0.0]))
    np.testing.assert_allclose(loss, math.log(1 + math.e), rtol=1e-6)
    assert tape.gradient(loss, logits).numpy()[1].tolist() == [0, 0]


def test_the_gradient_of_a_positive_in_any_column_numerically():
    def loss(logits):
        return softmax_cross_entropy(logits, tf.constant([2.0, 0.0, 0.25], tf.float64), POSITIVES, tf.constant(5.0))

    analytic, numeric = tf.test.compute_gradient(loss, [LOGITS], delta=1e-5)
    np.testing.assert_allclose(analytic[0], numeric[0], atol=1e-9)


LOG_Q = tf.math.log(tf.constant([0.5, 0.2, 0.05], tf.float64))


def _refined_by_hand(logits, weights, positives, log_q):
    total = 0.0
    for i, (row, weight, p) in enumerate(zip(logits, weights, positives, strict=True)):
        others = [j for j in range(len(row)) if j != p and row[j] != -INF]
        if not weight or not others:
            continue
        q = [math.exp(log_q[i][j]) / (1 - math.exp(log_q[i][p])) for j in range(len(row))]
        inner = sum(math.exp(row[j]) / q[j] for j in others)
        mean = inner / len(others)
        total += weight * (1 - math.exp(row[p]) / (math.exp(row[p]) + mean)) * (math.log(inner) - row[p])
    return total / sum(weights)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 0.0, 0.25]])
def test_refined_values_by_hand(weights):
    logits = tf.concat([LOGITS[:, :2], [[-INF], [0.7], [2.0]]], axis=1)
    loss = refined_softmax(logits, tf.constant(weights, tf.float64), POSITIVES[::-1] % 2, None, log_q_N=LOG_Q)
    log_q = [LOG_Q.numpy().tolist()] * 3
    want = _refined_by_hand(logits.numpy().tolist(), weights, [1, 0, 0], log_q)
    np.testing.assert_allclose(loss, want, rtol=1e-13)


def test_refined_takes_a_log_q_of_each_row():
    log_q = tf.math.log(tf.constant([[0.5, 0.2, 0.05], [0.1, 0.2, 0.3], [0.01, 0.9, 0.02]], tf.float64))
    loss = refined_softmax(LOGITS, ONES, POSITIVES, None, log_q_N=log_q)
    want = _refined_by_hand(LOGITS.numpy().tolist(), [1, 1, 1], [2, 0, 1], log_q.numpy().tolist())
    np.testing.assert_allclose(loss, want, rtol=1e-13)
    rows = tf.broadcast_to(LOG_Q, [3, 3])
    np.testing.assert_array_equal(
        refined_softmax(LOGITS, ONES, POSITIVES, None, log_q_N=rows),
        refined_softmax(LOGITS, ONES, POSITIVES, None, log_q_N=LOG_Q),
    )


def test_the_weight_of_a_refined_row_has_no_gradient():
    weights, logits = ONES.numpy(), LOGITS
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = refined_softmax(logits, ONES, POSITIVES, None, log_q_N=LOG_Q)
    gradient = tape.gradient(loss, logits).numpy()
    for i, p in enumerate(POSITIVES.numpy()):
        row = logits.numpy()[i] - LOG_Q.numpy()
        others = [j for j in range(3) if j != p]
        inner = np.exp(row[others]).sum() * (1 - math.exp(LOG_Q[p]))
        w = 1 / (1 + 2 * math.exp(logits[i, p]) / inner)
        np.testing.assert_allclose(gradient[i, p], -w / weights.sum(), rtol=1e-12)
        np.testing.assert_allclose(gradient[i, others], w * np.exp(row[others]) / np.exp(row[others]).sum() / 3)


def test_refined_edges():
    def loss(logits, log_q=LOG_Q, weights=ONES):
        logits = tf.constant(logits, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = refined_softmax(logits, weights[: len(logits)], None, None, log_q_N=log_q)
        gradient = tape.gradient(value, logits).numpy()
        assert np.isfinite(gradient).all()
        return float(value), gradient

    assert loss([[1.0, -INF, -INF]])[0] == 0
    assert loss([[1.0, 2.0, 3.0]], weights=0 * ONES) == (0, pytest.approx(np.zeros((1, 3))))
    certain = tf.constant([0.0, -30.0, -40.0], tf.float64)
    assert loss([[1.0, 2.0, 3.0]], log_q=certain)[0] == 0
    # A positive of 1e-12: 1 - q is not 1 in the last digits.
    rare = tf.math.log(tf.constant([1e-12, 0.2, 0.05], tf.float64))
    value, _ = loss([[0.0, 0.0, 0.0]], log_q=rare)
    np.testing.assert_allclose(value, math.log(25) * 25 / (2 + 25), rtol=1e-11)
    assert loss([[1e4, -1e4, 0.0]])[0] == 0
    np.testing.assert_allclose(loss([[-1e4, 1e4, 0.0]])[0], 2e4, rtol=1e-3)
    assert float(refined_softmax(tf.constant([[-INF, 0.0]]), tf.ones([1]), None, None, log_q_N=LOG_Q[:2])) == INF


def test_refined_float64_stays_float64():
    assert refined_softmax(LOGITS, ONES, POSITIVES, None, log_q_N=tf.cast(LOG_Q, tf.float32)).dtype == tf.float64


def _catalogue_problem():
    generator = np.random.default_rng(5)
    query, vectors, bias = (tf.constant(generator.normal(size=shape)) for shape in ((7, 3), (5, 3), (5,)))
    weights = tf.constant([1.0, 0.5, 2, 0, 1, 1, 3], tf.float64)
    return query, vectors, bias, weights, tf.constant([0, 4, 4, 1, 2, 3, 0])


@pytest.mark.parametrize("block_numbers", [1, 12, 1_000])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_over_a_catalogue_from_the_vectors_it_is_the_same_loss(monkeypatch, block_numbers, masks, has_bias):
    monkeypatch.setattr(softmax_module, "_BLOCK_NUMBERS", block_numbers)
    query, vectors, bias, weights, positives = _catalogue_problem()
    gone = (tf.constant([0, 0, 2, 6]), tf.constant([1, 2, 0, 4])) if masks else None
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([query, vectors, bias])
        logits = tf.matmul(query / 0.5, vectors, transpose_b=True) + (bias if has_bias else 0)
        if masks:
            out = tf.fill([4], tf.constant(-np.inf, tf.float64))
            logits = tf.tensor_scatter_nd_update(logits, tf.stack(gone, axis=1), out)
        want = softmax_cross_entropy(logits, weights, positives, tf.constant(11.0, tf.float64))
        found = catalogue_cross_entropy(
            query / 0.5, vectors, bias if has_bias else None, weights, positives, tf.constant(11.0), gone
        )
    np.testing.assert_allclose(found, want, rtol=1e-13)
    sources = [query, vectors, bias] if has_bias else [query, vectors]
    for got, expected in zip(tape.gradient(found, sources), tape.gradient(want, sources), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-15)


def test_over_a_catalogue_a_row_without_weight_counts_as_deleted():
    query, vectors, _, weights, positives = _catalogue_problem()
    spoiled = tf.constant(np.where(weights.numpy()[:, None] == 0, np.nan, query.numpy()))
    with tf.GradientTape() as tape:
        tape.watch([spoiled, vectors])
        loss = catalogue_cross_entropy(spoiled, vectors, None, weights, positives)
    assert loss == catalogue_cross_entropy(query, vectors, None, weights, positives)
    on_query, on_vectors = tape.gradient(loss, [spoiled, vectors])
    assert not on_query.numpy()[3].any()
    assert np.isfinite(on_vectors).all()
    nothing = catalogue_cross_entropy(spoiled, vectors, None, tf.zeros_like(weights), positives)
    assert nothing == 0


def test_over_a_catalogue_every_length_goes_through_one_trace():
    query, vectors, _, weights, positives = _catalogue_problem()
    spec = [tf.TensorSpec([None, 3], tf.float64), tf.TensorSpec([None], tf.float64), tf.TensorSpec([None], tf.int32)]
    found = tf.function(lambda q, w, p: catalogue_cross_entropy(q, vectors, None, w, p), input_signature=spec)
    for rows in (7, 4):
        logits = tf.matmul(query[:rows], vectors, transpose_b=True)
        want = softmax_cross_entropy(logits, weights[:rows], positives[:rows])
        np.testing.assert_allclose(found(query[:rows], weights[:rows], positives[:rows]), want, rtol=1e-13)
