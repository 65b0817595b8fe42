"""Rung 3: features, layers, towers and logits of both stacks and of the oracle."""

from dataclasses import replace

import numpy as np
import pytest

import tfrs_models.callables
import torch_reference.callables
from parity_tests.cases import CASES
from parity_tests.comparing import assert_same
from parity_tests.corners import oracle_forward, tf_forward, torch_forward
from parity_tests.oracles import layers, lists, negatives
from parity_tests.oracles import model as oracle
from parity_tests.oracles.activations import activate
from parity_tests.problems import problem, with_log_q, with_settings
from parity_tests.tolerances import rule


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_vectors_and_logits(case, dtype):
    small = problem(case)
    assert_same(tf_forward(small, dtype), torch_forward(small, dtype), oracle_forward(small), rule("forward", dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_empty_history_and_zero_vectors(dtype):
    """A tower of histories alone, normalised: an empty history is the zero vector, which stays zero."""
    small = with_settings(problem("history"), "model", normalize=True)
    tf, torch, truth = tf_forward(small, dtype), torch_forward(small, dtype), oracle_forward(small)
    assert (~truth["query"].any(axis=1)).tolist() == [False, False, False, True, False, False]
    assert_same(tf, torch, truth, rule("forward", dtype))


@pytest.mark.parametrize("side", ["query", "candidate"])
@pytest.mark.parametrize("case", CASES)
def test_served_vectors(case, side):
    """What leaves the stacks is float64 rounded once, the candidate bias in the last dimension."""
    small = problem(case)
    features = small.batch.query_features if side == "query" else small.batch.candidate_features
    arrays = []
    for callables in (tfrs_models.callables, torch_reference.callables):
        encoders = callables.TwoTowerEncoders(small.config, small.sizes, small.weights, device="cpu")
        encode = encoders.encode_queries if side == "query" else encoders.encode_candidates
        arrays.append(encode(features))
        assert arrays[-1].dtype == np.float32
        assert arrays[-1].shape[1] == small.config.vector_dim
    truth = oracle.served_vectors(side, small.config, small.weights, features)
    assert_same(*arrays, truth, rule("encoders", "float32"))


def fails(small, wrong):
    """The comparison notices `wrong` in the place of either stack, in both dtypes."""
    for dtype in ("float64", "float32"):
        tf, torch, truth = tf_forward(small, dtype), torch_forward(small, dtype), oracle_forward(small)
        assert_same(tf, torch, truth, rule("forward", dtype))
        for corners in ((wrong, torch, truth), (tf, wrong, truth)):
            with pytest.raises(AssertionError):
                assert_same(*corners, rule("forward", dtype))


def test_rung3_notices_a_dropped_transpose():
    small = problem("hidden_relu")
    kernel = small.weights["query.dense.0.kernel"]
    fails(small, oracle_forward(replace(small, weights=small.weights | {"query.dense.0.kernel": kernel.T.copy()})))


def test_rung3_notices_unmasked_padding(monkeypatch):
    small = problem("history")
    with monkeypatch.context() as patch:
        patch.setattr(lists, "is_value", lambda rows: np.ones(rows.shape, bool))
        wrong = oracle_forward(small)
    fails(small, wrong)


def test_rung3_notices_a_sum_for_a_mean(monkeypatch):
    small = problem("multivalent")
    with monkeypatch.context() as patch:
        patch.setattr(lists, "divisor", lambda _, __: 1.0)
        wrong = oracle_forward(small)
    fails(small, wrong)


def test_rung3_notices_the_other_gelu(monkeypatch):
    def tanh_form(_, x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    small = problem("hidden_gelu")
    with monkeypatch.context() as patch:
        patch.setattr(layers, "activate", tanh_form)
        wrong = oracle_forward(small)
    fails(small, wrong)


def test_rung3_notices_an_activation_on_the_last_layer():
    small = problem("hidden_silu")
    truth = oracle_forward(small)
    fails(small, truth | {"query": activate("silu", truth["query"])})


def test_rung3_notices_a_dropped_log_q():
    small = problem("plain")
    fails(small, oracle_forward(replace(small, batch=with_log_q(small.batch, 0 * small.batch.log_q))))


def test_rung3_notices_the_wrong_sign_of_log_q():
    small = problem("plain")
    fails(small, oracle_forward(replace(small, batch=with_log_q(small.batch, -small.batch.log_q))))


def test_rung3_notices_log_q_divided_by_the_temperature():
    small = problem("temperature")
    fails(small, oracle_forward(replace(small, batch=with_log_q(small.batch, small.batch.log_q / 0.2))))


def test_rung3_notices_a_bias_divided_by_the_temperature():
    small = problem("candidate_bias")
    weights = small.weights | {"candidate.bias": small.weights["candidate.bias"] / 0.5}
    truth = oracle_forward(replace(small, weights=weights))
    fails(small, truth | {"bias": oracle_forward(small)["bias"]})


def test_rung3_notices_accidental_hits_by_vocabulary_row():
    """Two candidates that share the unknown row are not the same candidate."""
    small = problem("plain")
    rows = small.batch.candidate_features["candidate_id"]
    fails(small, oracle_forward(replace(small, batch=replace(small.batch, candidate_rows=rows))))


def test_rung3_notices_a_masked_positive(monkeypatch):
    small = problem("plain")

    with monkeypatch.context() as patch:
        patch.setattr(negatives, "but_the_positive", lambda out_BN, _: out_BN)
        wrong = oracle_forward(small)
    fails(small, wrong)


def test_rung3_notices_a_bias_served_with_the_temperature_it_started_from():
    small = problem("learned_temperature")
    features = small.batch.candidate_features
    truth = oracle.served_vectors("candidate", small.config, small.weights, features)
    fixed = with_settings(small, "loss", learn_temperature=False).config
    wrong = oracle.served_vectors("candidate", fixed, small.weights, features)
    with pytest.raises(AssertionError):
        assert_same(wrong.astype(np.float32), truth.astype(np.float32), truth, rule("encoders", "float32"))
