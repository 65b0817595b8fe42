"""Rung 4: the loss, and its gradient with respect to every parameter by canonical name, in three corners."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.corners import oracle_loss, tf_loss, torch_loss
from parity_tests.oracles import softmax, towers
from parity_tests.problems import CASES, DRAWN, WEIGHTS, problem, with_log_q
from parity_tests.tolerances import rule

MATRIX = [
    *((case, "varied") for case in CASES),
    *((case, "some_zero") for case in ("plain", "candidate_bias", "everything")),
    *((case, "all_zero") for case in ("plain", "everything")),
]


def compare(tf, torch, truth, dtype):
    """Losses and gradients of three corners."""
    assert_same(tf[0], torch[0], truth[0], rule("loss", dtype))
    assert_same(tf[1], torch[1], truth[1], rule("gradient", dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("case", "weights"), MATRIX)
def test_loss_and_gradients(case, weights, dtype):
    small = problem(case, weights=weights)
    truth = oracle_loss(small)
    assert set(truth[1]) == set(small.table)
    assert np.isfinite(truth[0])
    compare(tf_loss(small, dtype), torch_loss(small, dtype), truth, dtype)


@pytest.mark.parametrize("number", range(len(DRAWN)))
def test_drawn_configurations(number):
    """Options combined at random, with a batch of the number's own, in float64."""
    small = problem(f"drawn_{number}", weights=list(WEIGHTS)[number % 2], seed=number)
    truth = oracle_loss(small)
    assert np.isfinite(truth[0])
    compare(tf_loss(small, "float64"), torch_loss(small, "float64"), truth, "float64")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_have_the_asked_dtype_and_the_canonical_shape(dtype):
    small = problem("everything")
    for _, gradients in (tf_loss(small, dtype), torch_loss(small, dtype)):
        assert {name: gradient.shape for name, gradient in gradients.items()} == {
            name: parameter.shape for name, parameter in small.table.items()
        }
        assert {gradient.dtype.name for gradient in gradients.values()} == {dtype}


def test_the_zero_vector_normalised_has_the_gradient_of_its_definition():
    """An empty history alone is the zero vector: x / 1e-12, so 1e12 times the gradient, and none to padding."""
    small = problem("history")
    config = small.config.model_copy(update={"model": small.config.model.model_copy(update={"normalize": True})})
    small = replace(small, config=config)
    compare(tf_loss(small, "float64"), torch_loss(small, "float64"), oracle_loss(small), "float64")


def test_every_column_but_the_positive_masked_leaves_loss_zero():
    small = problem("plain")
    small = replace(small, batch=replace(small.batch, candidate_rows=np.zeros(6, np.int32)))
    truth = oracle_loss(small)
    assert truth[0] == 0
    for dtype in ("float64", "float32"):
        compare(tf_loss(small, dtype), torch_loss(small, dtype), truth, dtype)


def fails(small, wrong):
    """Loss or gradient of `wrong` is noticed in the place of either stack, in both dtypes."""
    for dtype in ("float64", "float32"):
        tf, torch, truth = tf_loss(small, dtype), torch_loss(small, dtype), oracle_loss(small)
        compare(tf, torch, truth, dtype)
        for corners in ((wrong, torch, truth), (tf, wrong, truth)):
            with pytest.raises(AssertionError):
                compare(*corners, dtype)


def test_rung4_notices_a_dropped_transpose():
    small = problem("hidden_relu")
    loss, gradients = oracle_loss(small)
    fails(small, (loss, gradients | {"query.dense.0.kernel": gradients["query.dense.0.kernel"].T}))


def test_rung4_notices_a_dropped_log_q():
    small = problem("plain")
    fails(small, oracle_loss(replace(small, batch=with_log_q(small.batch, 0 * small.batch.log_q))))


def test_rung4_notices_the_wrong_sign_of_log_q():
    small = problem("plain")
    fails(small, oracle_loss(replace(small, batch=with_log_q(small.batch, -small.batch.log_q))))


def test_rung4_notices_log_q_divided_by_the_temperature():
    small = problem("temperature")
    fails(small, oracle_loss(replace(small, batch=with_log_q(small.batch, small.batch.log_q / 0.2))))


def test_rung4_notices_a_sum_for_a_mean():
    small = problem("plain")
    loss, gradients = oracle_loss(small)
    total = small.batch.weights.sum()
    fails(small, (loss * total, {name: gradient * total for name, gradient in gradients.items()}))


def test_rung4_notices_a_mean_over_rows_for_one_over_weights():
    small = problem("plain")
    loss, gradients = oracle_loss(small)
    share = small.batch.weights.sum() / len(small.batch.weights)
    fails(small, (loss * share, {name: gradient * share for name, gradient in gradients.items()}))


def test_rung4_notices_positives_off_by_one(monkeypatch):
    small = problem("no_log_q")
    with monkeypatch.context() as patch:
        patch.setattr(softmax, "positive_columns", lambda num_rows: (np.arange(num_rows) + 1) % num_rows)
        patch.setattr(softmax, "without_accidental_hits", lambda logits_BN, _: logits_BN)
        wrong = oracle_loss(small)
    fails(small, wrong)


def test_rung4_notices_unmasked_padding(monkeypatch):
    small = problem("history")
    with monkeypatch.context() as patch:
        patch.setattr(towers, "list_weights", lambda rows_BM: np.full(rows_BM.shape, 1 / rows_BM.shape[1]))
        wrong = oracle_loss(small)
    fails(small, wrong)


def test_rung4_notices_kept_accidental_hits():
    small = problem("plain")
    loss = small.config.loss.model_copy(update={"remove_accidental_hits": False})
    fails(small, oracle_loss(replace(small, config=small.config.model_copy(update={"loss": loss}))))


def test_rung4_notices_a_row_looked_up_twice_and_counted_once():
    small = problem("plain")
    loss, gradients = oracle_loss(small)
    halved = gradients["query.embedding.query_id"].copy()
    halved[4] /= 2
    fails(small, (loss, gradients | {"query.embedding.query_id": halved}))


def test_rung4_notices_a_normalisation_without_its_gradient(monkeypatch):
    small = problem("normalize")
    with monkeypatch.context() as patch:
        patch.setattr(
            towers, "normalized_backward", lambda x_BD, g_BD: g_BD / np.linalg.norm(x_BD, axis=1, keepdims=True)
        )
        wrong = oracle_loss(small)
    fails(small, wrong)
