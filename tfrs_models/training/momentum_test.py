import numpy as np
import pytest
import tensorflow as tf

from tfrs_models.inputs import feature_tensors
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.training.momentum import MovingAverage
from tfrs_models.weights import assign, parameters_by_name

BANK = {"bank": {"num_batches": 2, "momentum": 0.75}}


@pytest.fixture
def build(make_problem):
    def _build(**branches):
        problem = make_problem(negatives=BANK, **branches)
        towers = TwoTower(problem.config, problem.sizes)
        assign(towers, problem.weights)
        average = MovingAverage(problem.config, problem.sizes)
        average.start(parameters_by_name(towers))
        return problem, towers, average

    return _build


def _columns(average, problem):
    batch = problem.batches[0]
    return average.columns(feature_tensors(batch.candidate_features), batch.candidate_rows, batch.log_q)


def test_it_holds_the_candidate_side_and_nothing_else(build):
    problem, _, average = build()
    assert set(average.variables_by_name) == {name for name in problem.table if name.startswith("candidate.")}
    _, _, without = build(model={"candidate_bias": False})
    assert "candidate.bias" not in without.variables_by_name


def test_it_starts_where_the_weights_are_and_encodes_as_they_do(build):
    problem, towers, average = build(candidate={"dropout": 0.5})
    features = feature_tensors(problem.batches[0].candidate_features)
    columns = _columns(average, problem)
    np.testing.assert_array_equal(columns.vectors_ND, towers.encode_candidate(features))
    np.testing.assert_array_equal(columns.bias_N, towers.candidate_bias(features))
    np.testing.assert_array_equal(columns.rows_N, problem.batches[0].candidate_rows)
    np.testing.assert_array_equal(columns.log_q_N, problem.batches[0].log_q)


def test_it_follows_by_hand(build):
    problem, towers, average = build()
    for variable in parameters_by_name(towers).values():
        variable.assign_add(tf.ones_like(variable))
    for share in (0.25, 1 - 0.75**2):
        average.follow(parameters_by_name(towers))
        for name, variable in average.variables_by_name.items():
            np.testing.assert_allclose(variable, problem.weights[name] + share, rtol=1e-5, atol=1e-6)


def test_a_momentum_of_zero_is_the_weights(make_problem):
    problem = make_problem(negatives={"bank": {"num_batches": 2, "momentum": 0.0}})
    average, towers = MovingAverage(problem.config, problem.sizes), TwoTower(problem.config, problem.sizes)
    assign(towers, problem.weights)
    average.follow(parameters_by_name(towers))
    for name, variable in average.variables_by_name.items():
        np.testing.assert_array_equal(variable, problem.weights[name])


def test_it_is_not_trained(build):
    problem, _, average = build()
    with tf.GradientTape() as tape:
        columns = _columns(average, problem)
    assert average.columns is not None and columns.vectors_ND.shape == (6, 4)
    assert all(gradient is None for gradient in tape.gradient(columns.bias_N, [average._bias_table]))


def test_without_a_bias(build):
    problem, _, average = build(model={"candidate_bias": False})
    assert _columns(average, problem).bias_N is None
