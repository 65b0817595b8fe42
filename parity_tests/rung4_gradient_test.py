"""Rung 4: the loss, and its gradient with respect to every parameter by canonical name, in three corners."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.cases import CASES, DRAWN
from parity_tests.corners import oracle_loss, tf_loss, torch_loss
from parity_tests.judging import DTYPES, assert_agree, assert_noticed
from parity_tests.oracles import columns, layers, lists
from parity_tests.planted_batches import WEIGHTS
from parity_tests.problems import problem, with_log_q, with_settings

MATRIX = [
    *((case, "varied") for case in CASES),
    *((case, "some_zero") for case in ("plain", "candidate_bias", "everything")),
    *((case, "all_zero") for case in ("plain", "everything")),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "weights"), MATRIX)
def test_loss_and_gradients(case, weights, dtype):
    loss, _ = assert_agree(problem(case, weights=weights), dtype)
    assert np.isfinite(loss)


@pytest.mark.parametrize("number", range(len(DRAWN)))
def test_drawn_configurations(number):
    """Options combined at random, with a batch of the number's own, in float64."""
    small = problem(f"drawn_{number}", weights=list(WEIGHTS)[number % 2], seed=number)
    loss, _ = assert_agree(small, "float64")
    assert np.isfinite(loss)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_have_the_asked_dtype_and_the_canonical_shape(dtype):
    small = problem("everything")
    for _, gradients in (tf_loss(small, dtype), torch_loss(small, dtype)):
        assert {name: gradient.shape for name, gradient in gradients.items()} == {
            name: parameter.shape for name, parameter in small.table.items()
        }
        assert {gradient.dtype.name for gradient in gradients.values()} == {dtype}


def test_the_zero_vector_normalised_has_the_gradient_of_its_definition():
    """An empty history alone is the zero vector: x / 1e-12, so 1e12 times the gradient, and none to padding."""
    assert_agree(with_settings(problem("history"), "model", normalize=True), "float64")


def test_every_column_but_the_positive_masked_leaves_loss_zero():
    small = problem("plain")
    small = replace(small, batch=replace(small.batch, candidate_rows=np.zeros(6, np.int32)))
    for dtype in DTYPES:
        loss, _ = assert_agree(small, dtype)
        assert loss == 0


def test_rung4_notices_a_dropped_transpose():
    small = problem("hidden_relu")
    loss, gradients = oracle_loss(small)
    assert_noticed(small, (loss, gradients | {"query.dense.0.kernel": gradients["query.dense.0.kernel"].T}))


def test_rung4_notices_a_dropped_log_q():
    small = problem("plain")
    assert_noticed(small, oracle_loss(replace(small, batch=with_log_q(small.batch, 0 * small.batch.log_q))))


def test_rung4_notices_the_wrong_sign_of_log_q():
    small = problem("plain")
    assert_noticed(small, oracle_loss(replace(small, batch=with_log_q(small.batch, -small.batch.log_q))))


def test_rung4_notices_log_q_divided_by_the_temperature():
    small = problem("temperature")
    assert_noticed(small, oracle_loss(replace(small, batch=with_log_q(small.batch, small.batch.log_q / 0.2))))


def test_rung4_notices_a_sum_for_a_mean():
    small = problem("plain")
    loss, gradients = oracle_loss(small)
    total = small.batch.weights.sum()
    assert_noticed(small, (loss * total, {name: gradient * total for name, gradient in gradients.items()}))


def test_rung4_notices_a_mean_over_rows_for_one_over_weights():
    small = problem("plain")
    loss, gradients = oracle_loss(small)
    share = small.batch.weights.sum() / len(small.batch.weights)
    assert_noticed(small, (loss * share, {name: gradient * share for name, gradient in gradients.items()}))


def test_rung4_notices_positives_off_by_one(monkeypatch):
    small = problem("no_log_q")
    with monkeypatch.context() as patch:
        patch.setattr(columns, "positive_columns", lambda *_: (np.arange(6) + 1) % 6)
        wrong = oracle_loss(with_settings(small, "loss", remove_accidental_hits=False))
    assert_noticed(small, wrong)


def test_rung4_notices_unmasked_padding(monkeypatch):
    small = problem("history")
    with monkeypatch.context() as patch:
        patch.setattr(lists, "is_value", lambda rows: np.ones(rows.shape, bool))
        wrong = oracle_loss(small)
    assert_noticed(small, wrong)


def test_rung4_notices_kept_accidental_hits():
    small = problem("plain")
    assert_noticed(small, oracle_loss(with_settings(small, "loss", remove_accidental_hits=False)))


def test_rung4_notices_a_row_looked_up_twice_and_counted_once():
    small = problem("plain")
    loss, gradients = oracle_loss(small)
    halved = gradients["query.embedding.query_id"].copy()
    halved[4] /= 2
    assert_noticed(small, (loss, gradients | {"query.embedding.query_id": halved}))


def test_rung4_notices_a_normalisation_without_its_gradient(monkeypatch):
    small = problem("normalize")
    with monkeypatch.context() as patch:
        patch.setattr(
            layers, "normalized_backward", lambda x_BD, g_BD: g_BD / np.linalg.norm(x_BD, axis=1, keepdims=True)
        )
        wrong = oracle_loss(small)
    assert_noticed(small, wrong)
