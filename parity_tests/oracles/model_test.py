import math

import numpy as np
import pytest
from scipy.special import logsumexp

from parity_tests.comparing import assert_same
from parity_tests.oracles import model, softmax
from parity_tests.problems import CASES, DRAWN, problem
from parity_tests.tolerances import rule

STEP = 1e-5
LOSS = rule("loss", "float64")


MATRIX = [(case, weights) for case in CASES for weights in ("varied", "some_zero", "all_zero")]
MATRIX += [(case, "varied") for case in DRAWN]


@pytest.mark.parametrize(("case", "weights"), MATRIX)
def test_gradient_is_the_central_difference(case, weights):
    small = problem(case, weights=weights)
    start = {name: array.astype(np.float64) for name, array in small.weights.items()}
    _, gradients = model.loss_and_gradients(small.config, start, small.batch)
    differences = {name: np.zeros_like(array) for name, array in start.items()}
    for name, array in start.items():
        for place in np.ndindex(array.shape):
            losses = []
            for sign in (1, -1):
                moved = array.copy()
                moved[place] += sign * STEP
                losses.append(model.loss_and_gradients(small.config, start | {name: moved}, small.batch)[0])
            differences[name][place] = (losses[0] - losses[1]) / (2 * STEP)
    assert_same(gradients, gradients, differences, rule("central_difference", "float64"))


def test_padding_row_has_no_gradient():
    small = problem("everything")
    _, gradients = model.loss_and_gradients(small.config, small.weights, small.batch)
    for name, gradient in gradients.items():
        if ".embedding." in name:
            assert not gradient[0].any(), name
        assert gradient.any(), name


def test_loss_to_digits():
    logits = np.array([[0.0, math.log(3.0)], [-np.inf, 5.0]])
    loss, gradient = softmax.softmax_cross_entropy(logits, np.array([1.0, 3.0]))
    assert_same(loss, loss, math.log(4.0) / 4, LOSS)
    assert_same(gradient, gradient, [[-0.1875, 0.1875], [0.0, 0.0]], LOSS)


def test_loss_is_the_weighted_mean_of_logsumexp_minus_positive():
    generator = np.random.default_rng(1)
    logits, weights = generator.standard_normal((5, 5)) * 50, generator.random(5)
    wanted = (weights * (logsumexp(logits, axis=1) - np.diag(logits))).sum() / weights.sum()
    loss, _ = softmax.softmax_cross_entropy(logits, weights)
    assert_same(loss, loss, wanted, LOSS)


def test_weights_all_zero_give_zero():
    loss, gradient = softmax.softmax_cross_entropy(np.ones((2, 2)), np.zeros(2))
    assert loss == 0
    assert not gradient.any()


def test_accidental_hits_are_the_other_columns_of_the_same_candidate():
    logits = softmax.without_accidental_hits(np.zeros((4, 4)), np.array([7, 2, 7, 7]))
    wanted = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0]], bool)
    assert np.array_equal(np.isneginf(logits), wanted)


def test_logits_in_order():
    query, candidates = np.array([[2.0, 0.0]]), np.array([[3.0, 1.0], [1.0, 9.0]])
    bias, log_q = np.array([1.0, -1.0]), np.array([-2.0, 0.25])
    logits = softmax.in_batch_logits(query, candidates, temperature=0.5, bias_N=bias, log_q_N=log_q)
    assert_same(logits, logits, [[15.0, 2.75]], LOSS)


def test_served_scores_rank_as_the_uncorrected_logits():
    small = problem("everything")
    query = model.served_vectors("query", small.config, small.weights, small.batch.query_features)
    candidate = model.served_vectors("candidate", small.config, small.weights, small.batch.candidate_features)
    config = small.config.model_copy(
        update={"loss": small.config.loss.model_copy(update={"remove_accidental_hits": False})}
    )
    _, _, logits = model.forward(config, small.weights, small.batch)
    wanted = (logits + small.batch.log_q) * config.loss.temperature
    assert_same(query @ candidate.T, query @ candidate.T, wanted, rule("forward", "float64"))


def test_looked_up_rows_are_distinct_and_span_the_batches():
    small = problem("everything")
    rows = model.looked_up_rows(small.config, [small.batch, small.batch])
    assert rows["candidate.bias"].tolist() == [1, 3, 5]
    assert rows["query.embedding.query_id"].tolist() == [1, 2, 3, 4]
    assert rows["query.embedding.history"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert set(rows) == {name for name, entry in small.table.items() if entry.sparse}
